/**
 * Marked's lexer as answers need it: GFM where a line break is one, tags are text, no cell of a table gets lost, and
 * formulas are tokens of their own (`formulas.js`).
 */

import { formulaBlock, formulaIn, formulaStart, maskFormulas } from "./formulas.js"

/** @typedef {Pick<typeof import("marked"), "Lexer" | "Tokenizer" | "getDefaults">} Library */
/** @typedef {import("marked").Token} Token */
/** @typedef {import("marked").Links} Links */
/** @typedef {Token[] & { links: Links }} Lexed */
/** @typedef {(source: string, links: Links) => Lexed} Lex */

/**
 * Create a function that lexes `source`, where the labels of `links` are known.
 *
 * @param {Library} library
 * @returns {Lex}
 */
export function createLex({ Lexer, Tokenizer, getDefaults }) {
  class AnswerTokenizer extends Tokenizer {
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

    /** A formula can begin in the middle of what is otherwise one text. */
    /** @override @param {string} source */
    inlineText(source) {
      const start = source.indexOf("$", 1)
      return super.inlineText(start === -1 ? source : source.slice(0, start))
    }
  }

  class AnswerLexer extends Lexer {
    /** @override @param {string} source @param {Token[]} [tokens] */
    inlineTokens(source, tokens) {
      const { hooks } = this.options
      const emStrongMask = (/** @type {string} */ masked) => maskFormulas(source, masked)
      this.options.hooks = /\$|\\\(/.test(source) ? /** @type {any} */ ({ emStrongMask }) : null
      try {
        return super.inlineTokens(source, tokens)
      } finally {
        this.options.hooks = hooks
      }
    }
  }

  const extensions = { block: [formulaBlock], startBlock: [formulaStart], inline: [formulaIn], renderers: {}, childTokens: {} }
  return (source, links) => {
    const options = { ...getDefaults(), gfm: true, breaks: true, extensions }
    const lexer = new AnswerLexer({ ...options, tokenizer: new AnswerTokenizer(options) })
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
