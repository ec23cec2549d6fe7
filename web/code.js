/**
 * A block of code: its language, its text, and a bar of buttons that stays in view. Colours come with `paint.js`, when
 * the first code is seen that can have some.
 */

import { copyButton } from "./copy.js"
import { make, setText } from "./dom.js"
import { lazy } from "./lazy.js"
import { texts } from "./texts.js"

const painting = lazy(() => import("./paint.js"))

/** Create the component for `code-block` trees. */
/** @returns {import("./patch.js").Component} */
export function createCodeBlock() {
  const label = make("span", { class: "code-label" })
  const code = make("code")
  const text = () => code.textContent ?? ""
  const wrap = make("button", { type: "button", class: "quiet wrap", "aria-pressed": "false" }, texts.wrap)
  const save = make("button", { type: "button", class: "quiet download" }, texts.saveCode)
  const bar = make("div", { class: "code-bar" }, label, wrap, save, copyButton(texts.copyCode, text))
  const element = make("div", { class: "code", dir: "ltr" }, bar, make("pre", { tabindex: "0" }, code))
  const paint = createPaint(code)
  wrap.addEventListener("click", () => {
    wrap.setAttribute("aria-pressed", String(element.classList.toggle("wrapped")))
  })
  save.addEventListener("click", async () => {
    const { saveCode } = await import("./codefile.js")
    saveCode(label.textContent ?? "", text())
  })
  return {
    element,
    update(tree) {
      setText(label, tree.attrs.info)
      paint(tree.children.join(""), tree.attrs.info)
    },
  }
}

/**
 * Create a function that shows a text in `code`, in colours where its language has some.
 *
 * @param {HTMLElement} code
 * @returns {(text: string, info: string) => void}
 */
export function createPaint(code) {
  /** @type {ReturnType<typeof import("./paint.js").createPainter> | null} */
  let paint = null
  let [text, info] = ["", ""]
  return (newText, newInfo) => {
    text = newText
    info = newInfo
    if (paint) return paint(text, info)
    setText(code, text)
    if (info === "") return
    const begin = (/** @type {typeof import("./paint.js")} */ { createPainter }) => {
      paint ??= createPainter(code)
      paint(text, info)
    }
    painting().then(begin, () => {})
  }
}
