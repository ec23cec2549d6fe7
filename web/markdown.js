/**
 * Renders markdown that is still arriving. The source is cut where nothing that follows can change what came before;
 * blocks above that cut are settled and are never read again, only the tail below it is lexed at each call.
 *
 *     answer = settled block* tail
 *
 * A cut is made before a block whose first line is whole and which follows a blank line, or is a fence or a heading.
 * One thing reaches across it: a definition `[label]: address` turns earlier `[label]`s into links, so blocks with
 * brackets keep their source and are lexed once more when their label gets defined.
 *
 * Knows neither fetch nor the document; the lexer is handed in, so that it runs under node as in the page.
 */

import { formulaEnd, withoutEnd } from "./formulas.js"
import { createLex } from "./lexer.js"
import { OpenList } from "./openlist.js"
import { codeBlock, fit, textOf, toTrees } from "./tokens.js"
import { closingMarks, readyLength } from "./unfinished.js"

/** @typedef {import("./tokens.js").Tree} Tree */
/** @typedef {import("./tokens.js").Token} Token */
/** @typedef {import("./lexer.js").Library} Library */
/** @typedef {import("./lexer.js").Lex} Lex */
/** @typedef {import("./lexer.js").Lexed} Lexed */
/** @typedef {import("marked").Links} Links */
/**
 * @typedef {object} MarkdownStream
 * @property {(text: string) => void} push
 * @property {(isFinal?: boolean) => Tree[]} blocks all blocks so far; a settled one is the same object every time
 * @property {() => number} settledCount how many of them will not change by what follows
 */
/** @typedef {{ stream: () => MarkdownStream, render: (source: string) => Tree[] }} Markdown */
/** @typedef {{ source: string, from: number, count: number, under: number[] }} Group settled blocks that could be touched by a label */

// A tail longer than this is lexed again only when it has grown by a part of itself: the sum of a growing series of
// whole lexes stays linear. Text of that length without a blank line is rare; open fences have their own way.
const LONG_TAIL = 8192
const GROWTH = 32

/**
 * Create a renderer upon marked.
 *
 * @param {Library} library
 * @returns {Markdown}
 */
export function createMarkdown(library) {
  const lex = createLex(library)
  const stream = () => new Stream(lex)
  return {
    stream,
    render(source) {
      const whole = stream()
      whole.push(source)
      return whole.blocks(true)
    },
  }
}

/**
 * Return a markdown that leaves the text as it is, for a page without its libraries.
 *
 * @returns {Markdown}
 */
export function createPlain() {
  const stream = () => {
    let source = ""
    return {
      push: (/** @type {string} */ text) => void (source += text),
      blocks: () => [plain(source)],
      settledCount: () => 0,
    }
  }
  return { stream, render: (source) => [plain(source)] }
}

/** @param {string} source @returns {Tree} */
function plain(source) {
  return { tag: "div", attrs: { class: "raw" }, children: [source] }
}

/** @implements {MarkdownStream} */
class Stream {
  /** @type {Lex} */
  #lex
  /** @type {Tree[]} */
  #settled = []
  /** @type {Group[]} */
  #groups = []
  /** @type {Links} */
  #links = Object.create(null)
  /** The depths of the headings that what follows the cut stands under. @type {number[]} */
  #headings = []
  /** The source below the last cut. */
  #tail = ""
  /** A CR at the end may be the half of a CR LF. */
  #heldReturn = ""
  #lexedLength = 0
  /** @type {Tree[]} */
  #shown = []
  /** @type {OpenFence | null} */
  #fence = null
  /** @type {OpenList | null} */
  #list = null

  /** @param {Lex} lex */
  constructor(lex) {
    this.#lex = lex
  }

  /** @param {string} text */
  push(text) {
    const source = this.#heldReturn + text
    this.#heldReturn = source.endsWith("\r") ? "\r" : ""
    this.#tail += source.slice(0, source.length - this.#heldReturn.length).replace(/\r\n?/g, "\n")
  }

