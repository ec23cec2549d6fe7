/**
 * The parts of an answer as elements: text, reasoning, tool cards, notices. `PARTS` is the table by kind; each entry
 * makes an element once and changes it as the part changes, it is never made anew.
 */

import { make, setText } from "./dom.js"
import { createPaint } from "./code.js"
import { safeLink } from "./links.js"
import { Reader } from "./speech.js"
import { texts } from "./texts.js"

/** @typedef {import("./transcript.js").Part} Part */
/** @typedef {import("./transcript.js").TextPart} TextPart */
/** @typedef {import("./transcript.js").ReasoningPart} ReasoningPart */
/** @typedef {import("./transcript.js").NoticePart} NoticePart */
/** @typedef {import("./transcript.js").SourcesPart} SourcesPart */
/** @typedef {import("./transcript.js").ToolPart} ToolPart */
/** @typedef {import("./tokens.js").Tree} Tree */

/**
 * @typedef {object} Tools what the parts need from outside
 * @property {import("./markdown.js").Markdown} markdown
 * @property {ReturnType<typeof import("./patch.js").createPatch>} patch
 * @property {(text: string) => void} announce
 * @property {(toolCallId: string, decision: "approve" | "deny") => void} decide
 */

/** @typedef {{ element: HTMLElement, update: (part: any) => void }} PartView */

const ONE_LINE = 72

/** @type {Record<Part["kind"], (tools: Tools) => PartView>} */
export const PARTS = {
  text: createText,
  reasoning: createReasoning,
  tool: createTool,
  notice: createNotice,
  sources: createSources,
}

/** @param {Tools} tools @returns {PartView} */
function createText({ markdown, patch, announce }) {
  const element = make("div", { class: "prose" })
  const stream = markdown.stream()
  const reader = new Reader(announce)
  let read = 0
  /** @type {Tree[]} */
  let shown = []
  return {
    element,
    update(/** @type {TextPart} */ part) {
      stream.push(part.text.slice(read))
      read = part.text.length
      const blocks = stream.blocks(!part.isOpen)
      patch(element, shown, blocks)
      shown = blocks
      reader.read(blocks, part.isOpen ? stream.settledCount() : blocks.length, !part.isOpen)
    },
  }
}

/** @returns {PartView} */
function createReasoning() {
  const summary = make("summary")
  const text = make("div", { class: "reasoning-text", dir: "auto" })
  const element = make("details", { class: "reasoning" }, summary, text)
  return {
    element,
    update(/** @type {ReasoningPart} */ part) {
      const seconds = Math.round((part.endedAt - part.startedAt) / 1000)
      const past = seconds > 0 ? texts.thought(seconds) : part.startedAt ? texts.thoughtBriefly : texts.thoughts
      element.dataset.open = String(part.isOpen)
      setText(summary, part.isOpen ? texts.thinking : past)
      setText(text, part.text)
    },
  }
}

/** @returns {PartView} */
function createNotice() {
  const element = make("p", { class: "notice" })
  return {
    element,
    update(/** @type {NoticePart} */ part) {
      setText(element, part.message || texts.errors[part.code] || part.code)
    },
  }
}

/** Where the text before it is from; what stands there is unfolded by a click. */
/** @returns {PartView} */
function createSources() {
  const list = make("ol")
  const element = make("div", { class: "sources", role: "group", "aria-label": texts.sources }, list)
  return {
    element,
    update(/** @type {SourcesPart} */ { sources }) {
      // What is there stays: it may be unfolded, or have the focus.
      list.append(...sources.slice(list.childElementCount).map(source))
    },
  }
}

/** @param {import("./transcript.js").Source} source */
function source({ url, title, text }) {
  const link = safeLink(url)
  const name = title || link?.host || url || texts.document
  const anchor = link && make("a", { href: link.href, target: "_blank", rel: "noopener noreferrer" }, name)
  const item = make("li", { dir: "auto" }, anchor ?? name)
  if (link && title) item.append(make("span", { class: "host" }, link.host))
  if (text) item.append(make("details", {}, make("summary", {}, texts.cited), make("blockquote", {}, text)))
  return item
}

