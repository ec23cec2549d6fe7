/**
 * Folds the events of one run into what the reader sees of it: `transcript = reduce(transcript, event)`.
 *
 *     run = start (reasoning | text | tool | turn | notice)* (done | error)
 *
 * A transcript is a value: an event makes a new one and shares with the old what did not change, so a view can compare
 * parts by identity. An event of an unknown type leaves it as it is. There is no clock here: `chat.js` stamps the
 * events with `at`, which is how long reasoning took. Two events are the client's own: `retry` (nothing was shown yet,
 * the next try comes in `delayMs`) and a `done` without messages, when the reader stopped the run.
 */

/**
 * @typedef {{ kind: "text", text: string, isOpen: boolean }} TextPart
 * @typedef {{ kind: "reasoning", text: string, isOpen: boolean, startedAt: number, endedAt: number }} ReasoningPart
 * @typedef {{ kind: "notice", code: string, message: string, isOpen: false }} NoticePart
 * @typedef {"running" | "done" | "failed" | "stopped"} ToolState
 * @typedef {object} ToolPart
 * @property {"tool"} kind
 * @property {string} id
 * @property {string} name
 * @property {string} inputText the arguments as they arrive
 * @property {unknown} input the arguments, once they are complete
 * @property {string[]} progress
 * @property {ToolState} state
 * @property {string} result
 * @property {number | null} durationMs
 * @property {boolean} isOpen
 * @typedef {TextPart | ReasoningPart | NoticePart | ToolPart} Part
 */

/** @typedef {{ code: string, message: string, retryable: boolean, requestId?: string }} Failure */
/** @typedef {{ role: string, content: unknown }} WireMessage */

/**
 * @typedef {object} Transcript
 * @property {"waiting" | "streaming" | "done" | "failed"} status
 * @property {string} runId
 * @property {string} model
 * @property {Part[]} parts
 * @property {{ code: string, delayMs: number } | null} retry the wait before another try
 * @property {string} outcome
 * @property {string} finishReason
 * @property {unknown} usage
 * @property {WireMessage[] | null} messages what the caller adds to its history
 * @property {Failure | null} error
 */

/** @typedef {{ type: string, at?: number, [field: string]: any }} WireEvent */

/** @type {Transcript} */
export const EMPTY = Object.freeze({
  status: "waiting",
  runId: "",
  model: "",
  parts: [],
  retry: null,
  outcome: "",
  finishReason: "",
  usage: null,
  messages: null,
  error: null,
})

/**
 * Return the transcript after `event`.
 *
 * @param {Transcript} transcript
 * @param {WireEvent} event
 * @returns {Transcript}
 */
export function reduce(transcript, event) {
  return Object.hasOwn(ACTIONS, event.type) ? ACTIONS[event.type](transcript, event) : transcript
}

/**
 * Return true once there is something that a second try would show twice.
 *
 * @param {Transcript} transcript
 */
export function isVisible(transcript) {
  return transcript.parts.some((part) => part.kind !== "notice")
}

/**
 * Return the text of the answer, as it goes into the history of a run that did not finish.
 *
 * @param {Transcript} transcript
 */
export function answerText(transcript) {
  return transcript.parts.flatMap((part) => (part.kind === "text" ? [part.text] : [])).join("\n\n")
}

/** @type {Record<string, (transcript: Transcript, event: WireEvent) => Transcript>} */
const ACTIONS = {
  start: (transcript, event) => ({
    ...transcript,
    status: "streaming",
    runId: event.runId,
    model: event.model,
    retry: null,
  }),
  text: (transcript, event) => append(transcript, event, "text"),
  reasoning: (transcript, event) => append(transcript, event, "reasoning"),

  tool_start: (transcript, event) => withTool(transcript, event, () => ({})),
  tool_input: (transcript, event) =>
    withTool(transcript, event, ({ inputText }) => ({ inputText: inputText + event.delta })),
  tool_call: (transcript, event) =>
    withTool(transcript, event, ({ name }) => ({ name: event.toolName ?? name, input: event.input })),
  tool_progress: (transcript, event) =>
    withTool(transcript, event, ({ progress }) => ({ progress: [...progress, textOf(event.content)] })),
  tool_result: (transcript, event) =>
    withTool(transcript, event, () => ({
      state: event.isError ? "failed" : "done",
      result: textOf(event.result),
      durationMs: event.durationMs ?? null,
      isOpen: false,
    })),

  turn: (transcript, event) => ({
    ...closeParts(transcript, event),
    finishReason: event.finishReason,
    usage: event.usage,
  }),
  notice: (transcript, event) => ({
    ...transcript,
    parts: [...transcript.parts, { kind: "notice", code: event.code, message: event.message, isOpen: false }],
  }),
  error: (transcript, event) => ({
    ...stopTools(closeParts(transcript, event)),
    status: "failed",
    retry: null,
    error: failureOf(event),
    messages: event.messages ?? null,
  }),
  done: (transcript, event) => ({
    ...stopTools(closeParts(transcript, event)),
    status: "done",
    retry: null,
    outcome: event.outcome,
    finishReason: event.finishReason ?? transcript.finishReason,
    usage: event.usage ?? transcript.usage,
    messages: event.messages ?? null,
  }),
  retry: (_, event) => ({ ...EMPTY, retry: { code: event.code, delayMs: event.delayMs } }),
}

