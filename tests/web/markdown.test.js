/**
 * Each case is rendered whole and character by character: both must come to the same tree, on the way settled blocks
 * must stay the same objects, and no character of the text may get lost.
 */

import assert from "node:assert/strict"
import { test } from "node:test"

import * as marked from "../../web/node_modules/marked/lib/marked.esm.js"
import { createMarkdown, createPlain } from "../../web/markdown.js"
import { textOf } from "../../web/tokens.js"

const markdown = createMarkdown(marked)

/** Feed in pieces of `size` characters and look after each. */
function streamed(source, size = 1) {
  const stream = markdown.stream()
  const settled = []
  for (let start = 0; start < source.length; start += size) {
    stream.push(source.slice(start, start + size))
    const blocks = stream.blocks()
    settled.forEach((block, index) => source.includes("]:") || assert.equal(blocks[index], block, "a settled block was replaced"))
    settled.push(...blocks.slice(settled.length, stream.settledCount()))
  }
  return stream.blocks(true)
}

/** The tree as short text: `<p>one <strong>two</strong></p>`. */
function show(tree) {
  if (typeof tree === "string") return tree
  const attrs = Object.entries(tree.attrs)
    .filter(([name]) => !["target", "rel", "role", "tabindex", "aria-label", "dir"].includes(name))
    .map(([name, value]) => ` ${name}="${value}"`)
  return `<${tree.tag}${attrs.join("")}>${tree.children.map(show).join("")}</${tree.tag}>`
}

