/**
 * Folds the events of one run into what the reader sees of it: `transcript = reduce(transcript, event)`.
 *
 *     run = start (reasoning | text | citations | tool | approval | turn | notice)* (done | error)
 *
 * A transcript is a value: an event makes a new one and shares with the old what did not change, so a view can compare
 * parts by identity. An event of an unknown type leaves it as it is. There is no clock here: `chat.js` stamps the
 * events with `at`, which is how long reasoning took. A run that goes on where another paused or broke off is folded
 * onto that one's transcript. A finished run is stored as messages; `eventsOf` says again what happened in it, so what
 * was live and what was loaded look the same.
 *
 * Some events are the client's own: `wait` (the connection is lost, the next try comes in `delayMs`), `connected`,
 * `stopping` and `receipt` (the reader stopped the run), `decision` (on a call that needs approval).
 */

/**
 * @typedef {{ kind: "text", text: string, isOpen: boolean }} TextPart
 * @typedef {{ kind: "reasoning", text: string, isOpen: boolean, startedAt: number, endedAt: number }} ReasoningPart
 * @typedef {{ kind: "notice", code: string, message: string, lasting?: boolean, isOpen: false }} NoticePart
 * @typedef {{ url: string, title?: string, text?: string }} Source `text` is what stands there
 * @typedef {{ kind: "sources", sources: Source[], isOpen: false }} SourcesPart of the text before it
 * @typedef {"running" | "waiting" | "approved" | "done" | "failed" | "denied" | "stopped"} ToolState
 * @typedef {"" | "approve" | "deny" | "result"} Decision
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
 * @property {string} wants what the run waits for: "decision", or "result" where somebody else runs the tool
 * @property {Decision} decision
 * @property {boolean} isSending whether a decision is on its way to the server
 * @property {boolean} isByProvider whether the provider runs it, and not we
 * @property {boolean} isOpen
 * @typedef {TextPart | ReasoningPart | NoticePart | SourcesPart | ToolPart} Part
 */

/** @typedef {{ code: string, message: string, retryable: boolean, requestId?: string }} Failure */
/** @typedef {{ role: string, content: any }} WireMessage */
/** @typedef {{ firstTokenMs: number | null, durationMs: number, generationMs: number }} Timing tokens a second are outputTokens / generationMs */
/** @typedef {{ upstreamClosedMs: number | null, usage: any, estimated: boolean }} Receipt */

/**
 * @typedef {object} Transcript
 * @property {"waiting" | "streaming" | "done" | "failed"} status
 * @property {string} runId
 * @property {string} model
 * @property {Part[]} parts
 * @property {{ code: string, delayMs: number } | null} retry the wait before another try
 * @property {boolean} isStopping
 * @property {Receipt | null} receipt
 * @property {string} outcome
 * @property {string} finishReason
 * @property {any} usage
 * @property {Timing | null} timing of the run when it is over, of its last turn until then
 * @property {WireMessage[] | null} messages what the run added to the conversation
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
  isStopping: false,
  receipt: null,
  outcome: "",
  finishReason: "",
  usage: null,
  timing: null,
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
 * Return the text of the answer with its sources, as it is copied.
 *
 * @param {Transcript} transcript
 */
export function answerText(transcript) {
  return transcript.parts.flatMap((part) => {
    if (part.kind === "sources") return [part.sources.map(({ url, title }) => `- ${[title, url].filter(Boolean).join(": ")}`).join("\n")]
    return part.kind === "text" ? [part.text] : []
  }).join("\n\n")
}

