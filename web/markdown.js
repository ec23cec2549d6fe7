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

import { codeBlock, toTrees } from "./tokens.js"
import { closingMarks, readyLength } from "./unfinished.js"

/** @typedef {import("./tokens.js").Tree} Tree */
/** @typedef {import("./tokens.js").Token} Token */
/** @typedef {Pick<typeof import("/lib/marked.js"), "Lexer" | "Tokenizer" | "getDefaults">} Library */
/** @typedef {import("/lib/marked.js").Links} Links */
/**
 * @typedef {object} MarkdownStream
 * @property {(text: string) => void} push
 * @property {(isFinal?: boolean) => Tree[]} blocks all blocks so far; a settled one is the same object every time
 * @property {() => number} settledCount how many of them will not change by what follows
 */
/** @typedef {{ stream: () => MarkdownStream, render: (source: string) => Tree[] }} Markdown */
/** @typedef {{ source: string, from: number, count: number }} Group settled blocks that could be touched by a label */

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

/**
 * @typedef {Token[] & { links: Links }} Lexed
 * @typedef {(source: string, links: Links) => Lexed} Lex
 */

/** @param {Library} library @returns {Lex} */
function createLex({ Lexer, Tokenizer, getDefaults }) {
  class PlainTagTokenizer extends Tokenizer {
    /** A tag is text here, so an unclosed `<a>` must not keep addresses in later blocks from becoming links. */
    /** @override @param {string} source */
    tag(source) {
      const token = super.tag(source)
      this.lexer.state.inLink = false
      this.lexer.state.inRawBlock = false
      return token
    }

    /** Cells beyond the header's are dropped by GFM; here the header grows, so that they are seen. */
    /** @override @param {string} source */
    table(source) {
      const token = super.table(source)
      if (!token) return token
      const [header, delimiter, ...rows] = token.raw.split("\n")
      const widest = Math.max(0, ...rows.map(countCells))
      const missing = widest - token.header.length
      if (missing <= 0) return token
      const wide = [widen(header, missing, " "), widen(delimiter, missing, "---"), ...rows].join("\n")
      return { ...(super.table(wide) ?? token), raw: token.raw }
    }
  }
  return (source, links) => {
    const options = { ...getDefaults(), gfm: true, breaks: true }
    const lexer = new Lexer({ ...options, tokenizer: new PlainTagTokenizer(options) })
    Object.assign(lexer.tokens.links, links)
    return lexer.lex(source)
  }
}

/** @param {string} row */
function countCells(row) {
  const bare = row.trim().replace(/^\|/, "").replace(/(^|[^\\])\|$/, "$1")
  return (bare.match(/(?<!\\)(?:\\\\)*\|/g) ?? []).length + 1
}

/** @param {string} row @param {number} missing @param {string} cell */
function widen(row, missing, cell) {
  const closed = /\|\s*$/.test(row) ? row.trimEnd() : `${row} |`
  return `${closed}${` ${cell} |`.repeat(missing)}`
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
  /** The source below the last cut. */
  #tail = ""
  /** A CR at the end may be the half of a CR LF. */
  #heldReturn = ""
  #lexedLength = 0
  /** @type {Tree[]} */
  #shown = []
  /** @type {OpenFence | null} */
  #fence = null

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
    const length = this.#tail.length
    return length < LONG_TAIL || length - this.#lexedLength > length / GROWTH
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
    const ready = isFinal ? this.#tail : this.#tail.slice(0, readyLength(this.#tail))
    const source = isFinal ? ready : ready + closingMarks(ready)
    const tokens = this.#lex(source, this.#links)
    const cut = isFinal ? { index: tokens.length, offset: this.#tail.length } : lastCut(tokens, source)
    if (cut.index > 0) {
      this.#settle(withLinks(tokens.slice(0, cut.index), tokens.links), this.#tail.slice(0, cut.offset))
      this.#tail = this.#tail.slice(cut.offset)
    }
    const rest = tokens.slice(cut.index)
    this.#fence = isFinal ? null : openFence(rest, this.#tail)
    this.#lexedLength = this.#tail.length
    return [...this.#settled, ...toTrees(rest)]
  }

  /** @param {Lexed} tokens @param {string} source */
  #settle(tokens, source) {
    const defined = define(tokens, this.#links)
    // Labels that a definition in the tail made into links may be text again when that line goes on.
    const isProvisional = Object.keys(tokens.links).some((label) => !(label in this.#links))
    const trees = toTrees(isProvisional ? this.#lex(source, this.#links) : tokens)
    const from = this.#settled.length
    this.#settled.push(...trees)
    for (const group of this.#groups.filter((group) => usesLabel(group.source, defined))) {
      this.#settled.splice(group.from, group.count, ...toTrees(this.#lex(group.source, this.#links)))
    }
    if (source.includes("[")) this.#groups.push({ source, from, count: trees.length })
  }
}

/** @param {Token[]} tokens @param {Links} links @returns {Lexed} */
function withLinks(tokens, links) {
  return Object.assign(tokens, { links })
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
