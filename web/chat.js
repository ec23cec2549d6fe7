/**
 * A chat without a page: keeps the messages, sends, stops and tries again. It owns the history (the stateless form of
 * `POST /api/chat`), and knows fetch, but no document, so another page can be built upon it:
 *
 *     const chat = createChat({ api: "" })
 *     chat.subscribe(() => draw(chat.messages))
 *     await chat.send("Hello")
 *
 * A try that fails on its way to the server or back before anything of the answer was seen is repeated, at most three
 * times; after that, once something was seen, or where the server itself gave up, the answer ends with an error and the
 * reader may call `retry`. Text is never doubled.
 */

import { createParser } from "./sse.js"
import { EMPTY, answerText, isVisible, reduce } from "./transcript.js"

/** @typedef {import("./transcript.js").Transcript} Transcript */
/** @typedef {import("./transcript.js").WireEvent} WireEvent */
/** @typedef {import("./transcript.js").WireMessage} WireMessage */
/**
 * How an attempt failed. One that the server reports in the stream is final: it tried again itself, as often as it may.
 *
 * @typedef {import("./transcript.js").Failure & { retryAfterMs?: number, isFinal?: boolean, messages?: WireMessage[] }} Failure
 */
/** @typedef {{ id: string, role: "user", text: string }} UserMessage */
/** @typedef {{ id: string, role: "assistant", transcript: Transcript }} AssistantMessage */
/** @typedef {UserMessage | AssistantMessage} Message */
/** @typedef {(ms: number, signal: AbortSignal) => Promise<void>} Sleep resolves early when `signal` is aborted */

/**
 * @typedef {object} Options
 * @property {string} [api] the server's address, "" for the page's own
 * @property {typeof globalThis.fetch} [fetch]
 * @property {Sleep} [sleep]
 * @property {() => number} [now]
 */

const DELAYS_MS = [1000, 2000, 4000]

// A server that asks for more patience than this is answered by the reader, not by a timer.
const LONGEST_WAIT_MS = 30_000

/**
 * Create a chat.
 *
 * @param {Options} [options]
 */
export function createChat(options) {
  return new Chat(options)
}

class Chat {
  /** The model to ask, "" for the server's default. */
  model = ""
  /** @type {readonly Message[]} */
  messages = []
  /** What the next request will carry before its question. */
  /** @type {readonly WireMessage[]} */
  history = []

  /** @type {Required<Options>} */
  #options
  /** @type {AbortController | null} */
  #running = null
  /** The question that `retry` asks again, with the history before it. */
  /** @type {{ text: string, before: readonly WireMessage[] }} */
  #question = { text: "", before: [] }
  #lastId = 0
  /** @type {Set<() => void>} */
  #listeners = new Set()

  /** @param {Options} [options] */
  constructor({ api = "", fetch = (...args) => globalThis.fetch(...args), sleep = sleepFor, now = Date.now } = {}) {
    this.#options = { api, fetch, sleep, now }
  }

  get isLoading() {
    return this.#running !== null
  }

  /** Why the last answer failed, or null. */
  get error() {
    return this.#transcript.error
  }

