/**
 * Cuts code that is coloured while it arrives into pieces that end between statements: only the last of them is read
 * again when more comes, so that a line costs the same in long code as in short.
 */

/** @typedef {import("./highlight.js").CodeToken} CodeToken */
/** @typedef {{ tokens: CodeToken[], length: number, isDone: boolean }} Piece */

export const PIECE = 2000
// Where a piece has no good end, such as within a long string, it is made longer; at last it is cut at any line.
const SIZES = [PIECE, 2 * PIECE, 4 * PIECE]

/**
 * Return what of `text` is coloured at once, null where nothing can be. What is done stays as it is, whatever follows.
 *
 * @param {string} text
 * @param {(part: string) => CodeToken[] | null} ask
 * @param {boolean} isMixed whether a line may be in another language than the first is: where those begin is not known
 * @returns {Piece | null}
 */
export function nextPiece(text, ask, isMixed) {
  for (const size of SIZES) {
    const part = text.slice(0, size)
    const found = ask(part)
    if (!found) return null
    if (part === text) return { tokens: found, length: text.length, isDone: false }
    const isLast = size === SIZES.at(-1)
    const tokens = isMixed && !isLast ? [] : upTo(isLast ? /\n/g : /\n(?=\S)/g, found)
    const length = tokens.reduce((sum, [piece]) => sum + piece.length, 0)
    if (length > size / 4) return { tokens, length, isDone: true }
    if (isLast) return { tokens: found, length: size, isDone: true }
  }
  return null
}

/** Return the tokens before the last `end` of a line that is outside of strings and comments. */
/** @param {RegExp} end @param {CodeToken[]} tokens @returns {CodeToken[]} */
function upTo(end, tokens) {
  for (let index = tokens.length - 1; index >= 0; index--) {
    const [text, type] = tokens[index]
    const next = tokens[index + 1]?.[0][0] ?? ""
    const cut = type === "" ? [...`${text}${next}`.matchAll(end)].at(-1)?.index : undefined
    if (cut !== undefined && cut < text.length) return [...tokens.slice(0, index), [text.slice(0, cut + 1), ""]]
  }
  return []
}
