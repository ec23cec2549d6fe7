/**
 * The field in which a question is written. Enter sends, Shift+Enter begins a line. Enter never sends while an input
 * method is composing: it then picks a candidate. Chrome and Firefox mark that keydown `isComposing`; Safari ends the
 * composition before the keydown, which only its keyCode of 229 still gives away:
 * https://bugs.webkit.org/show_bug.cgi?id=165004
 */

import { texts } from "./texts.js"

const COMPOSING_KEY_CODE = 229

/**
 * Return true for the key that sends.
 *
 * @param {Pick<KeyboardEvent, "key" | "shiftKey" | "isComposing" | "keyCode">} event
 */
export function sends(event) {
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== COMPOSING_KEY_CODE
}

/** @typedef {{ form: HTMLFormElement, input: HTMLTextAreaElement, send: HTMLButtonElement, stop: HTMLButtonElement }} Elements */

/**
 * Join the form to a chat.
 *
 * @param {Elements} elements
 * @param {{ send: (text: string) => boolean, stop: () => void }} chat `send` is false where it cannot be done now
 */
export function createComposer(elements, chat) {
  const composer = new Composer(elements, chat.send)
  elements.form.addEventListener("submit", (event) => {
    event.preventDefault()
    composer.submit()
  })
  elements.input.addEventListener("keydown", (event) => {
    if (!sends(event)) return
    event.preventDefault()
    composer.submit()
  })
  elements.input.addEventListener("input", () => composer.resize())
  elements.stop.addEventListener("click", chat.stop)
  elements.input.disabled = false
  composer.resize()
  return composer
}

class Composer {
  #elements
  #send
  #isLoading = false
  #isOpening = false

  /** @param {Elements} elements @param {(text: string) => boolean} send */
  constructor(elements, send) {
    this.#elements = elements
    this.#send = send
  }

  submit() {
    const { input } = this.#elements
    const text = input.value
    if (input.disabled || text.trim() === "" || !this.#send(text)) return
    input.value = ""
    this.resize()
  }

  resize() {
    const { input, send } = this.#elements
    send.disabled = input.disabled || input.value.trim() === ""
    // Where the field grows by itself, nothing is measured.
    if (CSS.supports("field-sizing", "content")) return
    input.style.height = "auto"
    input.style.height = `${input.scrollHeight}px`
  }

  focus() {
    // On a phone the focus would open the keyboard over the answer.
    if (matchMedia("(pointer: fine)").matches) this.#elements.input.focus()
  }

  /** Put a text back that could not be sent. */
  /** @param {string} text */
  giveBack(text) {
    const { input } = this.#elements
    input.value ||= text
    this.resize()
  }

  /** @param {boolean} isLoading whether an answer is @param {boolean} isOpening whether a conversation is */
  update(isLoading, isOpening) {
    if (isLoading === this.#isLoading && isOpening === this.#isOpening) return
    const { input, send, stop } = this.#elements
    const wasLoading = this.#isLoading
    this.#isLoading = isLoading
    this.#isOpening = isOpening
    input.disabled = isLoading || isOpening
    input.placeholder = isLoading ? texts.placeholderLoading : texts.placeholder
    stop.hidden = !isLoading
    send.hidden = isLoading
    this.resize()
    // A disabled field loses the focus; it does not go to Stop, where a second Enter would press it. It comes back
    // unless the reader is elsewhere: in another element, or selecting text, which a focus would undo.
    const isElsewhere = document.activeElement !== document.body || document.getSelection()?.type === "Range"
    if (wasLoading && !input.disabled && !isElsewhere) this.focus()
  }
}