  /** Ask a question; the promise resolves when its answer has ended, in whatever way. */
  /** @param {string} text */
  async send(text) {
    if (this.isLoading || text.trim() === "") return
    this.#question = { text, before: this.history }
    this.messages = [...this.messages, { id: this.#nextId(), role: "user", text }]
    await this.#answer()
  }

  /** Ask the last question again, in place of its answer. */
  async retry() {
    if (this.isLoading || this.messages.at(-1)?.role !== "assistant") return
    this.messages = this.messages.slice(0, -1)
    await this.#answer()
  }

  /** End the answer that is being written; what was seen of it stays. */
  stop() {
    if (!this.#running) return
    this.#apply({ type: "done", outcome: "stopped" })
    this.#running.abort()
  }

  /** Begin a new conversation. */
  clear() {
    this.#running?.abort()
    this.#running = null
    this.messages = []
    this.history = []
    this.#notify()
  }

  /** Call `listener` after every change; returns the way to end it. */
  /** @param {() => void} listener */
  subscribe(listener) {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  async #answer() {
    const controller = new AbortController()
    this.#running = controller
    this.messages = [...this.messages, { id: this.#nextId(), role: "assistant", transcript: EMPTY }]
    this.history = [...this.#question.before, { role: "user", content: this.#question.text }]
    this.#notify()
    await this.#untilAnswered(controller.signal)
    // Another conversation may have begun meanwhile; this one then has no place to end in.
    if (this.#running !== controller) return
    this.#running = null
    this.history = [...this.history, ...newMessages(this.#transcript)]
    this.#notify()
  }

  /** @param {AbortSignal} signal */
  async #untilAnswered(signal) {
    for (let attempt = 0; ; attempt++) {
      const failure = await this.#attempt(signal)
      if (signal.aborted || !failure) return
      const delayMs = delayBefore(attempt, failure, this.#transcript)
      if (delayMs === null) return this.#apply({ ...failure, type: "error" })
      this.#apply({ type: "retry", code: failure.code, delayMs })
      this.#notify()
      await this.#options.sleep(delayMs, signal)
      if (signal.aborted) return
    }
  }

  /** Run one request to its end; return how it failed, or null where it ended well. */
  /** @param {AbortSignal} signal @returns {Promise<Failure | null>} */
  async #attempt(signal) {
    const { api, fetch } = this.#options
    const body = JSON.stringify({ messages: this.history, ...(this.model && { model: this.model }) })
    const headers = { "Content-Type": "application/json" }
    try {
      const response = await fetch(`${api}/api/chat`, { method: "POST", headers, body, signal })
      return response.ok ? await this.#follow(response, signal) : await failureOf(response)
    } catch (error) {
      return lostConnection(error)
    }
  }

  /** @param {Response} response @param {AbortSignal} signal @returns {Promise<Failure | null>} */
  async #follow(response, signal) {
    /** @type {Failure | null} */
    let failure = null
    let hasEnded = false
    const parser = createParser((frame) => {
      const event = parseEvent(frame.data)
      if (!event || hasEnded || signal.aborted) return
      hasEnded = event.type === "done" || event.type === "error"
      if (event.type !== "error") return this.#apply(event)
      const messages = Array.isArray(event.messages) ? { messages: event.messages } : {}
      failure = { ...failureFrom(event), ...messages, retryable: Boolean(event.retryable), isFinal: true }
    })
    const reader = response.body?.getReader()
    while (reader && !hasEnded) {
      const { value, done } = await reader.read()
      if (done) break
      parser.feed(value)
      if (!signal.aborted) this.#notify()
    }
    await reader?.cancel()
    return hasEnded ? failure : lostConnection()
  }

  get #transcript() {
    const last = this.messages.at(-1)
    return last?.role === "assistant" ? last.transcript : EMPTY
  }

  /** @param {WireEvent} event */
  #apply(event) {
    const last = this.messages.at(-1)
    if (last?.role !== "assistant") return
    const transcript = reduce(last.transcript, { ...event, at: this.#options.now() })
    this.messages = this.messages.with(-1, { ...last, transcript })
  }

  #nextId() {
    return `m${++this.#lastId}`
  }

  #notify() {
    for (const listener of this.#listeners) listener()
  }
}

/** Return how long to wait before the next attempt, or null where there must be none. */
/** @param {number} attempt @param {Failure} failure @param {Transcript} transcript */
function delayBefore(attempt, failure, transcript) {
  if (!failure.retryable || failure.isFinal || isVisible(transcript) || attempt >= DELAYS_MS.length) return null
  const delayMs = Math.max(DELAYS_MS[attempt], failure.retryAfterMs ?? 0)
  return delayMs > LONGEST_WAIT_MS ? null : delayMs
}

/** Return what a run leaves in the history: its messages, or as much of the answer as was seen. */
/** @param {Transcript} transcript @returns {WireMessage[]} */
function newMessages(transcript) {
  if (transcript.messages) return transcript.messages
  const content = answerText(transcript)
  return content === "" ? [] : [{ role: "assistant", content }]
}

/** @param {string} data @returns {WireEvent | null} */
function parseEvent(data) {
  try {
    const event = JSON.parse(data)
    return typeof event?.type === "string" ? event : null
  } catch {
    return null
  }
}

/** @param {Response} response @returns {Promise<Failure>} */
async function failureOf(response) {
  const body = await response.json().catch(() => null)
  const retryAfter = Number(response.headers.get("Retry-After") ?? Number.NaN)
  const canRetry = (response.status === 429 || response.status === 503) && retryAfter >= 0
  return {
    ...failureFrom(body?.error ?? { code: "internal", message: `HTTP ${response.status}` }),
    retryable: canRetry,
    ...(canRetry && { retryAfterMs: retryAfter * 1000 }),
  }
}

/** @param {Record<string, unknown>} error */
function failureFrom({ code, message, requestId }) {
  const id = requestId ? { requestId: String(requestId) } : {}
  return { code: String(code ?? "internal"), message: String(message ?? ""), ...id }
}

/** @param {unknown} [cause] @returns {Failure} */
function lostConnection(cause) {
  // fetch and the reader of its body report every loss as a TypeError, an abort as an AbortError.
  const isAbort = cause instanceof Error && cause.name === "AbortError"
  if (cause === undefined || isAbort || cause instanceof TypeError) return { code: "network", message: "", retryable: true }
  return { code: "internal", message: String(cause), retryable: false }
}

/** @type {Sleep} */
function sleepFor(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    signal.addEventListener("abort", () => {
      clearTimeout(timer)
      resolve()
    })
  })
}
