/** A dialog over the page: it has a name and a way to close it, and gives the focus back. Loaded when one is opened. */

import { make } from "./dom.js"
import { loadStyle } from "./styles.js"
import { texts } from "./texts.js"

/**
 * Open a dialog; returns it, and a promise that resolves when it is closed and gone.
 *
 * @param {string} name what it is for: the style's class, and its id
 * @param {string} heading
 * @param {...(Node | string)} content
 */
export async function openDialog(name, heading, ...content) {
  await loadStyle("panels.css")
  const close = make("button", { type: "button", class: "icon", "aria-label": texts.close, title: texts.close }, "\u00d7")
  const title = make("h2", { id: `${name}-title` }, heading)
  const dialog = make("dialog", { id: name, class: "panel", "aria-labelledby": title.id }, make("div", { class: "panel-head" }, title, close), ...content)
  const closed = new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove()
      resolve(undefined)
    })
  })
  close.addEventListener("click", () => dialog.close())
  // A press beside it falls on its backdrop, which is the dialog's own; its content covers the rest.
  dialog.addEventListener("mousedown", (event) => {
    const { left, right, top, bottom } = dialog.getBoundingClientRect()
    const isInside = event.clientX >= left && event.clientX <= right && event.clientY >= top && event.clientY <= bottom
    if (event.target === dialog && !isInside) dialog.close()
  })
  document.body.append(dialog)
  dialog.showModal()
  return { dialog, closed }
}
