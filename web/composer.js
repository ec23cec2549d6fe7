/**
 * The field in which a question is written. Enter sends, Shift+Enter begins a line. Enter never sends while an input
 * method is composing: it then picks a candidate. Chrome and Firefox mark that keydown `isComposing`; Safari ends the
 * composition before the keydown, which only its keyCode of 229 still gives away:
 * https://bugs.webkit.org/show_bug.cgi?id=165004
 *
 * Images are attached, pasted or dropped. What cannot be sent is said before it is tried.
 */

import { ACCEPTED, MAX_IMAGES, readImage } from "./images.js"
import { showThumbs } from "./thumbs.js"
import { texts } from "./texts.js"

const COMPOSING_KEY_CODE = 229

// The server takes 32 MiB in one request.
const MAX_DATA = 30_000_000

/**
 * Return true for the key that sends.
 *
 * @param {Pick<KeyboardEvent, "key" | "shiftKey" | "isComposing" | "keyCode">} event
 */
export function sends(event) {
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== COMPOSING_KEY_CODE
}

/**
 * Return the files that a paste is about: none where it is text of which some program made a picture too.
 *
 * @param {Pick<DataTransfer, "files" | "types"> | null} data
 */
export function pastedFiles(data) {
  // A table of a spreadsheet is both; a file of a file manager is its name too, but no HTML.
  const isText = ["text/plain", "text/html"].every((type) => data?.types.includes(type))
  return isText ? [] : [...(data?.files ?? [])]
}

/** @typedef {import("./images.js").ImagePart} ImagePart */
/** @typedef {{ form: HTMLFormElement, input: HTMLTextAreaElement, attach: HTMLButtonElement, files: HTMLInputElement, thumbs: HTMLUListElement, note: HTMLElement, send: HTMLButtonElement, stop: HTMLButtonElement }} Elements */
/** @typedef {(text: string, images: readonly ImagePart[]) => boolean} Send false where it cannot be done now */

/**
 * Join the form to a chat.
 *
 * @param {Elements} elements
 * @param {{ send: Send, stop: () => void }} chat
 */
export function createComposer(elements, chat) {
  const { form, input, attach, files } = elements
  const composer = new Composer(elements, chat.send)
  form.addEventListener("submit", (event) => {
    event.preventDefault()
    composer.submit()
  })
  input.addEventListener("keydown", (event) => {
    if (!sends(event)) return
    event.preventDefault()
    composer.submit()
  })
  input.addEventListener("input", () => composer.resize())
  input.addEventListener("paste", (event) => {
    const pasted = pastedFiles(event.clipboardData)
    if (pasted.length === 0) return
    event.preventDefault()
    void composer.add(pasted)
  })
  elements.stop.addEventListener("click", chat.stop)
  files.accept = ACCEPTED
  files.addEventListener("change", () => {
    void composer.add([...(files.files ?? [])])
    files.value = ""
  })
  attach.addEventListener("click", () => composer.canAdd() && files.click())
  acceptDrops(form, (dropped) => void composer.add(dropped))
  input.disabled = false
  composer.resize()
  return composer
}

/** A file is dropped anywhere: where the page did not take it, the browser would leave the page for it. */
/** @param {HTMLElement} target shows that it can be @param {(files: File[]) => void} add */
function acceptDrops(target, add) {
  const show = (/** @type {boolean} */ isOver) => target.classList.toggle("dropping", isOver)
  target.dataset.drop = texts.drop
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return
    event.preventDefault()
    show(true)
  })
  addEventListener("dragleave", (event) => event.relatedTarget || show(false))
  addEventListener("drop", (event) => {
    show(false)
    if (!event.dataTransfer?.types.includes("Files")) return
    event.preventDefault()
    add([...event.dataTransfer.files])
  })
}

class Composer {
  #elements
  #send
  #isLoading = false
  #isOpening = false
  /** @type {readonly ImagePart[]} */
  #images = []
  /** What is still to be read. @type {File[]} */
  #files = []
  #isReading = false
  /** Whether it is to be sent as soon as the images are read. */
  #isSent = false

