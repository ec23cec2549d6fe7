/**
 * Speaks to screen readers. What is announced are whole sentences, each time in an element of its own in a polite live
 * region; the region is kept short, so that it is no second transcript. What an answer says of itself is in `speech.js`.
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
