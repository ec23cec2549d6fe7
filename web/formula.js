/**
 * A formula on the page. Its TeX is shown until it is whole and `math.js`, which brings Temml, is loaded; where that is
 * missing, and where the TeX is wrong, it stays.
 */

import { make, setText } from "./dom.js"
import { lazy } from "./lazy.js"

/** @typedef {(place: HTMLElement, tex: string, isBlock: boolean) => void} DrawMath */

/**
 * Create the component for `tex-formula` trees.
 *
 * @param {() => Promise<DrawMath>} [load]
 * @returns {() => import("./patch.js").Component}
 */
export function createFormula(load = async () => (await import("./math.js")).loadMath()) {
  /** @type {DrawMath | null} */
  let drawMath = null
  const bring = lazy(async () => void (drawMath = await load()))
  return () => {
    const element = make("span", { dir: "ltr" })
    let shown = ""
    /** @param {import("./tokens.js").TreeElement} tree */
    function update({ attrs, children }) {
      const source = children.join("")
      const state = `${attrs.display} ${attrs.open} ${source}`
      if (shown === state) return
      shown = state
      showSource(element, source, attrs.display)
      const draw = () => void (shown === state && drawMath && showMath(element, drawMath, attrs, source))
      if ("open" in attrs) return
      if (drawMath) draw()
      else bring().then(draw, () => {})
    }
    return { element, update }
  }
}

/** @param {HTMLElement} element @param {string} source @param {string} display */
function showSource(element, source, display) {
  element.className = `formula ${display} source`
  element.removeAttribute("title")
  delete element.dataset.tex
  if (!(element.firstChild instanceof Text)) element.replaceChildren()
  setText(element, source)
}

/** @param {HTMLElement} element @param {DrawMath} drawMath @param {Record<string, string>} attrs @param {string} source */
function showMath(element, drawMath, { tex, display }, source) {
  try {
    drawMath(element, tex, display === "block")
    element.dataset.tex = source
    element.classList.remove("source")
  } catch (error) {
    // Temml goes on to quote the place, underlined.
    element.title = error instanceof Error ? error.message.replace(/ at (?:position|end of input)[^]*$/, "").trim() : ""
  }
}
