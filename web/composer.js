/**
 * The field in which a question is written. Enter sends, Shift+Enter begins a line; on a phone Enter begins a line, as
 * its keyboard has no Shift+Enter, and the button sends. Enter never sends while an input method is composing: it then
 * picks a candidate. Chrome and Firefox mark that keydown `isComposing`; Safari ends the composition before the keydown,
 * which only its keyCode of 229 still gives away: https://bugs.webkit.org/show_bug.cgi?id=165004
 *
 * While an answer is being written, what is sent waits for its end (`queue.js`). What is not sent is kept (`drafts.js`):
 * it is written down when the reader pauses or leaves, and is there again after a reload or with its conversation.
 */

import { Attachments, NONE, acceptFiles } from "./attach.js"
import { lazy } from "./lazy.js"
import { say } from "./dom.js"
import { texts } from "./texts-first.js"

const COMPOSING_KEY_CODE = 229
const PAUSE_MS = 500

/**
 * Return true for the key that sends.
 *
 * @param {Pick<KeyboardEvent, "key" | "shiftKey" | "ctrlKey" | "metaKey" | "isComposing" | "keyCode">} event
 * @param {boolean} [isTouch] whether the reader has a finger and no mouse
 */
export function sends(event, isTouch = false) {
  if (event.key !== "Enter" || event.isComposing || event.keyCode === COMPOSING_KEY_CODE) return false
  return event.ctrlKey || event.metaKey || !(event.shiftKey || isTouch)
}

/** @param {string} pointer */
export function hasPointer(pointer) {
  return matchMedia(`(pointer: ${pointer})`).matches
}

/** @typedef {import("./chat.js").Queued} Queued */
/** @typedef {import("./shown.js").Question} Question */
/** @typedef {ReturnType<typeof import("./chat.js").createChat>} Chat */
/** @typedef {{ form: HTMLFormElement, input: HTMLTextAreaElement, attach: HTMLButtonElement, files: HTMLInputElement, thumbs: HTMLUListElement, queue: HTMLUListElement, note: HTMLElement, send: HTMLButtonElement, stop: HTMLButtonElement }} Elements */
/**
 * @typedef {object} Around
 * @property {Chat} chat
 * @property {(text: string, images: Question["images"], files: Question["files"]) => boolean} send false where it cannot be done now
 * @property {(id: string) => boolean} sendQueued
 * @property {{ get: (id: string) => Question | undefined, set: (id: string, question: Question | undefined) => unknown }} drafts
 * @property {(words: string) => void} announce
 * @property {() => string} blindness why the model takes no images, "" where it does
 * @property {() => void} editLast
 */

/**
 * Join the form to a chat.
 *
 * @param {Elements} elements
 * @param {Around} around
 */
export function createComposer(elements, around) {
  const { form, input, attach, files } = elements
  const composer = new Composer(elements, around)
  form.addEventListener("submit", (event) => {
    event.preventDefault()
    composer.submit()
  })
  input.addEventListener("keydown", (event) => {
    if (composer.press(event)) event.preventDefault()
  })
  input.addEventListener("input", () => composer.changed())
  elements.stop.addEventListener("click", () => void around.chat.stop())
  files.addEventListener("change", () => {
    void composer.add([...(files.files ?? [])])
    files.value = ""
  })
  attach.addEventListener("click", () => files.click())
  acceptFiles(input, window, form, (added) => void composer.add(added))
  addEventListener("pagehide", () => composer.keep())
  document.addEventListener("visibilitychange", () => composer.keep())
  input.enterKeyHint = hasPointer("coarse") ? "enter" : "send"
  input.disabled = false
  composer.resize()
  return composer
}

