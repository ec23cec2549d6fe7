/** Images as the reader sees them: small, all of one size so that nothing moves when they appear, and large on a click. */

import { make } from "./dom.js"
import { texts } from "./texts.js"

/** @typedef {import("./images.js").ImagePart} ImagePart */

/**
 * Show images in `list`, each with a button that removes it where `remove` is given.
 *
 * @param {HTMLElement} list
 * @param {readonly ImagePart[]} images
 * @param {(index: number) => void} [remove]
 */
export function showThumbs(list, images, remove) {
  list.hidden = images.length === 0
  list.replaceChildren(...images.map((image, index) => {
    const label = texts.imageNumber(index + 1, images.length)
    const open = make("button", { type: "button", class: "thumb", "aria-label": texts.enlarge(label) }, picture(image, label))
    open.addEventListener("click", () => enlarge(image, label))
    const item = make("li", {}, open)
    if (!remove) return item
    const drop = make("button", { type: "button", class: "remove", "aria-label": texts.remove(label), title: texts.removeTitle }, "\u00d7")
    drop.addEventListener("click", () => remove(index))
    item.append(drop)
    return item
  }))
}

/** @param {ImagePart} image @param {string} alt */
function picture({ mediaType, data }, alt) {
  return make("img", { src: `data:${mediaType};base64,${data}`, alt, width: "96", height: "96" })
}

/** Show an image as large as the window; Escape or a click closes it, and the focus goes back to where it was. */
/** @param {ImagePart} image @param {string} alt */
function enlarge(image, alt) {
  const large = make("dialog", { class: "large", "aria-label": alt }, picture(image, alt))
  const close = make("button", { type: "button", class: "remove", "aria-label": texts.close }, "\u00d7")
  large.append(close)
  large.addEventListener("click", () => large.close())
  large.addEventListener("close", () => large.remove())
  document.body.append(large)
  large.showModal()
}
