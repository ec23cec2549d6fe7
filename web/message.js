/** A question and an answer as elements: what was said, and below it what can be done with it. */

import { make, say, setText } from "./dom.js"
import { copyButton } from "./copy.js"
import { PARTS } from "./parts.js"
import { showThumbs } from "./thumbs.js"
import { canContinue } from "./shown.js"
import { answerText } from "./transcript.js"
import { texts } from "./texts.js"

/** @typedef {import("./shown.js").Message} Message */
/** @typedef {import("./shown.js").UserMessage} UserMessage */
/** @typedef {import("./shown.js").AssistantMessage} AssistantMessage */
/** @typedef {import("./transcript.js").Transcript} Transcript */
/** @typedef {import("./transcript.js").Failure} Failure */
/**
 * @typedef {object} Deeds what the reader can do with messages
 * @property {() => void} retry
 * @property {() => void} continue
 * @property {(messageId: string) => void} regenerate
 * @property {(messageId: string, text: string, images: import("./shown.js").Question["images"], files: import("./shown.js").Question["files"]) => boolean} edit
 * @property {() => string} blindness why the model takes no images, "" where it does
 * @property {(messageId: string, index: number) => void} selectBranch
 */
/** @typedef {import("./parts.js").Tools & { deeds: Deeds }} Tools */
/** @typedef {{ element: HTMLElement, update: (message: any) => void }} MessageView */

let count = 0

/** @type {Record<Message["role"], (tools: Tools) => MessageView>} */
export const MESSAGES = {
  user: createQuestion,
  assistant: createAnswer,
}

/** @param {Tools} tools @returns {MessageView} */
function createQuestion({ deeds }) {
  /** @type {UserMessage} */
  let message
  const text = make("div", { class: "bubble", dir: "auto" })
  const thumbs = make("ul", { class: "thumbs", "aria-label": texts.attached })
  const edit = quiet(texts.edit, "change edit", async () => {
    const { openEditor } = await import("./editor.js")
    openEditor(said, edit, message, { save: (...changed) => deeds.edit(message.id, ...changed), blindness: deeds.blindness })
  })
  const branches = createBranches((index) => deeds.selectBranch(message.id, index))
  const time = createTime()
  const foot = make("div", { class: "foot" }, branches.element, edit, time.element)
  const said = make("div", { class: "said" }, thumbs, text, foot)
  const element = make("article", { class: "message user", tabindex: "-1" }, make("h2", { class: "offscreen" }, texts.you), said)
  return {
    element,
    update(newMessage) {
      // A question stays as it was asked.
      if (!message) showThumbs(thumbs, newMessage)
      message = newMessage
      say(text, message.text)
      branches.update(message.branches)
      time.update(message.createdAt)
    },
  }
}

/** @param {Tools} tools @returns {MessageView} */
function createAnswer(tools) {
  /** @type {AssistantMessage} */
  let message
  let wasRunning = false
  let wasSeenRunning = false
  const { deeds } = tools
  // What was loaded is not news.
  const announce = (/** @type {string} */ text) => wasSeenRunning && tools.announce(text)
  const parts = make("div", { class: "parts" })
  const typing = make("div", { class: "typing" })
  const ending = make("p", { class: "notice ending", hidden: "" })
  const error = make("div", { class: "error-place" })
  const branches = createBranches((index) => deeds.selectBranch(message.id, index))
  const copy = copyButton(texts.copy, () => answerText(message.transcript))
  const proceed = quiet(texts.continue, "continue", deeds.continue)
  const again = quiet(texts.regenerate, "change", () => deeds.regenerate(message.id))
  const time = createTime()
  const details = createDetails()
  const foot = make("div", { class: "foot", hidden: "" }, branches.element, proceed, copy, again, details.button, time.element)
  const element = make("article", { class: "message assistant", tabindex: "-1" }, make("h2", { class: "offscreen" }, texts.assistant), parts, typing, ending, error, foot, details.element)
  const drawParts = createParts(parts, { ...tools, announce })
  const drawTyping = createTyping(typing)
  const drawError = createError(error, deeds.retry)
  return {
    element,
    update(newMessage) {
      message = newMessage
      const { transcript } = message
      const isRunning = ["waiting", "streaming"].includes(transcript.status)
      wasSeenRunning ||= isRunning
      const hasEnded = wasRunning && !isRunning
      wasRunning = isRunning
      element.setAttribute("aria-busy", String(isRunning))
      drawParts(transcript)
      drawTyping(transcript, isRunning)
      const end = endingOf(transcript)
      // Its receipt may come later, and is only to be read. An error speaks for itself, and so does a question.
      if (hasEnded && transcript.outcome !== "paused") announce(end || (transcript.error ? "" : texts.answered))
      say(ending, end)
      drawError(transcript.error, wasSeenRunning)
      branches.update(message.branches)
      time.update(message.createdAt)
      details.update(message)
      foot.hidden = isRunning
      // What is long need not be put together for each piece.
      if (isRunning) return
      copy.hidden = answerText(transcript) === ""
      proceed.hidden = !canContinue(message)
    },
  }
}

/** @param {string} label @param {string} kind @param {() => void} act */
function quiet(label, kind, act) {
  const button = make("button", { type: "button", class: `quiet ${kind}` }, label)
  button.addEventListener("click", act)
  return button
}

/** When something was said. */
function createTime() {
  const element = make("time", { class: "time", hidden: "" })
  return {
    element,
    /** @param {string} at */
    update(at) {
      if (!at || element.dateTime === at) return
      const date = new Date(at)
      element.hidden = false
      element.dateTime = at
      element.title = texts.fullTime(date)
      setText(element, texts.time(date))
    },
  }
}

