/** Shows large what is attached: an image as large as the window, a text file whole, to be read and copied. */

import { copyButton } from "./copy.js"
import { openDialog } from "./dialog.js"
import { make } from "./dom.js"
import { texts } from "./texts.js"

/** Escape or a click closes it, and the focus goes back to where it was. */
/** @param {HTMLImageElement} picture @param {string} label */
export function enlarge(picture, label) {
  const close = make("button", { type: "button", class: "remove", "aria-label": texts.close }, "\u00d7")
  const large = make("dialog", { class: "large", "aria-label": label }, picture, close)
  large.addEventListener("click", () => large.close())
  large.addEventListener("close", () => large.remove())
  document.body.append(large)
  large.showModal()
}

/** @param {import("./shown.js").TextFile} file */
export async function showFile({ name, text }) {
  const whole = make("pre", { class: "whole", tabindex: "0", "aria-label": name, dir: "auto" }, text)
  await openDialog("file", name, whole, copyButton(texts.copy, () => text))
}