  blocks(isFinal = false) {
    if (isFinal && this.#heldReturn) this.push("\n")
    if (!isFinal && this.#fence && stillOpen(this.#fence, this.#tail)) {
      const body = this.#tail.slice(this.#fence.bodyStart, readyLength(this.#tail))
      this.#shown = [...this.#settled, codeBlock(this.#fence.info, body)]
    } else if (isFinal || this.#isWorthLexing()) {
      this.#shown = this.#render(isFinal)
    }
    return this.#shown
  }

  settledCount() {
    return this.#settled.length
  }

  #isWorthLexing() {
    const length = this.#tail.length - (this.#list?.length ?? 0)
    return length < LONG_TAIL || this.#tail.length - this.#lexedLength > length / GROWTH
  }

  /** @param {boolean} isFinal */
  #render(isFinal) {
    try {
      return this.#lexTail(isFinal)
    } catch {
      // A thousand nested quotes exhaust the lexer's stack: the text is shown as it is.
      return [...this.#settled, plain(this.#tail)]
    }
  }

  /** @param {boolean} isFinal */
  #lexTail(isFinal) {
    const known = isFinal ? null : this.#lexList()
    if (known) return [...this.#settled, known]
    const { source, end } = isFinal ? { source: this.#tail, end: "" } : shownOf(this.#tail)
    const tokens = this.#lex(source, this.#links)
    const cut = isFinal ? { index: tokens.length, offset: this.#tail.length } : lastCut(tokens, source)
    if (cut.index > 0) {
      this.#settle(withLinks(tokens.slice(0, cut.index), tokens.links), this.#tail.slice(0, cut.offset))
      this.#tail = this.#tail.slice(cut.offset)
    }
    const rest = tokens.slice(cut.index)
    this.#fence = isFinal ? null : openFence(rest, this.#tail)
    this.#lexedLength = this.#tail.length
    const trees = fit(toTrees(rest), [...this.#headings])
    this.#list = isFinal ? null : OpenList.of(rest, trees[0], this.#headings)
    if (end) leaveOpen(trees)
    return [...this.#settled, ...trees]
  }

  /** Read what is open of a list; null where none is, or it has ended. */
  #lexList() {
    if (!this.#list) return null
    const { source, end } = shownOf(this.#tail.slice(this.#list.length))
    const list = this.#list.next(this.#lex(this.#list.lead + source, this.#links))
    this.#lexedLength = this.#tail.length
    if (list && end) leaveOpen([list])
    return list
  }

  /** @param {Lexed} tokens @param {string} source */
  #settle(tokens, source) {
    const defined = define(tokens, this.#links)
    // Labels that a definition in the tail made into links may be text again when that line goes on.
    const isProvisional = Object.keys(tokens.links).some((label) => !(label in this.#links))
    const under = [...this.#headings]
    const trees = fit(toTrees(isProvisional ? this.#lex(source, this.#links) : tokens), this.#headings)
    const from = this.#settled.length
    this.#settled.push(...trees)
    for (const group of this.#groups.filter((group) => usesLabel(group.source, defined))) {
      const linked = fit(toTrees(this.#lex(group.source, this.#links)), [...group.under])
      this.#settled.splice(group.from, group.count, ...linked)
    }
    if (source.includes("[")) this.#groups.push({ source, from, count: trees.length, under })
  }
}

/** @param {Token[]} tokens @param {Links} links @returns {Lexed} */
function withLinks(tokens, links) {
  return Object.assign(tokens, { links })
}

/** Return what of an unfinished source is shown, with what it has open closed, and what closes a formula there. */
/** @param {string} source */
function shownOf(source) {
  const ready = source.slice(0, readyLength(source))
  const end = formulaEnd(ready)
  const marks = end ? "" : closingMarks(ready)
  // A space before it lets a mark close nothing.
  return { source: marks ? ready.trimEnd() + marks : ready + end, end }
}

/** Show what there is of the formula at the end of `trees`: half of it would be a wrong one. */
/** @param {Tree[]} trees */
function leaveOpen(trees) {
  const last = trees.at(-1)
  if (!last || typeof last === "string") return
  if (last.tag !== "tex-formula") return leaveOpen(last.children)
  last.attrs = { ...last.attrs, tex: "", open: "" }
  last.children = [withoutEnd(textOf(last))]
}

/** Return where the last cut can be made: the tokens above it, and the length of their source. */
/** @param {Token[]} tokens @param {string} source */
function lastCut(tokens, source) {
  let cut = { index: 0, offset: 0 }
  let offset = 0
  tokens.forEach((token, index) => {
    // The last line is whole only if a line feed follows it: "2" may become "2. more" of the list above.
    const isWhole = source.indexOf("\n", offset) !== -1
    if (offset > 0 && isWhole && token.type !== "space" && (startsAnew(token) || followsBlankLine(source, offset))) {
      cut = { index, offset }
    }
    offset += token.raw.length
  })
  // The lexer adds line feeds to some tokens: where the sum is not the source, no offset can be trusted.
  return offset === source.length ? cut : { index: 0, offset: 0 }
}

/** @param {Token} token */
function startsAnew(token) {
  return /^ {0,3}(?:```|~~~)/.test(token.raw) ? token.type === "code" : token.type === "heading" && /^ {0,3}#/.test(token.raw)
}

/** @param {string} source @param {number} offset */
function followsBlankLine(source, offset) {
  return /\n[ \t]*\n$/.test(source.slice(Math.max(0, offset - 64), offset))
}

/** @typedef {{ info: string, bodyStart: number, closes: RegExp, scanned: number }} OpenFence */

/** Return the fence that `tail` consists of and that nothing has closed, or null. */
/** @param {Token[]} tokens @param {string} tail @returns {OpenFence | null} */
function openFence(tokens, tail) {
  const opening = /^(`{3,}|~{3,})[^\n]*\n/.exec(tail)
  if (!opening || tokens.length !== 1 || tokens[0].type !== "code") return null
  const closes = new RegExp(`^ {0,3}${opening[1]}`, "m")
  const fence = { info: tokens[0].lang ?? "", bodyStart: opening[0].length, closes, scanned: opening[0].length }
  return stillOpen(fence, tail) ? fence : null
}

/** @param {OpenFence} fence @param {string} tail */
function stillOpen(fence, tail) {
  if (fence.closes.test(tail.slice(fence.scanned))) return false
  fence.scanned = Math.max(fence.bodyStart, tail.lastIndexOf("\n") + 1)
  return true
}

/** Take the definitions of `tokens` into `links`, the first of a label winning, and return the new labels. */
/** @param {Token[]} tokens @param {Links} links @param {Set<string>} [labels] */
function define(tokens, links, labels = new Set()) {
  for (const token of tokens) {
    if (token.type === "def" && !(token.tag in links)) {
      links[token.tag] = { href: token.href, title: token.title }
      labels.add(token.tag)
    }
    if (token.type === "list") define(token.items, links, labels)
    else if (token.type === "blockquote" || token.type === "list_item") define(token.tokens ?? [], links, labels)
  }
  return labels
}

/** @param {string} source @param {Set<string>} labels */
function usesLabel(source, labels) {
  if (labels.size === 0) return false
  const named = source.matchAll(/\[((?:\\.|[^[\]\\])+)\]/g)
  return [...named].some(([, label]) => labels.has(foldLabel(label)))
}

/** https://spec.commonmark.org/0.31.2/#matches, as marked spells it. */
/** @param {string} label */
function foldLabel(label) {
  return label.trim().replace(/\s+/g, " ").toLowerCase().toUpperCase().toLowerCase()
}