  /** @param {Elements} elements @param {Send} send */
  constructor(elements, send) {
    this.#elements = elements
    this.#send = send
  }

  submit() {
    const { input } = this.#elements
    if (this.#isReading) return void (this.#isSent = true)
    if (this.#isEmpty() || (this.#images.length > 0 && !this.canAdd()) || !this.#send(input.value, this.#images)) return
    input.value = ""
    this.#show([])
  }

  /** Say why no image can be sent now, if so. */
  canAdd() {
    const { attach, input } = this.#elements
    const isBlind = attach.getAttribute("aria-disabled") === "true"
    this.#say(isBlind ? attach.title : input.disabled ? texts.placeholderLoading : "")
    return !isBlind && !input.disabled
  }

  /** @param {File[]} files */
  async add(files) {
    if (files.length === 0 || !this.canAdd()) return
    this.#files.push(...files)
    if (this.#isReading) return
    this.#isReading = true
    const problems = []
    for (let file = this.#files.shift(); file; file = this.#files.shift()) {
      const { name } = file
      // A folder is a file too, until it is read.
      const image = this.#images.length < MAX_IMAGES ? await readImage(file).catch(() => texts.brokenImage(name)) : texts.tooManyImages(MAX_IMAGES)
      const size = [...this.#images, image].reduce((sum, each) => sum + (typeof each === "string" ? 0 : each.data.length), 0)
      if (typeof image === "string") problems.push(image)
      else if (size > MAX_DATA) problems.push(texts.tooMuch)
      else this.#show([...this.#images, image])
    }
    this.#isReading = false
    this.#say([...new Set(problems)].join(" "))
    if (this.#isSent && problems.length === 0) this.submit()
    this.#isSent = false
  }

  resize() {
    const { input, send } = this.#elements
    send.disabled = this.#isEmpty()
    // Where the field grows by itself, nothing is measured.
    if (CSS.supports("field-sizing", "content")) return
    input.style.height = "auto"
    input.style.height = `${input.scrollHeight}px`
  }

  focus() {
    // On a phone the focus would open the keyboard over the answer.
    if (matchMedia("(pointer: fine)").matches) this.#elements.input.focus()
  }

  /** Put a question back that could not be sent. */
  /** @param {import("./shown.js").Question} question */
  giveBack({ text, images }) {
    const { input } = this.#elements
    if (!this.#isEmpty()) return
    input.value = text
    this.#show(images)
  }

  /** @param {boolean} isLoading whether an answer is @param {boolean} isOpening whether a conversation is */
  update(isLoading, isOpening) {
    if (isLoading === this.#isLoading && isOpening === this.#isOpening) return
    const { input, attach, send, stop } = this.#elements
    const wasLoading = this.#isLoading
    this.#isLoading = isLoading
    this.#isOpening = isOpening
    attach.disabled = input.disabled = isLoading || isOpening
    input.placeholder = isLoading ? texts.placeholderLoading : texts.placeholder
    stop.hidden = !isLoading
    send.hidden = isLoading
    this.#say("")
    this.resize()
    // A disabled field loses the focus; it does not go to Stop, where a second Enter would press it. It comes back
    // unless the reader is elsewhere: in another element, or selecting text, which a focus would undo.
    const isElsewhere = document.activeElement !== document.body || document.getSelection()?.type === "Range"
    if (wasLoading && !input.disabled && !isElsewhere) this.focus()
  }

  #isEmpty() {
    const { input } = this.#elements
    return input.disabled || (input.value.trim() === "" && this.#images.length === 0)
  }

  /** @param {readonly ImagePart[]} images */
  #show(images) {
    this.#images = images
    showThumbs(this.#elements.thumbs, images, (index) => {
      this.#show(images.toSpliced(index, 1))
      this.#say("")
      this.#elements.input.focus()
    })
    this.resize()
  }

  /** @param {string} words */
  #say(words) {
    const { note } = this.#elements
    note.textContent = words
    note.hidden = words === ""
  }
}