/**
 * Add to the open part of that kind, or begin one. A notice between two deltas does not cut a sentence in two.
 *
 * @param {Transcript} transcript
 * @param {WireEvent} event
 * @param {"text" | "reasoning"} kind
 * @returns {Transcript}
 */
function append(transcript, event, kind) {
  const content = textOf(event.content)
  if (content === "") return transcript
  const index = transcript.parts.findLastIndex((part) => part.kind !== "notice")
  const last = transcript.parts[index]
  if (last?.kind === kind && last.isOpen) {
    return { ...transcript, parts: transcript.parts.with(index, { ...last, text: last.text + content }) }
  }
  const closed = closeParts(transcript, event)
  const at = event.at ?? 0
  const part = kind === "text"
    ? { kind, text: content, isOpen: true }
    : { kind, text: content, isOpen: true, startedAt: at, endedAt: at }
  return { ...closed, parts: [...closed.parts, part] }
}

/**
 * Change the tool that `event` names. One that never began begins here: its start may lie before a cut.
 *
 * @param {Transcript} transcript
 * @param {WireEvent} event
 * @param {(tool: ToolPart) => Partial<ToolPart>} change
 * @returns {Transcript}
 */
function withTool(transcript, event, change) {
  const index = transcript.parts.findIndex((part) => part.kind === "tool" && part.id === event.toolCallId)
  const known = transcript.parts[index]
  if (known?.kind === "tool") {
    return { ...transcript, parts: transcript.parts.with(index, { ...known, ...change(known) }) }
  }
  const closed = closeParts(transcript, event)
  /** @type {ToolPart} */
  const tool = {
    kind: "tool",
    id: event.toolCallId,
    name: event.toolName ?? "",
    inputText: "",
    input: undefined,
    progress: [],
    state: "running",
    result: "",
    durationMs: null,
    isOpen: true,
  }
  return { ...closed, parts: [...closed.parts, { ...tool, ...change(tool) }] }
}

/** Close open text and reasoning; tools end by their own results. */
/** @param {Transcript} transcript @param {WireEvent} event @returns {Transcript} */
function closeParts(transcript, event) {
  if (!transcript.parts.some((part) => part.isOpen && part.kind !== "tool")) return transcript
  const parts = transcript.parts.map((part) => {
    if (!part.isOpen || part.kind === "tool") return part
    if (part.kind === "reasoning") return { ...part, isOpen: false, endedAt: event.at ?? part.startedAt }
    return { ...part, isOpen: false }
  })
  return { ...transcript, parts: /** @type {Part[]} */ (parts) }
}

/** @param {Transcript} transcript @returns {Transcript} */
function stopTools(transcript) {
  const parts = transcript.parts.map((part) =>
    part.kind === "tool" && part.isOpen ? { ...part, state: "stopped", isOpen: false } : part,
  )
  return { ...transcript, parts: /** @type {Part[]} */ (parts) }
}

/** @param {WireEvent} event @returns {Failure} */
function failureOf(event) {
  return { code: event.code, message: event.message, retryable: Boolean(event.retryable), requestId: event.requestId }
}

/** A server may send a value where text is expected; it is shown rather than dropped. */
/** @param {unknown} value */
function textOf(value) {
  if (typeof value === "string") return value
  return value === undefined || value === null ? "" : JSON.stringify(value, null, 2)
}
