/** Changes a question in its place: its images and a field with its text, which Enter sends and Escape leaves as it was. */

import { sends } from "./composer.js"
import { make } from "./dom.js"
import { showThumbs } from "./thumbs.js"
import { texts } from "./texts.js"

/**
 * Create the editor of what `place` holds.
 *
 * @param {HTMLElement} place hidden while the editor is open
 * @param {HTMLElement} opener has the focus again afterwards
 * @param {(text: string, images: import("./shown.js").Question["images"]) => boolean} save false where it cannot be done now: then the field stays
 */
export function createEditor(place, opener, save) {
  /** @param {import("./shown.js").Question} question */
  function open({ text, images }) {
    let kept = images
    const input = make("textarea", { "aria-label": texts.editLabel, rows: "1" })
    const cancel = make("button", { type: "button", class: "quiet" }, texts.cancel)
    const thumbs = make("ul", { class: "thumbs", "aria-label": texts.images })
    const form = make("form", { class: "editor" }, thumbs, input, make("div", {}, cancel, make("button", { class: "save" }, texts.save)))
    const end = () => {
      form.remove()
      place.hidden = false
      opener.focus()
    }
    const submit = () => {
      const isSame = input.value === text && kept === images
      if ((input.value.trim() !== "" || kept.length > 0) && (isSame || save(input.value, kept))) end()
    }
    const draw = () => showThumbs(thumbs, kept, (index) => {
      kept = kept.toSpliced(index, 1)
      draw()
      input.focus()
    })
    cancel.addEventListener("click", end)
    form.addEventListener("submit", (event) => {
      event.preventDefault()
      submit()
    })
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.isComposing) end()
      else if (event.target === input && sends(event)) submit()
      else return
      event.preventDefault()
    })
    draw()
    input.value = text
    place.hidden = true
    place.after(form)
    // Where the field grows by itself, nothing is measured.
    if (!CSS.supports("field-sizing", "content")) input.style.height = `${input.scrollHeight}px`
    input.focus()
    input.setSelectionRange(text.length, text.length)
  }
  return { open }
}