class Composer {
  #elements
  #around
  #attachments
  /** Whether it is to be sent as soon as the files are read. */
  #isSent = false
  /** Whether it differs from what was kept. */
  #isChanged = false
  #timer = 0
  #visit = {}
  #conversationId = ""
  #drawn = ""
  /** @type {readonly Queued[]} */
  #queued = []
  #queue = lazy(async () => {
    const deeds = {
      edit: (/** @type {string} */ id) => this.#takeBack(id),
      remove: (/** @type {string} */ id) => void (this.#around.chat.unqueue(id), this.focus()),
      send: (/** @type {string} */ id) => void (this.#around.sendQueued(id), this.focus()),
    }
    return (await import("./queue.js")).createQueue(this.#elements.queue, deeds)
  })

  /** @param {Elements} elements @param {Around} around */
  constructor(elements, around) {
    this.#elements = elements
    this.#around = around
    const changed = () => this.changed()
    const { blindness } = around
    this.#attachments = new Attachments(elements.thumbs, elements.input, { say: (words) => this.#say(words), changed, blindness })
  }

  /** Send what is written, or let it wait for the end of the answer. */
  submit() {
    const { chat, send, announce, blindness } = this.#around
    if (this.#attachments.isReading) return void (this.#isSent = true)
    if (this.#isEmpty()) return
    const { text, images, files } = this.#question()
    if (images.length > 0 && blindness()) return this.#say(blindness())
    if (chat.isLoading) {
      chat.enqueue(text, images, files)
      announce(texts.queued)
    } else if (!send(text, images, files)) return
    this.#say("")
    this.#put({ text: "", ...NONE })
    this.keep()
    this.focus()
  }

  /** Do what a key is for; false where it is for nothing here. */
  /** @param {KeyboardEvent} event */
  press(event) {
    const { chat, editLast } = this.#around
    const last = chat.queued.at(-1)
    if (sends(event, hasPointer("coarse"))) this.submit()
    else if (event.key !== "ArrowUp" || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || !this.#isEmpty()) return false
    else if (last) this.#takeBack(last.id)
    else editLast()
    return true
  }

  /** @param {File[]} files */
  async add(files) {
    const isAll = await this.#attachments.add(files)
    if (isAll && this.#isSent) this.submit()
    this.#isSent &&= this.#attachments.isReading
  }

  /** Note that something was written; it is kept at the next pause, so that a key costs nothing. */
  changed() {
    this.#isChanged = true
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.keep(), PAUSE_MS)
    this.resize()
  }

  /** Keep what is written for another time. */
  keep() {
    clearTimeout(this.#timer)
    if (!this.#isChanged) return
    this.#isChanged = false
    const question = this.#question()
    const isNothing = question.text === "" && this.#attachments.count === 0
    this.#around.drafts.set(this.#conversationId, isNothing ? undefined : question)
  }

  resize() {
    const { input, send } = this.#elements
    const isEmpty = this.#isEmpty()
    const { isLoading, isOpening } = this.#around.chat
    send.disabled = isEmpty || isOpening
    // It is beside Stop only where there is something to queue.
    send.hidden = isLoading && isEmpty
    // Where the field grows by itself, nothing is measured.
    if (CSS.supports("field-sizing", "content")) return
    input.style.height = "auto"
    input.style.height = `${input.scrollHeight}px`
  }

  focus() {
    // On a phone the focus would open the keyboard over the answer.
    if (hasPointer("fine")) this.#elements.input.focus()
  }

  /** Put a question back that could not be sent; where something else is being written it waits. */
  /** @param {Question} question */
  giveBack({ text, images, files }) {
    if (this.#isEmpty()) this.#put({ text, images, files })
    else this.#around.chat.enqueue(text, images, files)
  }

  /** Be in step with the chat. */
  update() {
    const { chat } = this.#around
    if (chat.visit !== this.#visit) this.#enter()
    else if (chat.conversationId !== this.#conversationId) this.#rename()
    if (chat.queued !== this.#queued || this.#drawn !== `${chat.isLoading} ${chat.isOpening}`) this.#draw()
  }

  /** Another conversation is shown: what was written for the one before stays there. */
  #enter() {
    const { chat, drafts } = this.#around
    this.keep()
    this.#visit = chat.visit
    this.#conversationId = chat.conversationId
    this.#isSent = false
    this.#say("")
    this.#put(drafts.get(chat.conversationId) ?? { text: "", ...NONE })
    this.#isChanged = false
    clearTimeout(this.#timer)
  }

  /** The new conversation has got its name. */
  #rename() {
    const { chat, drafts } = this.#around
    drafts.set(this.#conversationId, undefined)
    this.#conversationId = chat.conversationId
    this.changed()
  }

  #draw() {
    const { chat } = this.#around
    const { input, stop, send } = this.#elements
    this.#drawn = `${chat.isLoading} ${chat.isOpening}`
    this.#queued = chat.queued
    const hadFocus = document.activeElement === stop
    stop.hidden = !chat.isLoading
    input.placeholder = chat.isLoading ? texts.placeholderQueue : texts.placeholder
    const name = chat.isLoading ? texts.queue : texts.save
    for (const attribute of ["aria-label", "title"]) send.setAttribute(attribute, name)
    this.resize()
    // Not on to Send, where a second Enter would press it.
    if (hadFocus && stop.hidden) this.focus()
    // It is there before the server can go away.
    if (chat.isLoading || this.#queued.length > 0 || this.#elements.queue.hasChildNodes()) void this.#drawQueue()
  }

  async #drawQueue() {
    const { chat } = this.#around
    // What fails is tried again with the next change.
    const draw = await this.#queue().catch(() => null)
    draw?.(chat.queued, !chat.isLoading && !chat.isOpening)
  }

  /** Put a question that waits back into the field, before what is there. */
  /** @param {string} id */
  #takeBack(id) {
    const waiting = this.#around.chat.unqueue(id)
    if (!waiting) return
    const { text, images, files } = this.#question()
    const both = [waiting.text, text].filter((one) => one.trim()).join("\n\n")
    this.#put({ text: both, images: [...waiting.images, ...images], files: [...waiting.files, ...files] })
    this.#elements.input.focus()
    this.#elements.input.setSelectionRange(waiting.text.length, waiting.text.length)
  }

  /** @returns {Question} */
  #question() {
    return { text: this.#elements.input.value, ...this.#attachments.attached }
  }

  /** @param {Question} question */
  #put({ text, images, files }) {
    this.#elements.input.value = text
    this.#attachments.replace({ images, files })
  }

  #isEmpty() {
    return this.#attachments.count === 0 && this.#elements.input.value.trim() === ""
  }

  /** @param {string} words */
  #say(words) {
    say(this.#elements.note, words)
  }
}
