/**
 * Says what to show of an answer's last line while it is still being written, so that nothing flashes: half a fence
 * is not yet a paragraph, half a link not yet brackets, and a bold word is bold before its closing stars arrive.
 * The finished answer never passes here.
 */

// Only marks so far: a fence, a bullet, a number, a rule, an underline, a table's edge. The next character decides.
const ONLY_MARKS = /^[ \t>]*(?:[-+*_=#`~|:. \t]*|\d{1,9}[.)]?)$/

// An open bracket that may become a link. Long ones are shown: they are rarely links.
const HALF_LINK = /!?\[[^[\]\n]{0,100}(?:\](?:\([^()\s]*)?)?$/

/**
 * Return how much of `source` is ready to be seen.
 *
 * @param {string} source
 */
export function readyLength(source) {
  const start = source.lastIndexOf("\n") + 1
  const line = source.slice(start)
  if (ONLY_MARKS.test(line)) return start
  const link = HALF_LINK.exec(line)
  return link ? start + link.index : source.length
}

/**
 * Return the marks that close what the last line of `source` has open.
 *
 * @param {string} source
 */
export function closingMarks(source) {
  if ((source.match(/^[ \t>]*(?:`{3,}|~{3,})/gm) ?? []).length % 2 === 1) return ""
  const line = source.slice(source.lastIndexOf("\n") + 1)
  const outsideCode = line.replace(/(`+)(?!`).*?[^`]\1(?!`)/g, "")
  if (outsideCode.includes("`")) return /`[^`\s]/.test(outsideCode) ? "`" : ""
  const marks = outsideCode.match(/\*\*/g) ?? []
  return marks.length % 2 === 1 && /\*\*[^\s*][^*]*$/.test(outsideCode) ? "**" : ""
}
