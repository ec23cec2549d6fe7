/**
 * Turns marked's tokens into a plain tree, which `dom.js` makes visible and tests compare as a value.
 *
 * No HTML is ever made: what the answer brings as HTML is text here, as is a link whose scheme is not known. An image
 * is a link that names its host, because loading it would tell that host who reads. So no character gets lost.
 */

import { decodeEntities } from "./entities.js"
import { namesHost, safeLink } from "./links.js"
import { texts } from "./texts.js"

/** @typedef {import("/lib/marked.js").Token} Token */
/** @typedef {import("/lib/marked.js").Tokens.Generic} AnyToken */
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
  heading: (token, inLink) => [element(`h${token.depth}`, {}, toTrees(token.tokens, inLink))],
  hr: () => [element("hr", {}, [])],
  blockquote: (token, inLink) => [element("blockquote", {}, toTrees(token.tokens, inLink))],
  code: (token) => [codeBlock(token.lang ?? "", token.text)],
  html: (token) => (token.block ? [element("div", { class: "raw" }, [token.text.replace(/\n+$/, "")])] : [token.text]),
  def: (token) => [element("p", { class: "definition" }, definition(token))],
  list: (token, inLink) => [list(token, inLink)],
  table: (token) => [table(token)],

  text: (token, inLink) => (token.tokens ? toTrees(token.tokens, inLink) : [decodeEntities(token.raw)]),
  escape: (token) => [token.text],
  strong: (token, inLink) => [element("strong", {}, toTrees(token.tokens, inLink))],
  em: (token, inLink) => [element("em", {}, toTrees(token.tokens, inLink))],
  del: (token, inLink) => [element("del", {}, toTrees(token.tokens, inLink))],
  codespan: (token) => [element("code", {}, [token.text])],
  br: () => [element("br", {}, [])],
  checkbox: (token) => [checkbox(token.checked)],
  link: (token, inLink) => (inLink ? toTrees(token.tokens, true) : link(token)),
  image: (token, inLink) => image(token, inLink),
}

/**
 * Return a block of code. It is a component of `dom.js`: it gets a label, a button and colours there.
 *
 * @param {string} info the info string: a language, sometimes with more behind it
 * @param {string} text
 */
export function codeBlock(info, text) {
  return element("code-block", { info }, [text.replace(/\n$/, "")])
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
  const host = namesHost(label, safe) ? [] : [element("span", { class: "host" }, [safe.host])]
  return [anchor(safe.href, "", titleOf(token), [...children, ...host])]
}

/** @param {AnyToken} token @param {boolean} inLink */
function image(token, inLink) {
  const href = hrefOf(token)
  const safe = safeLink(href)
  const alt = token.tokens ? toTrees(token.tokens, true).map(textOf).join("") : decodeEntities(token.text)
  if (!safe) return [`${alt} (${href})`]
  const label = texts.image(safe.host, alt)
  return inLink ? [label] : [anchor(safe.href, "image", titleOf(token), [label])]
}

/** @param {AnyToken} token */
function titleOf(token) {
  return token.title ? decodeEntities(token.title) : ""
}

/** @param {string} href @param {string} className @param {string} title @param {Tree[]} children */
function anchor(href, className, title, children) {
  const attrs = { href, target: "_blank", rel: "noopener noreferrer" }
  return element("a", { ...attrs, ...(className && { class: className }), ...(title && { title }) }, children)
}

/** A definition stays visible: unused, or in a note such as `[1]: word`, it would be text that vanished. */
/** @param {AnyToken} token */
function definition(token) {
  const label = /^\s*\[(?:\\.|[^\\\]])*\]:/.exec(token.raw)?.[0].trim() ?? ""
  const safe = safeLink(decodeEntities(token.href))
  const target = safe ? anchor(safe.href, "", "", [token.href]) : token.href
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
