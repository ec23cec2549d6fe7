/**
 * Shows the messages of a chat. It keeps one element per message and one per part and only ever adds to them, so a
 * selection survives, and a finished message costs a comparison. Drawn at most once per frame.
 */

import { make, setText } from "./dom.js"
import { copyButton } from "./copy.js"
import { PARTS } from "./parts.js"
import { answerText } from "./transcript.js"
import { texts } from "./texts.js"

/** @typedef {import("./chat.js").Message} Message */
/** @typedef {import("./chat.js").UserMessage} UserMessage */
/** @typedef {import("./chat.js").AssistantMessage} AssistantMessage */
/** @typedef {import("./transcript.js").Transcript} Transcript */
/** @typedef {import("./transcript.js").Failure} Failure */
/** @typedef {import("./parts.js").Tools & { retry: () => void }} Tools */
/** @typedef {{ element: HTMLElement, update: (message: any) => void }} MessageView */

/**
 * Create a view that draws into `list`.
 *
 * @param {HTMLElement} list
 * @param {Tools} tools
 * @returns {(messages: readonly Message[]) => void}
 */
export function createView(list, tools) {
  /** @type {{ message: Message, view: MessageView }[]} */
  let shown = []

  return (messages) => {
    // A message that was replaced (a second try) or is gone (a new conversation) goes with all that follow it.
    const kept = shown.findIndex(({ message }, index) => message.id !== messages[index]?.id)
    for (const { view } of shown.slice(kept === -1 ? shown.length : kept)) view.element.remove()
    shown = messages.map((message, index) => {
      const old = kept === -1 || index < kept ? shown[index] : undefined
      if (old?.message === message) return old
      const view = old?.view ?? MESSAGES[message.role](tools)
      view.update(message)
      if (!old) list.append(view.element)
      return { message, view }
    })
  }
}

/**
 * Return a function that calls `draw` at the next frame, however often it is called before that.
 *
 * @param {() => void} draw
 */
export function oncePerFrame(draw) {
  let isAsked = false
  return () => {
    if (isAsked) return
    isAsked = true
    requestAnimationFrame(() => {
      isAsked = false
      draw()
    })
  }
}

/** @type {Record<Message["role"], (tools: Tools) => MessageView>} */
const MESSAGES = {
  user: createQuestion,
  assistant: createAnswer,
}

/** @returns {MessageView} */
function createQuestion() {
  const text = make("div", { class: "bubble" })
  const element = make("article", { class: "message user" }, make("h2", { class: "offscreen" }, texts.you), text)
  return { element, update: (/** @type {UserMessage} */ message) => setText(text, message.text) }
}

/** @param {Tools} tools @returns {MessageView} */
function createAnswer(tools) {
  const parts = make("div", { class: "parts" })
  const typing = make("div", { class: "typing" })
  const ending = make("p", { class: "notice ending", hidden: "" })
  const foot = make("div", { class: "foot", hidden: "" })
  const title = make("h2", { class: "offscreen" }, texts.assistant)
  const element = make("article", { class: "message assistant" }, title, parts, typing, ending, foot)
  const drawParts = createParts(parts, tools)
  const drawTyping = createTyping(typing)
  let text = ""
  foot.append(copyButton(texts.copy, () => text))
  return {
    element,
    update({ transcript }) {
      const isRunning = transcript.status === "waiting" || transcript.status === "streaming"
      text = answerText(transcript)
      element.setAttribute("aria-busy", String(isRunning))
      drawParts(transcript)
      drawTyping(transcript, isRunning)
      const words = endingOf(transcript)
      ending.hidden = words === ""
      setText(ending, words)
      foot.hidden = isRunning || text === ""
      if (transcript.error && !element.querySelector(".error")) foot.before(errorBox(transcript.error, tools.retry))
    },
  }
}

/** @param {HTMLElement} container @param {Tools} tools */
function createParts(container, tools) {
  /** @type {{ part: import("./transcript.js").Part, view: import("./parts.js").PartView }[]} */
  let shown = []
  /** @param {Transcript} transcript */
  return ({ parts }) => {
    // Another try begins with no parts.
    for (const { view } of shown.slice(parts.length)) view.element.remove()
    shown = parts.map((part, index) => {
      const old = shown[index]
      if (old?.part === part) return old
      const view = old?.view ?? PARTS[part.kind](tools)
      view.update(part)
      if (!old) container.append(view.element)
      return { part, view }
    })
  }
}

/** @param {HTMLElement} typing */
function createTyping(typing) {
  const wait = make("span", { class: "typing-wait" })
  const dots = make("span", { class: "dots", role: "img", "aria-label": texts.typing }, make("i"), make("i"), make("i"))
  typing.append(dots, wait)
  /** @param {Transcript} transcript @param {boolean} isRunning */
  return ({ parts, retry }, isRunning) => {
    typing.hidden = !isRunning || parts.some((part) => part.isOpen)
    const what = retry && (texts.errors[retry.code] ?? texts.errors.internal)
    setText(wait, retry && what ? texts.tryingAgain(what, Math.ceil(retry.delayMs / 1000)) : "")
  }
}

/** Say in words how a run ended, where it did not simply end. */
/** @param {Transcript} transcript */
function endingOf({ status, outcome, finishReason }) {
  if (status !== "done") return ""
  return texts.endings[outcome] ?? texts.endings[finishReason] ?? ""
}

/** @param {Failure} failure @param {() => void} retry */
function errorBox({ code, message, requestId }, retry) {
  const words = message || `${texts.errors[code] ?? texts.errors.internal}.`
  const button = make("button", { type: "button", class: "retry" }, texts.retry)
  button.addEventListener("click", retry)
  const text = make("div", { class: "error-text" }, make("p", {}, words))
  if (requestId) text.append(make("p", { class: "request-id" }, texts.requestId(requestId)))
  return make("div", { class: "error", role: "alert" }, text, button)
}
