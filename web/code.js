/**
 * A block of code: its language, a button that copies it, and its text in colours. Tokens become spans that hold
 * text; while code arrives only the spans at its end change.
 */

import { make, setText } from "./dom.js"
import { copyButton } from "./copy.js"
import { texts } from "./texts.js"

/** @typedef {import("./highlight.js").Highlight} Highlight */
/** @typedef {import("./highlight.js").CodeToken} CodeToken */

// Colouring reads the whole text each time: up to this size it is done while the code arrives, later when it pauses.
const LIVE = 4000
const PAUSE_MS = 250

/**
 * Create the component for `code-block` trees.
 *
 * @param {Highlight} highlight
 * @returns {() => import("./dom.js").Component}
 */
export function createCodeBlock(highlight) {
  return () => {
    const label = make("span", { class: "code-label" })
    const code = make("code")
    const copy = copyButton(texts.copyCode, () => code.textContent ?? "")
    const bar = make("div", { class: "code-bar" }, label, copy)
    const element = make("div", { class: "code" }, bar, make("pre", { tabindex: "0" }, code))
    const paint = createPaint(code, highlight)
    return {
      element,
      update(tree) {
        setText(label, tree.attrs.info)
        paint(tree.children.join(""), tree.attrs.info)
      },
    }
  }
}

/** Return a function that shows a text in `code`, in the colours of its language. */
/** @param {HTMLElement} code @param {Highlight} highlight */
export function createPaint(code, highlight) {
  /** @type {CodeToken[]} */
  let shown = []
  let text = ""
  let info = ""
  let timer = 0

  function colour() {
    shown = showTokens(code, shown, highlight(text, info, colour) ?? [[text, ""]])
  }

  /** @param {string} newText @param {string} newInfo */
  return (newText, newInfo) => {
    text = newText
    info = newInfo
    clearTimeout(timer)
    if (text.length <= LIVE) return colour()
    shown = showTokens(code, shown, growth(shown, text))
    timer = setTimeout(colour, PAUSE_MS)
  }
}

/** Keep the tokens that are shown and add what is new as plain text. */
/** @param {CodeToken[]} shown @param {string} text @returns {CodeToken[]} */
function growth(shown, text) {
  const known = shown.map(([piece]) => piece).join("")
  const last = shown.at(-1)
  if (!last || !text.startsWith(known)) return [[text, ""]]
  const added = text.slice(known.length)
  return last[1] === "" ? [...shown.slice(0, -1), [last[0] + added, ""]] : [...shown, [added, ""]]
}

/** Change the nodes of `code` from one list of tokens to another; what both begin with stays. */
/** @param {HTMLElement} code @param {CodeToken[]} before @param {CodeToken[]} after */
function showTokens(code, before, after) {
  let same = 0
  while (same < before.length && same < after.length && isSame(before[same], after[same])) same++
  const [old, grown] = [before[same], after[same]]
  if (old && grown && old[1] === grown[1] && before.length === same + 1) {
    setText(code.childNodes[same], grown[0])
    same++
  }
  while (code.childNodes.length > same) code.lastChild?.remove()
  code.append(...after.slice(same).map(tokenNode))
  return after
}

/** @param {CodeToken} token */
function tokenNode([piece, type]) {
  return type ? make("span", { class: `token-${type}` }, piece) : new Text(piece)
}

/** @param {CodeToken} one @param {CodeToken} other */
function isSame(one, other) {
  return one[0] === other[0] && one[1] === other[1]
}