/** @type {Record<string, (transcript: Transcript, event: WireEvent) => Transcript>} */
const ACTIONS = {
  start: (transcript, event) => ({
    ...withParts(transcript, resumed),
    status: "streaming",
    runId: event.runId,
    model: event.model,
    ...NO_ENDING,
  }),
  text: (transcript, event) => append(transcript, event, "text"),
  reasoning: (transcript, event) => append(transcript, event, "reasoning"),
  citations: (transcript, event) => {
    const index = transcript.parts.findLastIndex(({ kind }) => kind === "text") + 1
    const known = transcript.parts[index]
    /** @type {Source[]} */
    const sources = known?.kind === "sources" ? [...known.sources] : []
    for (const source of event.citations) {
      if (!sources.some(({ url, title }) => url === source.url && (url || title === source.title))) sources.push(source)
    }
    return { ...transcript, parts: transcript.parts.toSpliced(index, Number(known?.kind === "sources"), { kind: "sources", sources, isOpen: false }) }
  },

  tool_start: (transcript, event) => withTool(transcript, event, () => ({})),
  tool_input: (transcript, event) =>
    withTool(transcript, event, ({ inputText }) => ({ inputText: inputText + event.delta })),
  tool_call: (transcript, event) =>
    withTool(transcript, event, ({ name }) => ({ name: event.toolName ?? name, input: event.input })),
  approval: (transcript, event) =>
    withTool(transcript, event, ({ isOpen, state, input }) => ({
      state: isOpen ? "waiting" : state,
      wants: event.wants ?? "decision",
      input: event.input ?? input,
    })),
  decision: (transcript, event) =>
    withTool(transcript, event, ({ isOpen, state }) => ({
      state: event.decision === "deny" ? "denied" : event.decision && isOpen ? "approved" : state,
      decision: event.decision ?? "",
      isSending: Boolean(event.isSending),
    })),
  tool_progress: (transcript, event) =>
    withTool(transcript, event, ({ progress }) => ({ state: "running", progress: [...progress, textOf(event.content)] })),
  tool_result: (transcript, event) =>
    withTool(transcript, event, ({ decision, input }) => ({
      input: event.input ?? input,
      state: decision === "deny" ? "denied" : event.isError ? "failed" : "done",
      result: textOf(event.result),
      durationMs: event.durationMs ?? null,
      isOpen: false,
    })),

  turn: (transcript, event) => ({
    ...closeParts(transcript, event),
    finishReason: event.finishReason,
    usage: event.usage,
    timing: event.timing ?? null,
  }),
  notice: (transcript, event) => ({
    ...transcript,
    parts: [...transcript.parts, { kind: "notice", code: event.code, message: event.message, lasting: event.lasting, isOpen: false }],
  }),
  error: (transcript, event) => ({
    ...withParts(closeParts(transcript, event), stopped),
    status: "failed",
    retry: null,
    isStopping: false,
    error: failureOf(event),
    usage: event.usage ?? transcript.usage,
    timing: event.timing ?? null,
    messages: event.messages ?? transcript.messages,
  }),
  done: (transcript, event) => ({
    // What waits for a decision goes on waiting when the run pauses for it.
    ...withParts(closeParts(transcript, event), event.outcome === "paused" ? (part) => part : stopped),
    status: "done",
    retry: null,
    isStopping: false,
    outcome: event.outcome,
    finishReason: event.finishReason ?? transcript.finishReason,
    usage: event.usage ?? transcript.usage,
    timing: event.timing ?? null,
    messages: event.messages ?? transcript.messages,
  }),
  resync: (_, event) => {
    const folded = replay(event.base ?? EMPTY, event.messages ?? [])
    return { ...folded, status: "streaming", messages: event.messages ?? null }
  },

  begin: (transcript) => ({ ...transcript, status: "waiting", ...NO_ENDING }),
  wait: (transcript, event) => ({ ...transcript, retry: { code: event.code, delayMs: event.delayMs } }),
  connected: (transcript) => (transcript.retry ? { ...transcript, retry: null } : transcript),
  stopping: (transcript, event) => ({ ...transcript, isStopping: event.isStopping }),
  receipt: (transcript, event) => ({ ...transcript, receipt: event.receipt }),
}

/** What a run says of its end; one that goes on has none of it. */
const NO_ENDING = { retry: null, isStopping: false, receipt: null, outcome: "", finishReason: "", error: null, messages: null }

