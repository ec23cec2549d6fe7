/** Changes a question in its place: what is attached, and a field with its text, which is sent as in the composer. Escape leaves it as it was. */

import { Attachments, acceptFiles } from "./attach.js"
import { hasPointer, sends } from "./composer.js"
import { make, say } from "./dom.js"
import { texts } from "./texts.js"

/** @typedef {import("./shown.js").Question} Question */
/** @typedef {{ save: (text: string, images: Question["images"], files: Question["files"]) => boolean, blindness: () => string }} Deeds `save` is false where it cannot be done now: then the field stays */

/**
 * Open the editor of the question that `place` shows.
 *
 * @param {HTMLElement} place hidden while the editor is open
 * @param {HTMLElement} opener has the focus again afterwards
 * @param {Question} question
 * @param {Deeds} deeds
 */
export function openEditor(place, opener, question, deeds) {
  if (place.hidden) return
  const { form, input, thumbs, note, chosen, add, cancel } = createForm()
  const tell = (/** @type {string} */ words) => say(note, words)
  const attachments = new Attachments(thumbs, input, { say: tell, changed: () => {}, blindness: deeds.blindness })
  attachments.replace(question)
  const { attached: before } = attachments
  const end = () => {
    form.remove()
    place.hidden = false
    opener.focus()
  }
  const submit = () => {
    const { attached, count, isReading } = attachments
    const isSame = input.value === question.text && attached === before
    if (isReading || (input.value.trim() === "" && count === 0)) return
    if (!isSame && attached.images.length > 0 && deeds.blindness()) return tell(deeds.blindness())
    if (isSame || deeds.save(input.value, attached.images, attached.files)) end()
  }
  cancel.addEventListener("click", end)
  add.addEventListener("click", () => chosen.click())
  chosen.addEventListener("change", () => {
    void attachments.add([...(chosen.files ?? [])])
    chosen.value = ""
  })
  acceptFiles(input, form, form, (files) => void attachments.add(files))
  listen(form, input, submit, end)
  place.hidden = true
  place.after(form)
  begin(form, input, question.text)
}

function createForm() {
  const input = make("textarea", { "aria-label": texts.editLabel, rows: "1", dir: "auto", enterkeyhint: hasPointer("coarse") ? "enter" : "send" })
  const thumbs = make("ul", { class: "thumbs", "aria-label": texts.attached })
  const note = make("p", { class: "note", role: "status", hidden: "" })
  const chosen = make("input", { type: "file", multiple: "", hidden: "" })
  const add = make("button", { type: "button", class: "quiet add" }, texts.attachShort)
  const cancel = make("button", { type: "button", class: "quiet" }, texts.cancel)
  const foot = make("div", {}, chosen, add, cancel, make("button", { class: "save" }, texts.save))
  return { form: make("form", { class: "editor" }, thumbs, input, note, foot), input, thumbs, note, chosen, add, cancel }
}

/** @param {HTMLFormElement} form @param {HTMLElement} input @param {() => void} submit @param {() => void} end */
function listen(form, input, submit, end) {
  form.addEventListener("submit", (event) => {
    event.preventDefault()
    submit()
  })
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.isComposing) end()
    else if (event.target === input && sends(event, hasPointer("coarse"))) submit()
    else return
    event.preventDefault()
  })
}

/** @param {HTMLElement} form @param {HTMLTextAreaElement} input @param {string} text */
function begin(form, input, text) {
  input.value = text
  // Where the field grows by itself, nothing is measured.
  if (!CSS.supports("field-sizing", "content")) input.style.height = `${input.scrollHeight}px`
  input.focus()
  form.scrollIntoView({ block: "nearest" })
  input.setSelectionRange(text.length, text.length)
}
