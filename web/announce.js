/**
 * Speaks to screen readers. What is announced is a whole block, never a fragment, each in its own element of a polite
 * live region; the region is kept short, so that it is no second transcript.
 */

import { make } from "./dom.js"

const KEPT = 5

/**
 * Create a function that announces a text.
 *
 * @param {HTMLElement} region
 * @returns {(text: string) => void}
 */
export function createAnnounce(region) {
  return (text) => {
    if (text.trim() === "") return
    region.append(make("p", {}, text))
    while (region.children.length > KEPT) region.firstElementChild?.remove()
  }
}
