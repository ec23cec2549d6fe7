/**
 * Says what to show of an answer's last line while it is still being written, so that nothing flashes: half a fence
 * is not yet a paragraph, half a link not yet brackets, and a bold word is bold before its closing stars arrive.
 * The finished answer never passes here.
 */

import { halfFormula, withoutFormulas } from "./formulas.js"

// Only marks so far: a fence, a bullet, a number, a rule, an underline, a table's edge. The next character decides.
const ONLY_MARKS = /^[ \t>]*(?:[-+*_=#`~|:.$ \t]*|\\[[\]]?|\d{1,9}[.)]?)$/

// An open bracket that may become a link. Long ones are shown: they are rarely links.
const HALF_LINK = /(?<!\\)!?\[[^[\]\n]{0,100}(?:\](?:\([^()\s]*)?)?$/

// A mark may still grow, or close what it seems to open.
const HALF_MARK = /(?<!\\)[*`~]+$/

const MARKS = /(?<!\*)\*{1,3}(?!\*)|(?<!~)~~(?!~)/g
const SPACE_OR_SIGN = /(?:^|[\s\p{P}\p{S}])$/u

/**
 * Return how much of `source` is ready to be seen.
 *
 * @param {string} source
 */
export function readyLength(source) {
  const start = source.lastIndexOf("\n") + 1
  const line = source.slice(start)
  if (ONLY_MARKS.test(line)) return start
  const half = [HALF_LINK, HALF_MARK].map((mark) => mark.exec(line)?.index ?? line.length)
  return start + Math.min(...half, halfFormula(line))
}

/**
 * Return the marks that close what the last line of `source` has open.
 *
 * @param {string} source
 */
export function closingMarks(source) {
  if ((source.match(/^[ \t>]*(?:`{3,}|~{3,})/gm) ?? []).length % 2 === 1) return ""
  const line = source.slice(source.lastIndexOf("\n") + 1)
  const [text, code = "", inside = ""] = withoutFormulas(line).split(/(`+)(.*)/)
  return (inside.trim() && code) + openMarks(inside.trim() ? `${text}x` : text)
}

/** Return the marks that close what is open in a line without code. */
/** @param {string} line */
function openMarks(line) {
  /** @type {string[]} */
  const open = []
  for (const { 0: mark, index } of line.matchAll(MARKS)) {
    const [before, after] = [line.slice(0, index), line.slice(index + mark.length)]
    // https://spec.commonmark.org/0.31.2/#left-flanking-delimiter-run, but 2*3 is a product, and *.py a name.
    const canOpen = /^[\p{L}\p{N}]/u.test(after) ? !/\w$/.test(before) : /^[^\s.,;:!?)]/.test(after) && SPACE_OR_SIGN.test(before)
    if (mark === open.at(-1) && /\S$/.test(before)) open.pop()
    else if (canOpen) open.push(mark)
  }
  return open.reverse().join("")
}