/**
 * Return what happened in a run that is over, from what was stored of it.
 *
 * @param {import("./tree.js").Run} run
 * @param {WireMessage[]} messages
 * @returns {WireEvent[]}
 */
export function eventsOf(run, messages) {
  const approvals = run.approvals.flatMap((approval) => [{ ...approval, type: "approval" }, { ...approval, type: "decision" }])
  const { outcome, finishReason, usage, timing, toolDurations } = run
  const end = run.error ? { ...run.error, type: "error", usage, timing } : { type: "done", outcome, finishReason, usage, timing }
  const notices = (run.notices ?? []).map((notice) => ({ ...notice, type: "notice" }))
  const said = messages.flatMap(eventsIn).map((event) => (event.type === "tool_result" ? { ...event, durationMs: toolDurations?.[event.toolCallId] } : event))
  return [{ type: "start", runId: run.id, model: run.model }, ...notices, ...said, ...approvals, end]
}

/** @param {Transcript} transcript @param {WireMessage[]} messages */
function replay(transcript, messages) {
  return messages.flatMap(eventsIn).reduce(reduce, transcript)
}

/** @param {WireMessage} message @returns {WireEvent[]} */
function eventsIn({ content }) {
  if (typeof content === "string") return [{ type: "text", content }, { type: "turn" }]
  const events = content.flatMap((/** @type {any} */ part) => (Object.hasOwn(STORED, part.type) ? STORED[part.type](part) : []))
  return [...events, { type: "turn" }]
}

/** @type {Record<string, (part: any) => WireEvent[]>} */
const STORED = {
  text: ({ text, citations }) => [{ type: "text", content: text }, ...(citations ? [{ type: "citations", citations }] : [])],
  reasoning: ({ text }) => [{ type: "reasoning", content: text }],
  tool_call: ({ id, name, input, arguments: text }) => [
    { type: "tool_start", toolCallId: id, toolName: name },
    { type: "tool_call", toolCallId: id, toolName: name, input: input ?? text },
  ],
  tool_result: (part) => [{ ...part, type: "tool_result" }],
  opaque: ({ toolCallId = "", toolName, input, result, isError }) => {
    const tool = { toolCallId, toolName, input, result, isError, providerExecuted: true }
    if (!toolName) return []
    const what = { ...tool, type: result === undefined ? "tool_call" : "tool_result" }
    return input === undefined && result !== undefined ? [what] : [{ ...tool, type: "tool_start" }, what]
  },
}

/**
 * Add to the open part of that kind, or begin one. A notice or a source between two deltas does not cut a sentence in two.
 *
 * @param {Transcript} transcript
 * @param {WireEvent} event
 * @param {"text" | "reasoning"} kind
 * @returns {Transcript}
 */
function append(transcript, event, kind) {
  const content = textOf(event.content)
  if (content === "") return transcript
  const index = transcript.parts.findLastIndex(({ kind }) => kind !== "notice" && kind !== "sources")
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
  const index = transcript.parts.findLastIndex((part) => part.kind === "tool" && part.id === event.toolCallId)
  const known = transcript.parts[index]
  // A provider may use an id again once its call was answered.
  if (known?.kind === "tool" && (known.isOpen || event.type !== "tool_start")) {
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
    wants: "",
    decision: "",
    isSending: false,
    isByProvider: Boolean(event.providerExecuted),
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

/** @param {Transcript} transcript @param {(part: Part) => Part} change @returns {Transcript} */
function withParts(transcript, change) {
  return { ...transcript, parts: transcript.parts.map(change) }
}

/** @param {Part} part @returns {Part} */
function stopped(part) {
  return part.kind === "tool" && part.isOpen ? { ...part, state: "stopped", isOpen: false } : part
}

/** What was decided is done as soon as the run goes on. */
/** @param {Part} part @returns {Part} */
function resumed(part) {
  return part.kind === "tool" && part.isOpen && part.decision === "approve" ? { ...part, state: "running" } : part
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