/** What an answer was made with and came to, unfolded below it. */
function createDetails() {
  const id = `details-${++count}`
  const element = make("div", { class: "facts", id, hidden: "" })
  const button = quiet(texts.details, "details", () => void toggle())
  button.setAttribute("aria-expanded", "false")
  button.setAttribute("aria-controls", id)
  /** @type {AssistantMessage} */
  let message
  async function draw() {
    const { facts } = await import("./details.js")
    element.replaceChildren(facts(message))
  }
  async function toggle() {
    const isOpening = element.hidden
    if (isOpening) await draw()
    element.hidden = !isOpening
    button.setAttribute("aria-expanded", String(isOpening))
  }
  return {
    button,
    element,
    /** @param {AssistantMessage} newMessage */
    update(newMessage) {
      message = newMessage
      if (!element.hidden) void draw()
    },
  }
}

/** The switch between what stands beside each other. */
/** @param {(index: number) => void} select */
function createBranches(select) {
  /** @type {import("./shown.js").Branches} */
  let shown = { index: 0, count: 1 }
  const back = quiet("\u2039", "step", () => select(shown.index - 1))
  const forth = quiet("\u203a", "step", () => select(shown.index + 1))
  back.setAttribute("aria-label", texts.previous)
  forth.setAttribute("aria-label", texts.next)
  const number = make("span")
  const element = make("div", { class: "branches", role: "group", hidden: "" }, back, number, forth)
  return {
    element,
    /** @param {import("./shown.js").Branches} branches */
    update(branches) {
      const { index, count } = branches
      shown = branches
      element.hidden = count < 2
      element.setAttribute("aria-label", texts.branchLabel(index + 1, count))
      setText(number, texts.branch(index + 1, count))
      back.disabled = index <= 0
      forth.disabled = index >= count - 1
    },
  }
}

/** @param {HTMLElement} container @param {Tools} tools */
function createParts(container, tools) {
  /** @type {{ part: import("./transcript.js").Part, view: import("./parts.js").PartView }[]} */
  let shown = []
  /** @param {Transcript} transcript */
  return ({ parts }) => {
    // What only grew keeps its element; what was replaced goes with all that follows it.
    const same = shown.findIndex(({ part }, index) => !grewFrom(part, parts[index]))
    for (const { view } of shown.slice(same === -1 ? shown.length : same)) view.element.remove()
    shown = parts.map((part, index) => {
      const old = same === -1 || index < same ? shown[index] : undefined
      if (old?.part === part) return old
      const view = old?.view ?? PARTS[part.kind](tools)
      view.update(part)
      if (!old) container.append(view.element)
      return { part, view }
    })
  }
}

/** @param {import("./transcript.js").Part} before @param {import("./transcript.js").Part | undefined} after */
function grewFrom(before, after) {
  if (before === after) return true
  if (before.kind === "text") return after?.kind === "text" && after.text.startsWith(before.text)
  return before.kind === after?.kind && (before.kind !== "tool" || (after.kind === "tool" && before.id === after.id))
}

/** @param {HTMLElement} typing */
function createTyping(typing) {
  const wait = make("span", { class: "typing-wait" })
  const dots = make("span", { class: "dots", role: "img", "aria-label": texts.typing }, make("i"), make("i"), make("i"))
  typing.append(dots, wait)
  /** @param {Transcript} transcript @param {boolean} isRunning */
  return ({ parts, retry, isStopping }, isRunning) => {
    const isSilent = !parts.some((part) => part.isOpen && (part.kind !== "tool" || part.state === "running"))
    typing.hidden = !isRunning || !(isSilent || retry || isStopping)
    const what = retry && (texts.errors[retry.code] ?? texts.errors.internal)
    const waiting = retry && what ? texts.tryingAgain(what, Math.ceil(retry.delayMs / 1000)) : ""
    setText(wait, isStopping ? texts.stopping : waiting)
  }
}

/** Say in words how a run ended, where it did not simply end. */
/** @param {Transcript} transcript */
function endingOf({ status, outcome, finishReason, usage, receipt, parts }) {
  if (status !== "done") return ""
  if (outcome === "stopped") {
    const spent = receipt?.usage ?? usage
    return texts.stopped(receipt?.upstreamClosedMs, spent?.outputTokens ?? null, Boolean(spent?.estimated ?? receipt?.estimated), spent?.providerToolCalls ?? 0)
  }
  if (outcome === "paused" && !parts.some((part) => part.kind === "tool" && part.state === "waiting")) return ""
  return texts.endings[outcome] ?? texts.endings[finishReason] ?? ""
}

/** @param {HTMLElement} place @param {() => void} retry */
function createError(place, retry) {
  /** @type {Failure | null} */
  let shown = null
  /** @param {Failure | null} failure @param {boolean} isNew what was loaded is no alarm */
  return (failure, isNew) => {
    if (failure === shown) return
    shown = failure
    place.replaceChildren(...(failure ? [errorBox(failure, retry, isNew)] : []))
  }
}

/** @param {Failure} failure @param {() => void} retry @param {boolean} isNew */
function errorBox({ code, message, requestId }, retry, isNew) {
  const words = message || `${texts.errors[code] ?? texts.errors.internal}.`
  const text = make("div", { class: "error-text" }, make("p", {}, words))
  if (requestId) text.append(make("p", { class: "request-id" }, texts.requestId(requestId)))
  const button = make("button", { type: "button", class: "retry" }, texts.retry)
  button.addEventListener("click", retry)
  return make("div", { class: "error", ...(isNew && { role: "alert" }) }, text, button)
}