/** @param {Tools} tools @returns {PartView} */
function createTool({ announce, decide }) {
  const name = make("span", { class: "tool-name" })
  const state = make("span", { class: "tool-state" })
  const duration = make("span", { class: "tool-duration" })
  const mark = make("span", { class: "tool-mark", "aria-hidden": "true" })
  const input = section(texts.toolArguments)
  const progress = section(texts.toolProgress)
  const result = section(texts.toolResult)
  const line = make("span", { class: "tool-line", dir: "auto" })
  const summary = make("summary", {}, mark, name, line, state, duration)
  const choice = createChoice(decide)
  const body = make("div", { class: "tool-body" }, input.element, progress.element, result.element, choice.element)
  const element = make("details", { class: "tool" }, summary, body)
  const paintInput = createPaint(input.text)
  const paintResult = createPaint(result.text)
  return {
    element,
    update(/** @type {ToolPart} */ part) {
      const known = state.textContent
      const words = part.state === "waiting" && part.wants === "result" ? texts.toolElsewhere : texts.toolState[part.state]
      element.dataset.state = part.state
      setText(name, part.isByProvider ? texts.providerTool(part.name) : part.name)
      setText(line, glance(part))
      setText(state, words)
      setText(duration, part.durationMs === null || part.state === "denied" ? "" : texts.duration(part.durationMs))
      input.show(part.inputText !== "" || part.input !== undefined)
      paintInput(part.input === undefined ? part.inputText : pretty(part.input), "json")
      progress.show(part.progress.length > 0)
      setText(progress.text, part.progress.join("\n"))
      result.show(part.result !== "")
      paintResult(part.result, /^\s*[[{]/.test(part.result) ? "json" : "")
      choice.update(part)
      if (part.state === "waiting") element.open = true
      if (known !== words) announce(`${name.textContent}: ${words}`)
    },
  }
}

/** The question whether a tool may run. */
/** @param {Tools["decide"]} decide */
function createChoice(decide) {
  let id = ""
  const buttons = /** @type {const} */ (["approve", "deny"]).map((decision) => {
    const button = make("button", { type: "button", class: decision }, texts[decision])
    button.addEventListener("click", () => decide(id, decision))
    return button
  })
  const question = make("span", {}, texts.approvalQuestion)
  const element = make("div", { class: "choice", hidden: "" }, question, ...buttons)
  return {
    element,
    /** @param {ToolPart} part */
    update(part) {
      // The keyboard's place goes with the button.
      const isLeft = part.isSending && element.querySelector(":focus-visible")
      if (isLeft) element.closest("details")?.querySelector("summary")?.focus()
      id = part.id
      element.hidden = part.state !== "waiting" || part.wants !== "decision"
      buttons[0].setAttribute("aria-label", texts.approveLabel(part.name))
      buttons[1].setAttribute("aria-label", texts.denyLabel(part.name))
      for (const button of buttons) button.disabled = part.isSending
    },
  }
}

/** What is seen of a folded card: it is folded from the start, so that nothing moves when it is done. */
/** @param {ToolPart} part */
function glance({ state, input, inputText, progress, result }) {
  const newest = state === "failed" ? result : state === "running" ? progress.at(-1) : ""
  return (newest || (input === undefined ? inputText : JSON.stringify(input))).slice(0, 200)
}

/** Short arguments stay on one line. */
/** @param {unknown} input */
function pretty(input) {
  const lines = JSON.stringify(input, null, 2)
  const line = lines.replace(/\n\s*/g, " ")
  return line.length <= ONE_LINE ? line : lines
}

/** @param {string} title */
function section(title) {
  const text = make("code")
  const head = make("div", { class: "tool-title" }, title)
  const element = make("div", { class: "tool-section" }, head, make("pre", { tabindex: "0", dir: "auto" }, text))
  return { element, text, show: (/** @type {boolean} */ isShown) => void (element.hidden = !isShown) }
}
