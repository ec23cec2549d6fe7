/** What is a formula and what is money, what a formula may become, and what hostile TeX may cost. */

import assert from "node:assert/strict"
import { test } from "node:test"

import * as marked from "../../web/node_modules/marked/lib/marked.esm.js"
import { createMarkdown } from "../../web/markdown.js"
import { toMath } from "../../web/math.js"
import { textOf } from "../../web/tokens.js"

const markdown = createMarkdown(marked)
const temml = await import(new URL("../../web/node_modules/temml/dist/temml.mjs", import.meta.url).href).then(
  (library) => library.default,
  (error) => {
    if (process.env.CI === "true") throw error
    return null
  },
)
const options = { skip: temml === null && "Temml is not installed: npm ci --prefix web" }

/** @param {any} tree @returns {any[]} */
const elements = (tree) => (typeof tree === "string" ? [] : [tree, ...tree.children.flatMap(elements)])

/** The formulas of a text: their TeX, in brackets where they stand on their own. */
function formulas(trees) {
  const found = trees.flatMap(elements).filter(({ tag }) => tag === "tex-formula")
  return found.map(({ attrs }) => (attrs.display === "block" ? `[${attrs.tex}]` : attrs.tex))
}

/** Feed by characters; returns each state on the way, and the end. */
function streamed(source) {
  const stream = markdown.stream()
  const states = [...source].map((character) => {
    stream.push(character)
    return stream.blocks()
  })
  return { states, end: stream.blocks(true) }
}

const CASES = {
  "a $x^2$ b": ["x^2"],
  "$x$": ["x"],
  "($x$), $y$. $z$-th $n$th": ["x", "y", "z", "n"],
  "\\(a*b\\) and *c* and f\\(x\\)": ["a*b", "x"],
  "*see $a*b$ it*, $a_1$ and $b_1$": ["a*b", "a_1", "b_1"],
  "a $5x + 3$ b": ["5x + 3"],
  "a $\\frac{1}{2}$ and $\\text{\\$5}$": ["\\frac{1}{2}", "\\text{\\$5}"],
  "so $$ x = y $$ is, and $$z$$.": ["[x = y]", "[z]"],
  "$$\nx = y\n$$\nafter": ["[x = y]"],
  "before\n$$x$$\nafter": ["[x]"],
  "before\n\\[\nx_1 * y_2 \\\\[2pt]\nz\n\\]\n\nafter": ["[x_1 * y_2 \\\\[2pt]\nz]"],
  "- a\n  $$\n  x\n  $$\n- b \\(y\\)\n\n> $$z$$\n": ["[x]", "y", "[z]"],
  "1. \\[ x \\]\n2. $$ y $$\n": ["[x]", "[y]"],
  "# about $e$\n\n| $x$ | b |\n|---|---|\n| $5 | $y$ |\n": ["e", "x", "y"],
  "$$\\text{if $a$ then}$$": ["[\\text{if $a$ then}]"],

  "$5 and $10": [],
  "**$5** and **$10**, $5-$10, $5/$6": [],
  "US$5, US$10, A$3 and C$4": [],
  "5$ and 10$, 20$": [],
  "$5 million (or 3$), $1.5k to 2$": [],
  "| $5 | $6 |\n|---|---|\n| $7 | $8 |": [],
  "$HOME/$USER and $PATH:$HOME": [],
  "\\$x$ and $y\\$": [],
  "`$a` and `b$`, $a `b$ c`": [],
  "```\n$x$\n$$y$$\n```\n\n    $$z$$\n": [],
  "$$\na\n\nb\n$$": [],
  "$$\n$$ and $$$$ and $$ $": [],
  "\\[a\\](https://e.org) and \\[1\\]: b": [],
  "<b title=\"$x\">$": [],
}

for (const [source, expected] of Object.entries(CASES)) {
  test(`formulas of ${JSON.stringify(source)}`, () => {
    const whole = markdown.render(source)
    assert.deepEqual(formulas(whole), expected)
    assert.deepEqual(streamed(source).end, whole)
    if (expected.length === 0) return
    // What stands between them is all there, and so is their source.
    const text = whole.map(textOf).join("")
    for (const tex of expected) assert.ok(text.includes(tex.replace(/^\[|\]$/g, "").split("\n")[0]), tex)
  })
}

/** While it is written, half a formula is its source or held back: nothing else is ever taken for one. */
const SOURCES = {
  "$$\nx = \\frac{1}{2}\n$$\nb": "x = \\frac{1}{2}",
  "a\n\\[\nx_1 + y_1\n\\]\n\nb": "x_1 + y_1",
  "a\n\\[ x_1 \\]\n\nb": "x_1",
  "a $x_1 + y_1$ b": "x_1 + y_1",
  "a \\(x_1 + y_1\\) b": "x_1 + y_1",
  "- a\n  $$\n  x_1\n  $$\n- b": "x_1",
  "so $$ x_1 $$ is": "x_1",
}

