/**
 * Turns marked's tokens into a plain tree, which `patch.js` makes visible and tests compare as a value.
 *
 * No HTML is ever made: what the answer brings as HTML is text here, as is a link whose scheme is not known. An image
 * is a card that names its host, because loading it would tell that host who reads. So no character gets lost.
 */

import { decodeEntities } from "./entities.js"
import { isInlineImage, namesHost, safeLink } from "./links.js"
import { texts } from "./texts.js"

/** @typedef {import("marked").Token} Token */
/** @typedef {import("marked").Tokens.Generic} AnyToken */
/** @typedef {{ tag: string, attrs: Record<string, string>, children: Tree[] }} TreeElement */
/** @typedef {string | TreeElement} Tree */

/**
 * Return the trees of `tokens`, in their order.
 *
 * @param {Token[] | undefined} tokens
 * @param {boolean} [inLink] a link cannot hold another one
 * @returns {Tree[]}
 */
export function toTrees(tokens, inLink = false) {
  return (tokens ?? []).flatMap((token) => {
    const write = WRITERS[token.type] ?? ((/** @type {AnyToken} */ unknown) => [unknown.raw])
    return write(token, inLink)
  })
}

/**
 * Return the text of a tree as the reader sees it.
 *
 * @param {Tree} tree
 * @returns {string}
 */
export function textOf(tree) {
  if (typeof tree === "string") return tree
  return tree.tag === "br" ? "\n" : tree.children.map(textOf).join("")
}

const UNDIRECTED = new Set(["code-block", "tex-formula", "hr"])
const CONTAINERS = new Set(["ul", "ol", "li", "blockquote"])

/**
 * Fit the blocks of an answer into the page, and return them: each is written in the direction of its first letters, and
 * headings are levels below the message's own (h2), none of which is left out.
 *
 * @param {Tree[]} trees new ones
 * @param {number[]} open the depths of the headings that they stand under; those that follow stand under what is left there
 */
export function fit(trees, open) {
  for (const tree of trees) {
    if (typeof tree === "string") continue
    if (!UNDIRECTED.has(tree.tag)) tree.attrs.dir = "auto"
    level(tree, open)
  }
  return trees
}

/** Give the headings in `tree` their levels under those that are `open`. */
/** @param {Tree} tree @param {number[]} open */
export function level(tree, open) {
  if (typeof tree === "string") return
  if (CONTAINERS.has(tree.tag)) return tree.children.forEach((child) => level(child, open))
  const depth = Number(/^depth-(\d)$/.exec(tree.attrs.class ?? "")?.[1])
  if (!depth) return
  while ((open.at(-1) ?? 0) >= depth) open.pop()
  open.push(depth)
  tree.tag = `h${Math.min(open.length + 2, 6)}`
}

/**
 * @param {string} tag
 * @param {Record<string, string>} attrs
 * @param {Tree[]} children
 * @returns {TreeElement}
 */
export function element(tag, attrs, children) {
  return { tag, attrs, children }
}

/** @type {Record<string, (token: AnyToken, inLink: boolean) => Tree[]>} */
const WRITERS = {
  space: () => [],
  paragraph: (token, inLink) => [element("p", {}, toTrees(token.tokens, inLink))],
  heading: (token, inLink) => [element(`h${token.depth}`, { class: `depth-${token.depth}` }, toTrees(token.tokens, inLink))],
  hr: () => [element("hr", {}, [])],
  blockquote: (token, inLink) => [element("blockquote", {}, toTrees(token.tokens, inLink))],
  code: (token) => [codeBlock(token.lang ?? "", token.text)],
  html: (token) => (token.block ? [element("div", { class: "raw" }, [token.text.replace(/\n+$/, "")])] : [token.text]),
  def: (token) => [element("p", { class: "definition" }, definition(token))],
  list: (token, inLink) => [list(token, inLink)],
  table: (token) => [table(token)],
  formula: (token) => [formula(token)],

  text: (token, inLink) => (token.tokens ? toTrees(token.tokens, inLink) : [decodeEntities(token.raw)]),
  escape: (token) => [token.text],
  strong: (token, inLink) => [element("strong", {}, toTrees(token.tokens, inLink))],
  em: (token, inLink) => [element("em", {}, toTrees(token.tokens, inLink))],
  del: (token, inLink) => [element("del", {}, toTrees(token.tokens, inLink))],
  // A direction of its own, so that it decides none.
  codespan: (token) => [element("code", { dir: "ltr" }, [token.text])],
  br: () => [element("br", {}, [])],
  checkbox: (token) => [checkbox(token.checked)],
  link: (token, inLink) => (inLink ? toTrees(token.tokens, true) : link(token)),
  image: (token, inLink) => image(token, inLink),
}

