/**
 * Finds the formulas of an answer. Models write TeX between `$$` or `\[` `\]` on lines of their own, and between `$`
 * or `\(` `\)` within a line; a price is none. The rules for `$` are pandoc's
 * (https://pandoc.org/MANUAL.html#extension-tex_math_dollars) and a few more for money: no space inside next to a `$`,
 * no letter or digit before the first, no digit after the last. No formula holds a blank line or code.
 */

/** @typedef {{ type: "formula", raw: string, tex: string, isBlock: boolean }} Formula */

// A backslash takes the next character with it, so that `\$` and `\\` end nothing.
const LINE = String.raw`[^\\$\x60\n]|\\[^()[\]\x60\n]`
const BLANK = String.raw`\n[ \t]*\n`
const BLOCK_ENDS = String.raw`[ \t]*(?:\n+|$)`
const BLOCK = new RegExp(
  String.raw`^ {0,3}(?:\$\$((?:${LINE}|\\[()[\]]|\$(?!\$)|(?!${BLANK})\n)+?)\$\$|\\\[((?:${LINE}|\\[()]|\$|(?!${BLANK})\n)+?)\\\])${BLOCK_ENDS}`,
)
const START = /\n(?= {0,3}(?:\$\$|\\\[))/g

const INSIDE = String.raw`[^\\$\x60]|\\[^\x60]`
const WITHIN = [
  String.raw`(?<![\w\\$])\$\$(?!\$)((?:${INSIDE}|\$(?!\$)){1,1000}?)\$\$(?!\$)`,
  String.raw`(?<![\w\\$])\$(?![\s$])((?:${INSIDE}){1,1000}?)(?<!\s)\$(?!\d|(?<=[^\w)\]}]\$)[A-Za-z])`,
  String.raw`\\\(((?:[^\\\x60]|\\[^()\x60]){1,1000}?)\\\)`,
].join("|")
const AT = new RegExp(`^(?:${WITHIN})`)
// Code and escaped characters are passed over.
const EACH = new RegExp(String.raw`(\x60+)(?!\x60)[^]{0,2000}?[^\x60]\1(?!\x60)|${WITHIN}|\\[^(]`, "g")
// $5 million (or 3$): a number, then words.
const MONEY = /^\d[\d.,]*[KMBkmb]?\s+\(?[A-Za-z]{2,}/

/** A tokenizer for marked: the formula that `source` begins with. */
/** @param {string} source @returns {Formula | undefined} */
export function formulaBlock(source) {
  const found = /^ {0,3}(?:\$\$|\\\[)/.test(source) && BLOCK.exec(source)
  const tex = found && (found[1] ?? found[2]).trim()
  return tex ? { type: "formula", raw: found[0], tex, isBlock: true } : undefined
}

/** Return where the paragraph that `source` begins with is ended by a formula. */
/** @param {string} source */
export function formulaStart(source) {
  const blank = source.indexOf("\n\n")
  const paragraph = blank === -1 ? source : source.slice(0, blank + 1)
  for (const { index } of paragraph.matchAll(START)) if (formulaBlock(paragraph.slice(index + 1))) return index
  return undefined
}

/** A tokenizer for marked: the formula that `source` begins with, in a line. */
/** @param {string} source @param {readonly { type: string, raw: string }[]} [before] @returns {Formula | undefined} */
export function formulaIn(source, before = []) {
  if (source[0] !== "$" && !source.startsWith("\\(")) return undefined
  const last = before.at(-1)
  if (source[0] === "$" && last?.type === "text" && /[\w$]$/.test(last.raw)) return undefined
  const found = AT.exec(source)
  const [, block, line, round] = found ?? []
  const tex = (block ?? line ?? round ?? "").trim()
  if (!found || !tex || MONEY.test(line ?? "")) return undefined
  return { type: "formula", raw: found[0], tex, isBlock: block !== undefined }
}

/** Return `masked`, as marked looks for emphasis in it, with nothing to find within a formula. */
/** @param {string} source @param {string} masked of the same length */
export function maskFormulas(source, masked) {
  const pieces = []
  let end = 0
  for (const { 0: raw, 1: code, 3: line, index } of source.matchAll(EACH)) {
    if (code || raw.length === 2 || MONEY.test(line ?? "")) continue
    pieces.push(masked.slice(end, index), "[", "a".repeat(raw.length - 2), "]")
    end = index + raw.length
  }
  return pieces.join("") + masked.slice(end)
}

// --- while they are written --------------------------------------------------------------------------------------------

const WINDOW = 300
const HALF = /(?:(?:\\\(|\\$|(?<![\w$])\$(?![\s\d$]))[^$`]{0,120}|\$\$[^$`]{0,120}\$?|\$)$/
const LINE_START = String.raw`(?:^|\n)[ \t>]*(?:(?:[-+*]|\d{1,9}[.)])[ \t]+)?`
const PIECE = String.raw`(?!\$\$|\\\]|\x60|${BLANK})[^]`
const WHOLE = new RegExp(String.raw`${LINE_START}(?:\$\$(?:${PIECE})+\$\$|\\\[(?:${PIECE})+\\\])`, "g")
const OPEN = new RegExp(String.raw`${LINE_START}(?:(\$\$)|\\\[)(?:${PIECE})*$`)
// The group is for a formula that has only begun.
const END = " {}"

/** Return a line with a letter for each formula, piece of code and escaped character in it. */
/** @param {string} line */
export function withoutFormulas(line) {
  return line.replace(EACH, "x")
}

/** Return where a formula begins in a line that is still written, or its length. */
/** @param {string} line */
export function halfFormula(line) {
  const seen = line.slice(-WINDOW)
  // Whether a `$` at the end closes anything is told by what follows.
  const rest = seen.replace(EACH, (raw, ...found) => {
    const isLast = raw.endsWith("$") && found.at(-2) + raw.length === seen.length
    const blank = "x".repeat(raw.length - 1)
    // What looks like a price is shown already.
    return !isLast ? `${blank}x` : /^\$\d/.test(raw) ? `${blank}$` : `$${blank}`
  })
  return line.length - seen.length + (HALF.exec(rest)?.index ?? seen.length)
}

/** Return what closes the block of a formula that `source` ends in, "" where it ends in none. */
/** @param {string} source */
export function formulaEnd(source) {
  const open = OPEN.exec(source.slice(source.lastIndexOf("\n\n") + 1).replace(WHOLE, ""))
  return open ? `${END}${open[1] ?? "\\]"}` : ""
}

/** Return what there is of a formula that `formulaEnd` has closed. */
/** @param {string} raw */
export function withoutEnd(raw) {
  return raw.slice(0, raw.lastIndexOf(END))
}
