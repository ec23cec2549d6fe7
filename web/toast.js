/**
 * Words at the foot of the page about what was just done, with a way to undo it. They stay for a while, and for as long
 * as somebody points at them or is on them; Ctrl+Z undoes what was done last. Loaded with the first of them.
 */

import { make } from "./dom.js"
import { loadStyle } from "./styles.js"
import { texts } from "./texts.js"

/** @typedef {{ timer: number, before: Element | null, undo?: () => void, over?: () => void }} Toast `before` is where the focus was */

const SHOWN_MS = 12_000

/** @type {Map<HTMLElement, Toast>} */
const shown = new Map()
/** @type {HTMLElement | null} */
let region = null

/**
 * Show a text, with a button where what it tells of can be undone.
 *
 * @param {string} text
 * @param {(text: string) => void} announce
 * @param {() => void} [undo]
 * @param {() => void} [over] called when it was not undone
 */
export async function showToast(text, announce, undo, over) {
  await loadStyle("panels.css")
  region ??= createRegion()
  const close = make("button", { type: "button", class: "icon", "aria-label": texts.dismiss, title: texts.dismiss }, "\u00d7")
  const toast = make("div", { class: "toast" }, make("p", { dir: "auto" }, text), close)
  const once = undo && (() => {
    leave(toast, true)
    undo()
  })
  if (once) {
    const button = make("button", { type: "button", class: "undo" }, texts.undo)
    button.addEventListener("click", once)
    close.before(button)
  }
  close.addEventListener("click", () => leave(toast))
  shown.set(toast, { timer: 0, before: document.activeElement, undo: once, over })
  region.append(toast)
  region.showPopover()
  announce(undo ? `${text} ${texts.undoHint}` : text)
  if (!region.matches(":hover, :focus-within")) wait(toast)
}

/** @param {HTMLElement} toast */
function wait(toast) {
  const entry = shown.get(toast)
  if (entry) entry.timer = setTimeout(() => leave(toast), SHOWN_MS)
}

/** @param {HTMLElement} toast @param {boolean} [isUndone] */
function leave(toast, isUndone = false) {
  const entry = shown.get(toast)
  if (!entry) return
  clearTimeout(entry.timer)
  shown.delete(toast)
  const hadFocus = toast.contains(document.activeElement)
  toast.remove()
  if (shown.size === 0) region?.hidePopover()
  if (hadFocus && entry.before instanceof HTMLElement) entry.before.focus()
  if (!isUndone) entry.over?.()
}

/** Whether the key undoes what was written there. */
/** @param {Element | null} field */
function isWritten(field) {
  return (field instanceof HTMLInputElement || field instanceof HTMLTextAreaElement) && field.value !== ""
}

/** Above the page and the drawer, and next to the list by Tab. */
function createRegion() {
  const made = make("div", { id: "toasts", popover: "manual", role: "region", "aria-label": texts.toasts })
  const stay = () => shown.forEach(({ timer }) => clearTimeout(timer))
  const go = () => {
    stay()
    for (const toast of shown.keys()) wait(toast)
  }
  for (const name of ["pointerenter", "focusin"]) made.addEventListener(name, stay)
  for (const name of ["pointerleave", "focusout"]) made.addEventListener(name, go)
  document.addEventListener("keydown", (event) => {
    const target = event.target instanceof Element ? event.target : null
    const latest = [...shown].findLast(([, { undo }]) => undo)
    if (event.key === "Escape" && made.contains(target)) leave(/** @type {HTMLElement} */ (target?.closest(".toast")))
    if (event.key !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey || isWritten(target) || !latest) return
    event.preventDefault()
    latest[1].undo?.()
  })
  document.querySelector("#sidebar")?.after(made)
  return made
}