for (const [source, tex] of Object.entries(SOURCES)) {
  test(`half a formula never flashes: ${JSON.stringify(source)}`, () => {
    for (const trees of streamed(source).states) {
      const found = trees.flatMap(elements)
      for (const { attrs } of found.filter(({ tag }) => tag === "tex-formula")) {
        assert.ok("open" in attrs ? attrs.tex === "" : attrs.tex === tex, JSON.stringify(attrs))
      }
      assert.ok(!found.some(({ tag }) => tag === "em" || tag === "br"), JSON.stringify(trees))
      const text = trees.map(textOf).join("\n")
      assert.doesNotMatch(text, /\\$/, "a backslash that may begin one")
      assert.doesNotMatch(text.replace(`$${tex}$`, ""), /\{\}|(?<!\$)\$[^$\n]*$/, text)
    }
  })
}

test("prices are shown as they arrive", () => {
  const { states } = streamed("It is $5 and $10.")
  assert.deepEqual(states.slice(-5).map((trees) => trees.map(textOf).join("")), ["It is $5 and ", "It is $5 and ", "It is $5 and $1", "It is $5 and $10", "It is $5 and $10."])
})

test("a formula is shown once it is followed by anything that says that it ended", () => {
  for (const source of ["a $x$ bcd", "a \\(x\\)", "$$x$$ is", "$$\nx\n$$\n"]) {
    const { states, end } = streamed(source)
    assert.deepEqual(states.at(-1), end, source)
  }
})

for (const source of ["It is $5-$10.", "from $a-$2 to $x$3", "US$5 (or $6) and $7x, $8", "$5 or 6$ and $7-$8."]) {
  test(`what is shown of a price is not taken back: ${JSON.stringify(source)}`, () => {
    const { states, end } = streamed(source)
    const told = states.map((trees) => trees.map(textOf).join(""))
    for (const [index, text] of told.slice(1).entries()) assert.ok(text.startsWith(told[index]), `${told[index]} then ${text}`)
    assert.equal(end.map(textOf).join(""), source)
  })
}

test("random texts with formulas come to the same tree however they are cut", () => {
  const bits = ["a", " ", "$", "$$", "\\(", "\\)", "\\[", "\\]", "\n", "\n\n", "- ", "> ", "x_1", "*", "**", "`", "5", "\\", "\\$", "| a |\n|---|\n", "# ", "```\n", "{", "}", "[b]", "[b]: http://e.org\n"]
  let seed = 7
  const random = (/** @type {number} */ below) => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % below
  for (let round = 0; round < 1500; round++) {
    const source = Array.from({ length: 3 + random(20) }, () => bits[random(bits.length)]).join("")
    const stream = markdown.stream()
    const size = 1 + random(3)
    const settled = []
    for (let start = 0; start < source.length; start += size) {
      stream.push(source.slice(start, start + size))
      const blocks = stream.blocks()
      if (!source.includes("]:")) settled.forEach((block, index) => assert.equal(blocks[index], block, JSON.stringify(source)))
      settled.push(...blocks.slice(settled.length, stream.settledCount()))
    }
    assert.deepEqual(stream.blocks(true), markdown.render(source), JSON.stringify(source))
  }
})

test("text that is all marks of formulas is read without looking through all of it at each", () => {
  // What the tokenizers were given, up to the first mark that they can end at.
  let read = 0
  class Counting extends marked.Tokenizer {
    inlineText(source) {
      read += source.length
      return super.inlineText(source)
    }
    paragraph(source) {
      read += source.length
      return super.paragraph(source)
    }
  }
  for (const unit of ["$", "$$", "$a ", "$x$ ", "\\[\n", "$$\n"]) {
    const cost = (/** @type {number} */ length) => {
      read = 0
      createMarkdown({ ...marked, Tokenizer: Counting }).render(unit.repeat(length / unit.length))
      return read
    }
    assert.ok(cost(12000) <= 2.5 * cost(6000), unit)
  }
})

// --- Temml -------------------------------------------------------------------------------------------------------------

/** @param {any} tree */
const show = (tree) => (typeof tree === "string" ? tree : `<${tree.tag}>${tree.children.map(show).join("")}</${tree.tag}>`)

test("TeX becomes MathML", options, () => {
  const math = toMath(temml, "\\frac{a}{b}", true)
  assert.equal(show(math), "<math><mfrac><mi>a</mi><mi>b</mi></mfrac></math>")
  assert.equal(math.attrs.display, "block")
  assert.equal(toMath(temml, "a", false).attrs.display, undefined)
})