const CASES = {
  paragraphs: ["one\n\ntwo **three** _four_ ~~five~~ `six`", "<p>one</p><p>two <strong>three</strong> <em>four</em> <del>five</del> <code>six</code></p>"],
  "a line break": ["a\nb", "<p>a<br></br>b</p>"],
  headings: ["# a\n## b\nc\n===", '<h3 class="depth-1">a</h3><h4 class="depth-2">b</h4><h3 class="depth-1">c</h3>'],
  "a rule is not a heading": ["a\n\n---\n\nb", "<p>a</p><hr></hr><p>b</p>"],
  "a tight list": ["- a\n- b\n  - c\n", "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>"],
  "a loose list": ["1. a\n\n2. b\n\n   more\n\nc", "<ol><li><p>a</p></li><li><p>b</p><p>more</p></li></ol><p>c</p>"],
  "a list that starts at three": ["3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'],
  tasks: ["- [x] a\n- [ ] b", '<ul><li><span class="task">☑</span>a</li><li><span class="task">☐</span>b</li></ul>'],
  "a fence": ["a\n```py\nx = 1\n\ny\n```\nb", '<p>a</p><code-block info="py">x = 1\n\ny</code-block><p>b</p>'],
  "a fence that stays open": ["```\na\n``", '<code-block info="">a\n``</code-block>'],
  "a fence in a list": ["- a\n  ```js\n  x\n  ```\n- b", '<ul><li>a<code-block info="js">x</code-block></li><li>b</li></ul>'],
  "fences of four hold those of three": ["````\n```\nx\n```\n````\nb", '<code-block info="">```\nx\n```</code-block><p>b</p>'],
  "indented code": ["a\n\n    x\n\n    y\n\nb", '<p>a</p><code-block info="">x\n\ny</code-block><p>b</p>'],
  "a quote": ["> a\n> b\n\n> c", "<blockquote><p>a<br></br>b</p></blockquote><blockquote><p>c</p></blockquote>"],
  "a table": [
    "| a | b |\n|:--|--:|\n| 1 | `2` |\n",
    '<div class="table"><table><thead><tr><th class="align-left">a</th><th class="align-right">b</th></tr></thead><tbody><tr><td class="align-left">1</td><td class="align-right"><code>2</code></td></tr></tbody></table></div>',
  ],
  "a table's line break": ["| a |\n|---|\n| 1<br>2 |", '<div class="table"><table><thead><tr><th>a</th></tr></thead><tbody><tr><td>1<br></br>2</td></tr></tbody></table></div>'],
  "a row longer than its header": [
    "| a |\n|---|\n| 1 | 2 |\n| 3 |",
    '<div class="table"><table><thead><tr><th>a</th><th></th></tr></thead><tbody><tr><td>1</td><td>2</td></tr><tr><td>3</td><td></td></tr></tbody></table></div>',
  ],
  "a link shows its host": ["[here](https://e.org/x?y=1)", '<p><a href="https://e.org/x?y=1">here<span class="host">e.org</span></a></p>'],
  "a link that names its host": ["<https://e.org/x> www.e.org", '<p><a href="https://e.org/x">https://e.org/x</a> <a href="http://www.e.org/">www.e.org</a></p>'],
  "a link that names another host": [
    "[https://good.com](https://evil.com) [evil.com.good.com](https://evil.com)",
    '<p><a href="https://evil.com/">https://good.com<span class="host">evil.com</span></a> <a href="https://evil.com/">evil.com.good.com<span class="host">evil.com</span></a></p>',
  ],
  "a link with a user name": ["[x](https://good.com@evil.com/)", '<p><a href="https://good.com@evil.com/">x<span class="host">evil.com</span></a></p>'],
  "a mail address": ["[write](mailto:a@e.org)", '<p><a href="mailto:a@e.org">write<span class="host">a@e.org</span></a></p>'],
  "an image": ["![a *cat*](https://i.org/c.png)", '<p><image-card href="https://i.org/c.png" host="i.org" alt="a cat">Image from i.org: a cat</image-card></p>'],
  "an image in the answer itself": ["![a dot](data:image/png;base64,iVBORw0=)", '<p><img class="picture" src="data:image/png;base64,iVBORw0=" alt="a dot"></img></p>'],
  "an image that is a document": ["![a](data:image/svg+xml;base64,PHN2Zz4=)", "<p>a (data:image/svg+xml;base64,PHN2Zz4=)</p>"],
  "an image in a link": ["[![a](https://i.org/c.png)](https://e.org)", '<p><a href="https://e.org/">Image from i.org: a<span class="host">e.org</span></a></p>'],
  "a definition after its use": [
    "see [one] and [two][2]\n\nmore\n\n[one]: https://a.org\n[2]: https://b.org 'B'\n",
    '<p>see <a href="https://a.org/">one<span class="host">a.org</span></a> and <a href="https://b.org/" title="B">two<span class="host">b.org</span></a></p><p>more</p>' +
      '<p class="definition">[one]: <a href="https://a.org/">https://a.org</a></p><p class="definition">[2]: <a href="https://b.org/">https://b.org</a> "B"</p>',
  ],
  "a definition that turns out to be a sentence": ["see [1]\n\nx\n\n[1]: word and more", "<p>see [1]</p><p>x</p><p>[1]: word and more</p>"],
  "a note that looks like a definition": ["a[^1]\n\n[^1]: Word", '<p>a^1 (Word)</p><p class="definition">[^1]: Word</p>'],
  references: ["&lt;b&gt; &amp;amp; &#65;&#x42; &nope; &copy;", "<p><b> &amp; AB &nope; ©</p>"],
  "references in code": ["`&lt;`\n\n```\n&lt;\n```", '<p><code>&lt;</code></p><code-block info="">&lt;</code-block>'],
  "html in a line": ["a <b onclick=alert(1)>c</b> <img src=x onerror=alert(1)>", "<p>a <b onclick=alert(1)>c</b> <img src=x onerror=alert(1)></p>"],
  "html as a block": ["<div>\n*a*\n</div>\n\nb", '<div class="raw"><div>\n*a*\n</div></div><p>b</p>'],
  "a script": ["<script>\nalert(1)\n\n</script>\n\nb", '<div class="raw"><script>\nalert(1)\n\n</script></div><p>b</p>'],
  "a comment": ["<!-- a -->\n\nb <!-- c -->", '<div class="raw"><!-- a --></div><p>b <!-- c --></p>'],
  "an open tag and a later address": ["a <a href=x>\n\nhttps://e.org", '<p>a <a href=x></p><p><a href="https://e.org/">https://e.org</a></p>'],
  "carriage returns": ["a\r\n\r\nb\rc", "<p>a</p><p>b<br></br>c</p>"],
  "escapes": ["\\*a\\* \\<b>", "<p>*a* <b></p>"],
}

for (const [name, [source, expected]] of Object.entries(CASES)) {
  test(`${name}: whole`, () => {
    assert.equal(markdown.render(source).map(show).join(""), expected)
  })

  test(`${name}: by characters`, () => {
    assert.deepEqual(streamed(source), markdown.render(source))
  })
}

/** Every way in which a link has been made to run a script somewhere. */
const HOSTILE_ADDRESSES = [
  "javascript:alert(1)",
  "JaVaScRiPt:alert(1)",
  "&#106;avascript:alert(1)",
  "&#x6A;avascript:alert(1)",
  "javascript&colon;alert(1)",
  "javascript&#58;alert(1)",
  "java&Tab;script:alert(1)",
  "java&NewLine;script:alert(1)",
  "java&#10;script:alert(1)",
  "&#1;javascript:alert(1)",
  "\u0001javascript:alert(1)",
  "<java\tscript:alert(1)>",
  "< javascript:alert(1)>",
  "vbscript:msgbox(1)",
  "data:text/html,<script>alert(1)</script>",
  "data:text/html;base64,PHNjcmlwdD4=",
  "blob:https://e.org/1",
  "file:///etc/passwd",
  "view-source:javascript:alert(1)",
  "feed:javascript:alert(1)",
  "//evil.com/x",
  "/api/conversations",
  "javascript\\:alert(1)",
]

/** @param {any} tree @returns {any[]} */
const elements = (tree) => (typeof tree === "string" ? [] : [tree, ...tree.children.flatMap(elements)])

for (const address of HOSTILE_ADDRESSES) {
  test(`no link leads to ${JSON.stringify(address)}`, () => {
    const sources = [`[x](${address})`, `![x](${address})`, `[x][1]\n\n[1]: ${address}\n`, `<${address}>`, `[x](${address} "t")`, `[![x](${address})](${address})`, address]
    for (const source of sources) {
      for (const { tag, attrs } of markdown.render(source).flatMap(elements)) {
        assert.match(attrs.href ?? "https:", /^(https?|mailto):/, source)
        assert.notEqual(tag, "img", source)
      }
    }
  })
}

test("an image in the answer itself that is too large is text", () => {
  const source = `![a](data:image/png;base64,${"A".repeat(4_000_000)})`
  assert.deepEqual(markdown.render(source).flatMap(elements).map(({ tag }) => tag), ["p"])
})

test("only the elements and attributes of the table are ever made", () => {
  const tags = new Set("p h3 h4 h5 h6 hr blockquote code-block image-card div ul ol li table thead tbody tr th td strong em del code br a span img".split(" "))
  const names = new Set("href target rel class title info start role tabindex aria-label dir host alt src".split(" "))
  const sources = [...Object.values(CASES).map(([source]) => source), "<svg onload=alert(1)>", "<iframe srcdoc=x>", "<style>*{}</style>", "<math><mi xlink:href=x>"]
  for (const { tag, attrs } of sources.flatMap((source) => markdown.render(source)).flatMap(elements)) {
    assert.ok(tags.has(tag), tag)
    for (const name of Object.keys(attrs)) assert.ok(names.has(name), name)
  }
})

test("every character of hostile and odd text stays visible", () => {
  const texts = [
    "<script>alert('1')</script>", "<b>bold</b>", "a < b && c > d", "<think>hm</think>", "<T extends U>", "List<String> x", "<!DOCTYPE html>", "<![CDATA[x]]>", "<?php echo 1 ?>",
    "<details><summary>a</summary>b</details>", "x <- y", "if (a<b) c", "<unclosed", "</closing>", "<a href=\"javascript:alert(1)\">x</a>", "&notareference;", "5 % 3", "\u202eabc", "\u200bx", "<img src=x onerror=alert(1)>",
  ]
  for (const text of texts) {
    assert.equal(markdown.render(text).map(textOf).join(""), text)
    assert.equal(markdown.render(`- ${text}`).map(textOf).join(""), text)
    assert.equal(markdown.render(`\`${text}\``).map(textOf).join(""), text)
    assert.equal(markdown.render(`\`\`\`\n${text}\n\`\`\``).map(textOf).join(""), text)
  }
})

/** Headings of an answer, and the levels they get below the message's own, which is 2. */
const OUTLINES = {
  "# a\n## b\n# c": [3, 4, 3],
  "## a\n### b\n#### c\n## d": [3, 4, 5, 3],
  "#### a\n\nx\n\n## b\n###### c\n### d": [3, 3, 4, 4],
  "# a\n> ## b\n\n- # c\n\n# d": [3, 4, 3, 3],
  "# a\n## b\n### c\n#### d\n##### e": [3, 4, 5, 6, 6],
  "see [x]\n\n# a\n\n## b [x]\n\nc\n\n[x]: https://e.org\n\n## d": [3, 4, 4],
}

for (const [source, levels] of Object.entries(OUTLINES)) {
  test(`headings leave out no level: ${JSON.stringify(source)}`, () => {
    const found = (trees) => trees.flatMap(elements).filter(({ tag }) => /^h\d$/.test(tag)).map(({ tag }) => Number(tag[1]))
    assert.deepEqual(found(markdown.render(source)), levels)
    assert.deepEqual(found(streamed(source)), levels)
  })
}

test("each block goes the way of its own letters, code always from left to right", () => {
  const source = "# a\n\nb `c`\n\n- d\n\n> e\n\n| f |\n|---|\n\n```\ng\n```\n\n$$\nh\n$$\n"
  const blocks = markdown.render(source)
  assert.deepEqual(blocks.map(({ tag, attrs }) => `${tag} ${attrs.dir}`), ["h3 auto", "p auto", "ul auto", "blockquote auto", "div auto", "code-block undefined", "tex-formula ltr"])
  assert.equal(blocks[1].children[1].attrs.dir, "ltr")
})

test("what a stream shows on the way is without half marks", () => {
  const emphasis = { "a *b": "<p>a <em>b</em></p>", "a **b ": "<p>a <strong>b</strong></p>", "a **": "<p>a </p>", "a **b*": "<p>a <strong>b</strong></p>", "a **b *c": "<p>a <strong>b <em>c</em></strong></p>", "**`a` b": "<p><strong><code>a</code> b</strong></p>", "**`a": "<p><strong><code>a</code></strong></p>", "2*3": "<p>2*3</p>", "a * b": "<p>a * b</p>", "*.py": "<p>*.py</p>", "~~a": "<p><del>a</del></p>", "\\*a": "<p>*a</p>", "\u7684**a": "<p>\u7684<strong>a</strong></p>" }
  const steps = { ...emphasis, "``": "", "```": "", "a\n-": "<p>a</p>", "a\n--": "<p>a</p>", "a [b](http": "<p>a </p>", "a **b": "<p>a <strong>b</strong></p>", "a `b": "<p>a <code>b</code></p>", "1": "", "1.": "" }
  for (const [source, expected] of Object.entries(steps)) {
    const stream = markdown.stream()
    stream.push(source)
    assert.equal(stream.blocks().map(show).join("").replace("<br></br></p>", "</p>"), expected, source)
  }
})

test("random texts come to the same tree however they are cut", () => {
  const bits = ["a", "foo", "\n", "\n", "\n\n", "- ", "1. ", "2", "  ", "    ", "\t", "> ", "# ", "```", "```py\n", "~~~", "`", "**", "*", "_", "[", "]", "(", ")", "[1]", "[1]: http://d.org", "[f]", "[f]: http://f.org \"t\"\n", "| a | b |", "|---|---|", "<div>", "</div>", "<a>", "http://u.net", "<!--", "-->", "---", "- [ ] ", "&amp;", "\\", "![i](http://p.com/q)", "<script>", "é", "😀", "\r\n", "-"]
  let seed = 20
  const random = (/** @type {number} */ below) => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % below
  for (let round = 0; round < 1500; round++) {
    const source = Array.from({ length: 3 + random(20) }, () => bits[random(bits.length)]).join("")
    assert.deepEqual(streamed(source, 1 + random(3)), markdown.render(source), JSON.stringify(source))
  }
})

/** Lists whose first items are not read again: at each item they must look as they do at once. */
const LISTS = {
  tight: (n) => `- item **${n}**\n  - nested\n`,
  loose: (n) => `${n}. item\n\n   more of it\n   \`\`\`js\n   let x\n   \`\`\`\n\n`,
  "with headings": (n) => `- ${"#".repeat(1 + (n % 3))} item\n`,
  "with formulas": (n) => `* a $x_${n}$\n  $$\n  y_${n}\n  $$\n`,
}

for (const [name, item] of Object.entries(LISTS)) {
  test(`a long list is shown as it is at once while it is written: ${name}`, () => {
    const stream = markdown.stream()
    const above = "# a\n\n## b\n\n"
    stream.push(above)
    let source = above
    for (let number = 1; number <= 12; number++) {
      for (const character of item(number)) {
        stream.push(character)
        stream.blocks()
      }
      source += item(number)
      assert.deepEqual(stream.blocks(), markdown.render(source), `item ${number}`)
    }
    const kept = stream.blocks().at(-1).children[0]
    stream.push(item(13))
    assert.equal(stream.blocks().at(-1).children[0], kept, "an item that is done is not made again")
    stream.push("\nThe end.\n\n> a")
    assert.deepEqual(stream.blocks(), markdown.render(`${source}${item(13)}\nThe end.\n\n> a`))
  })
}

test("a tight list that becomes loose is so from its first item", () => {
  const stream = markdown.stream()
  const source = "- a\n".repeat(9)
  for (const piece of [...source, "\n", "- b\n", "- c\n"]) {
    stream.push(piece)
    stream.blocks()
  }
  assert.equal(show(stream.blocks()[0].children[0]), "<li><p>a</p></li>")
})

test("a long answer is not lexed again for every piece", () => {
  let lexed = 0
  class Counting extends marked.Lexer {
    lex(source) {
      lexed += source.length
      return super.lex(source)
    }
  }
  const counting = createMarkdown({ ...marked, Lexer: Counting })
  const block = "Some **text** with a [link](https://e.org).\n\n```js\nlet x = 1\n```\n\n- a\n- b\n\n"
  const cost = (/** @type {string} */ source) => {
    lexed = 0
    const stream = counting.stream()
    for (let start = 0; start < source.length; start += 8) {
      stream.push(source.slice(start, start + 8))
      stream.blocks()
    }
    return lexed
  }
  for (const unit of [block, "word ", "| a | b |\n"]) {
    const [half, whole] = [cost(unit.repeat(16384 / unit.length)), cost(unit.repeat(32768 / unit.length))]
    assert.ok(whole <= 2.5 * half, `${JSON.stringify(unit)}: ${whole} after ${half}`)
  }
  const list = "- item of a list\n".repeat(1500)
  assert.ok(cost(list) < 20 * list.length, "only what is open of a list")
  assert.ok(cost(`\`\`\`\n${"code\n".repeat(13000)}`) < 1000, "an open fence")
})

test("text that exhausts the lexer is shown as it is", () => {
  const source = `${"> ".repeat(20000)}x`
  assert.deepEqual(markdown.render(source).map(textOf), [source])
})

test("without the library the text is kept, whitespace and all", () => {
  const stream = createPlain().stream()
  stream.push("# a\n\n")
  stream.push("  <b>")
  assert.deepEqual(stream.blocks().map(show), ['<div class="raw"># a\n\n  <b></div>'])
})
