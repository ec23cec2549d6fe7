/**
 * Colours code. Where the browser has custom highlights (https://drafts.csswg.org/css-highlight-api-1/) the code is one
 * text node, to which is only ever appended, and colours are ranges over it: a selection survives. Elsewhere tokens are
 * spans.
 */

import { make, setText } from "./dom.js"
import { createHighlight, isMixed } from "./highlight.js"
import { PIECE, nextPiece } from "./pieces.js"

/** @typedef {import("./highlight.js").CodeToken} CodeToken */
/**
 * @typedef {object} Surface
 * @property {(text: string, isMore: boolean) => void} grow show a text, what is new without colours; `isMore` than was there
 * @property {(kept: number, tokens: CodeToken[]) => void} paint replace all tokens but the first `kept`
 */

const MOST = 200_000
// What is new is plain until it is this part of the piece, or nothing more comes.
const GROWTH = 1 / 16
const PAUSE_MS = 100

const highlight = createHighlight()

/**
 * Create a function that shows a text in `code`, in the colours of its language.
 *
 * @param {HTMLElement} code
 * @returns {(text: string, info: string) => void}
 */
export function createPainter(code) {
  /** @type {Surface} */
  const surface = "Highlight" in globalThis ? new Ranges(code) : new Spans(code)
  let text = ""
  let info = ""
  /** Where the piece begins that is not done, after how many tokens, and up to where there are colours. */
  let [start, kept, painted] = [0, 0, 0]
  let timer = 0

  function restart() {
    start = kept = painted = 0
    colour()
  }

  function colour() {
    clearTimeout(timer)
    const piece = start < MOST ? nextPiece(text.slice(start), (part) => highlight(part, info, restart), isMixed(info)) : null
    const { tokens, length, isDone } = piece ?? { tokens: [], length: 0, isDone: false }
    const rest = text.slice(start + length)
    surface.paint(kept, rest ? [...tokens, [rest, ""]] : tokens)
    painted = start + length || text.length
    if (!isDone) return
    start += length
    kept += tokens.length
    if (rest.length < PIECE) colour()
    else timer = setTimeout(colour)
  }

  return (newText, newInfo) => {
    if (newText === text && newInfo === info) return
    const isMore = newText.startsWith(text)
    if (newInfo !== info || !isMore) start = kept = painted = 0
    text = newText
    info = newInfo
    surface.grow(text, isMore)
    clearTimeout(timer)
    if (painted > 0 && text.length - painted > (painted - start) * GROWTH) colour()
    else timer = setTimeout(colour, painted > 0 ? PAUSE_MS : 0)
  }
}

// --- ranges ------------------------------------------------------------------------------------------------------------

/** @typedef {{ text: string, type: string, end: number, range: StaticRange | null }} Mark */

/** Tells of its place whether it is on the page: ranges of what is not would be kept for nothing. */
class Sensor extends HTMLElement {
  onChange = () => {}
  connectedCallback() {
    this.onChange()
  }
  disconnectedCallback() {
    this.onChange()
  }
}
customElements.define("code-colours", Sensor)

/** @implements {Surface} */
class Ranges {
  #code
  #sensor = new Sensor()
  #length = 0
  /** @type {Mark[]} */
  #marks = []

  /** @param {HTMLElement} code */
  constructor(code) {
    this.#code = code
    this.#sensor.hidden = true
    this.#sensor.onChange = () => this.#marks.forEach((mark) => this.#register(mark))
  }

  /** @param {string} text @param {boolean} isMore */
  grow(text, isMore) {
    const node = this.#code.firstChild
    // Long text is not compared with what is there: it is known to go on.
    if (isMore && this.#length > 0 && node instanceof Text) node.appendData(text.slice(this.#length))
    else setText(this.#code, text)
    this.#length = text.length
    if (!this.#sensor.parentNode) this.#code.append(this.#sensor)
  }

  /** @param {number} kept @param {CodeToken[]} tokens */
  paint(kept, tokens) {
    let same = kept
    while (same < this.#marks.length && isSame(this.#marks[same], tokens[same - kept])) same++
    for (const mark of this.#marks.splice(same)) mark.range && marksOf(mark.type).delete(mark.range)
    for (const [text, type] of tokens.slice(same - kept)) this.#add(text, type)
  }

  /** @param {string} text @param {string} type */
  #add(text, type) {
    const start = this.#marks.at(-1)?.end ?? 0
    const end = start + text.length
    const node = /** @type {Text} */ (this.#code.firstChild)
    const range = type ? new StaticRange({ startContainer: node, startOffset: start, endContainer: node, endOffset: end }) : null
    const mark = { text, type, end, range }
    this.#marks.push(mark)
    this.#register(mark)
  }

  /** @param {Mark} mark */
  #register({ type, range }) {
    if (range) marksOf(type)[this.#sensor.isConnected ? "add" : "delete"](range)
  }
}

/** @param {Mark} mark @param {CodeToken | undefined} token */
function isSame(mark, token) {
  return token !== undefined && mark.text === token[0] && mark.type === token[1]
}

/** @param {string} type */
function marksOf(type) {
  const name = `token-${type}`
  const known = CSS.highlights.get(name)
  if (known) return known
  const made = new Highlight()
  CSS.highlights.set(name, made)
  return made
}

// --- spans -------------------------------------------------------------------------------------------------------------

/** @implements {Surface} */
class Spans {
  #code
  /** @type {CodeToken[]} */
  #shown = []

  /** @param {HTMLElement} code */
  constructor(code) {
    this.#code = code
    this.#shown = code.firstChild ? [[code.textContent ?? "", ""]] : []
  }

  /** @param {string} text */
  grow(text) {
    const known = this.#shown.map(([piece]) => piece).join("")
    if (!text.startsWith(known)) return this.#replace(0, [[text, ""]])
    const [last, type] = this.#shown.at(-1) ?? ["", "none"]
    if (type === "") this.#replace(this.#shown.length - 1, [[last + text.slice(known.length), ""]])
    else this.#replace(this.#shown.length, [[text.slice(known.length), ""]])
  }

  /** @param {number} kept @param {CodeToken[]} tokens */
  paint(kept, tokens) {
    let same = kept
    while (same < this.#shown.length && String(this.#shown[same]) === String(tokens[same - kept])) same++
    this.#replace(same, tokens.slice(same - kept))
  }

  /** @param {number} kept @param {CodeToken[]} tokens */
  #replace(kept, tokens) {
    const [old, grown] = [this.#shown[kept], tokens[0]]
    this.#shown = [...this.#shown.slice(0, kept), ...tokens]
    if (old && grown && old[1] === grown[1]) {
      setText(this.#code.childNodes[kept], grown[0])
      kept++
      tokens = tokens.slice(1)
    }
    while (this.#code.childNodes.length > kept) this.#code.lastChild?.remove()
    this.#code.append(...tokens.map(([text, type]) => (type ? make("span", { class: `token-${type}` }, text) : new Text(text))))
  }
}
