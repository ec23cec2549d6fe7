/**
 * Puts the words of `texts.js` into the markup, which has none of its own: `data-text` names what an element shows,
 * `data-label` its name for those who do not see it, `data-tip` that and its title, `data-placeholder` what an empty
 * field says.
 */

import { texts } from "./texts-first.js"

/** @type {Record<string, (element: Element, words: string) => void>} */
const PLACES = {
  text: (element, words) => void (element.textContent = words),
  label: (element, words) => element.setAttribute("aria-label", words),
  tip: (element, words) => ["aria-label", "title"].forEach((name) => element.setAttribute(name, words)),
  placeholder: (element, words) => element.setAttribute("placeholder", words),
}

/** @param {ParentNode} root */
export function fillWords(root) {
  /** @type {Record<string, unknown>} */
  const table = texts
  for (const [place, put] of Object.entries(PLACES)) {
    for (const element of root.querySelectorAll(`[data-${place}]`)) {
      put(element, String(table[element.getAttribute(`data-${place}`) ?? ""]))
    }
  }
}
