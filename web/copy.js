/** A button that copies a text, also where the page is not served from a secure context. */

import { make } from "./dom.js"
import { texts } from "./texts.js"

const SHOWN_MS = 1500

/**
 * Create the button; `source` is asked for the text at each click.
 *
 * @param {string} label
 * @param {() => string} source
 */
export function copyButton(label, source) {
  const button = make("button", { type: "button", class: "quiet copy", "aria-label": label }, texts.copy)
  button.addEventListener("click", async () => {
    if (!(await copy(source()))) return
    button.textContent = texts.copied
    document.querySelector("#announcer")?.append(make("p", {}, texts.copied))
    setTimeout(() => (button.textContent = texts.copy), SHOWN_MS)
  })
  return button
}

/** @param {string} text */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    return copySelected(text)
  }
}

/** navigator.clipboard is missing on http://192.168.x.y, as a phone in the same network opens it. */
/** @param {string} text */
function copySelected(text) {
  const area = make("textarea", { class: "offscreen", readonly: "", "aria-hidden": "true", tabindex: "-1" })
  const focused = document.activeElement
  area.value = text
  document.body.append(area)
  area.select()
  const isCopied = document.execCommand("copy")
  area.remove()
  if (focused instanceof HTMLElement) focused.focus()
  return isCopied
}