test("wrong TeX says what is wrong", options, () => {
  assert.throws(() => toMath(temml, "\\frac{1}", false), /expected '}'/)
  assert.throws(() => toMath(temml, "\\nosuchthing", false), /\\nosuchthing/)
})

const HOSTILE = [
  "\\href{javascript:alert(1)}{x}", "\\url{https://evil.example}", "\\includegraphics{https://evil.example/x.png}", "\\includegraphics[alt=a]{x}",
  "\\class{message}{x}", "\\id{composer}{x}", "\\style{position:fixed;inset:0}{x}", "\\data{a=b}{x}", "\\htmlClass{a}{x}", "\\htmlData{a=b}{x}", "\\htmlStyle{a}{x}",
  "\\text{<script>alert(1)</script>}", "\\text{<img src=x onerror=alert(1)>}", "\\ref{x} y", "\\label{composer} x", "\\tag{1} x", "\\color{url(https://evil.example)}x",
  "\\textcolor{red;background:url(//evil)}{x}", "\\fcolorbox{red}{url(//e)}{x}", "\\toggle{a}{b}\\endtoggle", "\\texttip{a}{b}", "\\gdef\\__proto__{x}", "\\gdef\\constructor{x}\\constructor",
  "\\rule{99999em}{99999em}", "\\kern{99999em}x", "\\raisebox{9999em}{x}", "\\begin{array}{ccc}" + "&".repeat(500) + "\\end{array}", "\\unicode{60}script\\unicode{62}", "\\verb|<b>|",
]

test("no formula brings an address, an element or an attribute that maths has no need of", options, () => {
  const tags = new Set()
  const names = new Set()
  for (const tex of HOSTILE) {
    let math
    try {
      math = toMath(temml, tex, true)
    } catch {
      continue
    }
    for (const { tag, attrs, style } of elements(math)) {
      tags.add(tag)
      for (const [name, value] of [...Object.entries(attrs), ...Object.entries(style)]) {
        names.add(name)
        assert.doesNotMatch(value, /url|script|fixed|https?:/, tex)
        assert.ok(!/em$/.test(value) || Math.abs(Number.parseFloat(value)) <= 25, `${tex}: ${value}`)
      }
    }
  }
  for (const tag of ["script", "img", "a", "span", "maction", "annotation", "semantics"]) assert.ok(!tags.has(tag), tag)
  for (const name of ["href", "src", "id", "title", "style", "actiontype", "onclick"]) assert.ok(!names.has(name), name)
  assert.ok(tags.has("math") && tags.has("mtext"))
})

test("of what Temml makes only what maths needs is kept, whatever it made", () => {
  const made = {
    type: "math",
    attributes: { display: "block", href: "javascript:alert(1)", onclick: "x", width: "url(//e)", id: "a" },
    classes: ["tml-display", "message"],
    style: { color: "red", position: "fixed", background: "url(//e)", paddingLeft: "1em" },
    children: [{ type: "script", children: [{ text: "a" }] }, { href: "#b", children: null }, { type: "mi", children: [{ text: "c" }], style: { "math-depth": 0 } }],
  }
  assert.deepEqual(toMath({ __renderToMathMLTree: () => made }, "", false), {
    tag: "math",
    attrs: { display: "block", class: "tml-display" },
    style: { color: "red", paddingLeft: "1em" },
    children: ["a", { tag: "mtext", attrs: {}, style: {}, children: ["b"] }, { tag: "mi", attrs: {}, style: { mathDepth: "0" }, children: ["c"] }],
  })
})

test("hostile TeX is refused before it costs much", options, () => {
  const bombs = {
    endless: "\\def\\a{\\a\\a}\\a",
    exponential: "\\def\\a{\\b\\b\\b\\b}\\def\\b{\\c\\c\\c\\c}\\def\\c{\\d\\d\\d\\d}\\def\\d{\\e\\e\\e\\e}\\def\\e{\\f\\f\\f\\f}\\def\\f{xxxx}\\a\\a\\a",
    deep: `${"\\frac{1}{".repeat(300)}x${"}".repeat(300)}`,
    deeper: `${"{".repeat(3900)}x${"}".repeat(3900)}`,
    long: "x".repeat(8001),
  }
  const reasons = { endless: /expansions/, exponential: /expansions/, deep: /too large/, deeper: /stack/, long: /too long/ }
  for (const [name, tex] of Object.entries(bombs)) assert.throws(() => toMath(temml, tex, false), reasons[name], name)
})

test("a macro of one formula is unknown to the next", options, () => {
  assert.equal(show(toMath(temml, "\\gdef\\mine{y}\\mine", false)), "<math><mi>y</mi></math>")
  assert.throws(() => toMath(temml, "\\mine", false), /\\mine/)
})
