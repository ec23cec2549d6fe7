/** What is attached to a question while it is written: chosen, pasted or dropped, shown as it is read, and taken away again. */

import { texts } from "./texts-first.js"

/** @typedef {import("./files.js").Attached} Attached */

// What is larger takes a moment to read.
const LARGE = 1_000_000

/** @type {Attached} */
export const NONE = { images: [], files: [] }

export class Attachments {
  isReading = false
  attached = NONE
  #list
  #field
  #around
  /** What is still to be read. @type {File[]} */
  #waiting = []

  /** @param {HTMLElement} list @param {HTMLElement} field has the focus when something was removed @param {{ say: (words: string) => void, changed: () => void, blindness: () => string }} around */
  constructor(list, field, around) {
    this.#list = list
    this.#field = field
    this.#around = around
  }

  get count() {
    return this.attached.images.length + this.attached.files.length
  }

  /** Add files, one after the other; returns whether all could be. */
  /** @param {readonly File[]} files */
  async add(files) {
    this.#waiting.push(...files)
    if (files.length === 0 || this.isReading) return false
    this.isReading = true
    const waiting = this.#waiting
    const problems = new Set()
    for (let file = waiting.shift(); file; file = waiting.shift()) {
      const problem = await this.#read(file, waiting)
      if (problem) problems.add(problem)
    }
    if (waiting !== this.#waiting) return false
    this.isReading = false
    this.#around.say([...problems].join(" "))
    return problems.size === 0
  }

  /** @param {File} file @param {File[]} waiting @returns {Promise<string>} why it cannot be attached */
  async #read(file, waiting) {
    const { name, size } = file
    if (size > LARGE) this.#around.say(texts.reading(name))
    try {
      const { attach } = await import("./files.js")
      const attached = await attach(file, this.attached, this.#around.blindness())
      if (typeof attached === "string") return attached
      if (waiting === this.#waiting) await this.#show(attached)
    } catch {
      // A folder is a file too, until it is read.
      return texts.unreadable(name)
    }
    return ""
  }

  /** Show what is attached to another question; what is being read was for the one before. */
  /** @param {Attached} attached */
  replace({ images, files }) {
    this.#waiting = []
    this.isReading = false
    void this.#show({ images, files })
  }

  /** @param {Attached} attached */
  async #show(attached) {
    const isNothing = this.count === 0
    this.attached = attached
    this.#around.changed()
    if (isNothing && this.count === 0) return
    const { showThumbs, styled } = await import("./thumbs.js")
    await styled
    if (attached !== this.attached) return
    showThumbs(this.#list, attached, (rest) => {
      void this.#show(rest)
      this.#around.say("")
      this.#field.focus()
    })
  }
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

/** Call `add` with files that are pasted into `field`, or dropped on `zone`, which `form` shows. */
/** @param {HTMLElement} field @param {Window | HTMLElement} zone @param {HTMLElement} form @param {(files: File[]) => void} add */
export function acceptFiles(field, zone, form, add) {
  field.addEventListener("paste", (event) => {
    const pasted = pastedFiles(event.clipboardData)
    if (pasted.length === 0) return
    event.preventDefault()
    add(pasted)
  })
  const show = (/** @type {boolean} */ isOver) => form.classList.toggle("dropping", isOver)
  form.dataset.drop = texts.drop
  /** @param {(event: DragEvent) => void} take */
  const taking = (take) => (/** @type {any} */ event) => {
    // A zone within this one has taken it.
    if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return void show(false)
    // Where the page did not take a file, the browser would leave the page for it.
    event.preventDefault()
    take(event)
  }
  zone.addEventListener("dragover", taking(() => show(true)))
  zone.addEventListener("dragleave", (/** @type {any} */ event) => {
    if (!event.relatedTarget || (zone instanceof Node && !zone.contains(event.relatedTarget))) show(false)
  })
  zone.addEventListener("drop", taking((event) => {
    show(false)
    add([...(event.dataTransfer?.files ?? [])])
  }))
}