/**
 * Return a block of code. It is a component of `patch.js`: it gets a label, a button and colours there.
 *
 * @param {string} info the info string: a language, sometimes with more behind it
 * @param {string} text
 */
export function codeBlock(info, text) {
  return element("code-block", { info: decodeEntities(info) }, [text.endsWith("\n") ? text.slice(0, -1) : text])
}

/** A component of `formula.js`; until that is loaded, and without it, its TeX is to be read. */
/** @param {AnyToken} token */
function formula(token) {
  const raw = token.raw.trim()
  return element("tex-formula", { tex: token.tex, display: token.isBlock ? "block" : "inline", dir: "ltr" }, [raw])
}

/** @param {AnyToken} token */
function hrefOf(token) {
  // References stand for characters in [a](href), not in <href> and bare addresses. Decoded before the scheme is
  // looked at, as "javascript&colon;" would be by a browser.
  return token.autolink ? token.href : decodeEntities(token.href)
}

/** @param {AnyToken} token */
function link(token) {
  const href = hrefOf(token)
  const safe = safeLink(href)
  const children = token.autolink ? [token.text] : toTrees(token.tokens, true)
  if (!safe) return token.autolink ? children : [...children, ` (${href})`]
  const label = children.map(textOf).join("")
  const host = namesHost(label, safe) ? [] : [element("span", { class: "host", dir: "ltr" }, [safe.host])]
  return [anchor(safe.href, titleOf(token), [...children, ...host])]
}

/** @param {AnyToken} token @param {boolean} inLink */
function image(token, inLink) {
  const href = hrefOf(token)
  const alt = token.tokens ? toTrees(token.tokens, true).map(textOf).join("") : decodeEntities(token.text)
  const title = titleOf(token)
  if (isInlineImage(href)) return [element("img", { class: "picture", src: href, alt, ...(title && { title }) }, [])]
  const safe = safeLink(href)
  if (!safe) return [`${alt} (${href})`]
  const label = texts.image(safe.host, alt)
  if (inLink) return [label]
  return [element("image-card", { href: safe.href, host: safe.host, alt, ...(title && { title }) }, [label])]
}

/** @param {AnyToken} token */
function titleOf(token) {
  return token.title ? decodeEntities(token.title) : ""
}

/** @param {string} href @param {string} title @param {Tree[]} children */
function anchor(href, title, children) {
  return element("a", { href, target: "_blank", rel: "noopener noreferrer", ...(title && { title }) }, children)
}

/** A definition stays visible: unused, or in a note such as `[1]: word`, it would be text that vanished. */
/** @param {AnyToken} token */
function definition(token) {
  const label = /^\s*\[(?:\\.|[^\\\]])*\]:/.exec(token.raw)?.[0].trim() ?? ""
  const safe = safeLink(decodeEntities(token.href))
  const target = safe ? anchor(safe.href, "", [token.href]) : token.href
  return [`${label} `, target, token.title ? ` "${decodeEntities(token.title)}"` : ""]
}

/** @param {AnyToken} token @param {boolean} inLink */
function list(token, inLink) {
  const items = token.items.map((/** @type {AnyToken} */ item) => element("li", {}, toTrees(item.tokens, inLink)))
  if (!token.ordered) return element("ul", {}, items)
  return element("ol", token.start === 1 ? {} : { start: String(token.start) }, items)
}

/** @param {boolean} isChecked */
function checkbox(isChecked) {
  const label = isChecked ? texts.taskDone : texts.taskOpen
  return element("span", { class: "task", role: "img", "aria-label": label }, [isChecked ? "\u2611" : "\u2610"])
}

/** @param {AnyToken} token */
function table(token) {
  const head = element("thead", {}, [row("th", token.header)])
  const body = token.rows.map((/** @type {AnyToken[]} */ cells) => row("td", cells))
  const children = body.length === 0 ? [head] : [head, element("tbody", {}, body)]
  const attrs = { class: "table", role: "group", "aria-label": texts.table, tabindex: "0" }
  return element("div", attrs, [element("table", {}, children)])
}

/** @param {string} tag @param {AnyToken[]} cells */
function row(tag, cells) {
  return element("tr", {}, cells.map((cell) => {
    /** @type {Record<string, string>} */
    const attrs = cell.align ? { class: `align-${cell.align}` } : {}
    return element(tag, attrs, (cell.tokens ?? []).flatMap(cellPart))
  }))
}

/** A table's cell has no other way to hold a line break than HTML's. */
/** @param {Token} token */
function cellPart(token) {
  return token.type === "html" && /^<br\s*\/?>$/i.test(token.raw) ? [element("br", {}, [])] : toTrees([token])
}
