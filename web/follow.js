/**
 * Follows one run to its end, over as many connections as it takes.
 *
 * Every event of a run has a number: 1, 2, 3, ... without gaps, on the wire as the frame's id. Each is applied once and
 * in order: a number that is known is dropped, one from the future is held until those before it are there. So a cut, a
 * repetition or a change of order is never seen, only waited out.
 *
 *     begin = POST /api/chat               until the run's id is known; again with the same turnId, so it is the same run
 *     again = GET /api/runs/ID/events?after=LAST
 *
 * A connection counts as broken when it ends before the run does, when no byte came for two heartbeats, or when the tab
 * wakes and the last byte is old: a socket that died while the tab was frozen looks alive. While the server cannot be
 * reached it is asked again and again; the reader may leave at any time, and an answer that no repetition will change
 * (404, a refused token) ends it.
 */

import { Patience, failureOf, lostConnection } from "./api.js"
import { createParser } from "./sse.js"

/** @typedef {import("./api.js").Failure} Failure */
/** @typedef {import("./transcript.js").WireEvent} WireEvent */

/**
 * @typedef {object} Around what a follower needs from outside
 * @property {string} api
 * @property {typeof globalThis.fetch} fetch
 * @property {import("./api.js").Sleep} sleep
 * @property {() => number} now
 * @property {(event: WireEvent) => void} apply called for each event, and for the follower's own: `wait`, `connected`
 * @property {() => void} changed called when a batch of them was applied
 */

const HEARTBEAT_S = 15

// What was heard this recently is alive, whatever the tab went through.
const FRESH_MS = 1000

// A server that refuses is asked this often again; one that cannot be reached, for ever.
const REFUSALS = 3

// One that asks for more patience than this is answered by the reader, not by a timer.
const LONGEST_WAIT_MS = 30_000

export class Follower {
  runId
  #around
  #begin
  #patience
  #last = 0
  /** Events from the future by their number, null for a number without an event. */
  /** @type {Map<number, WireEvent | null>} */
  #held = new Map()
  #isAfterResync = false
  #hasEnded = false
  #isLeft = false
  #isLastTry = false
  #isGivenUp = false
  /** A reader who comes back, and a first break, wait for nothing. */
  #isAtOnce = false
  #connection = new AbortController()
  #heardAt = 0
  #limitMs = 2 * HEARTBEAT_S * 1000
  /** @type {(runId: string) => void} */
  #tell = () => {}
  /** The run's id as soon as it is known, "" where the following ended before. @type {Promise<string>} */
  known = new Promise((resolve) => {
    this.#tell = resolve
  })

  /** @param {Around} around @param {string} runId "" where `begin` begins it @param {(signal: AbortSignal) => Promise<Response>} [begin] */
  constructor(around, runId, begin) {
    this.#around = around
    this.#patience = new Patience(around.sleep)
    this.#begin = begin
    this.runId = runId
    if (runId) this.#tell(runId)
  }

  /** Follow to the end; return null where the run said how it ended, or why it cannot be followed any more. */
  /** @returns {Promise<Failure | null>} */
  async run() {
    const failure = await this.#untilEnded()
    this.#tell(this.runId)
    return failure
  }

  /** Look at once whether the connection lives. */
  wake() {
    this.#isAtOnce = true
    this.#patience.failures = 0
    this.#patience.wake()
    if (this.#around.now() - this.#heardAt > FRESH_MS) this.#connection.abort()
  }

  /** Try once more, at once where it waits or fails now, and then no more. */
  hurry() {
    this.#isLastTry = true
    this.#isAtOnce = true
    this.#patience.wake()
  }

  /** Give up what is going on, as a failure. */
  giveUp() {
    this.#isGivenUp = true
    this.#patience.wake()
    this.#connection.abort()
  }

  /** Stop following; the run goes on without this viewer. One that is just being begun is begun first. */
  leave() {
    this.#isLeft = true
    this.#patience.wake()
    void this.known.then(() => this.#connection.abort())
  }

  async #untilEnded() {
    while (true) {
      const before = this.#last
      const isLastTry = this.#isLastTry
      this.#isAtOnce = false
      const failure = await this.#attempt()
      if (this.#hasEnded || this.#isLeft) return null
      const isProgress = this.#last > before
      if (isProgress) this.#patience.failures = 0
      if (isLastTry || this.#isGivenUp || !this.#canRepeat(failure)) return failure
      if (!isProgress && !this.#isAtOnce) await this.#wait(failure)
      if (this.#isLeft) return null
      if (this.#isGivenUp) return failure
    }
  }

  /** @param {Failure} failure */
  #canRepeat({ status, retryable, retryAfterMs = 0 }) {
    if (status === 0) return true
    if (this.runId) return status >= 500 || status === 429
    return retryable && this.#patience.failures < REFUSALS && retryAfterMs <= LONGEST_WAIT_MS
  }

  /** @param {Failure} failure */
  async #wait({ code, retryAfterMs }) {
    const delayMs = this.#patience.next(retryAfterMs)
    this.#around.apply({ type: "wait", code, delayMs })
    this.#around.changed()
    await this.#patience.wait(delayMs)
  }

  /** Follow over one connection, and return how it broke. */
  /** @returns {Promise<Failure>} */
  async #attempt() {
    const connection = new AbortController()
    this.#connection = connection
    this.#heardAt = this.#around.now()
    void this.#watch(connection)
    try {
      const response = await this.#request(connection.signal)
      if (!response.ok) return await failureOf(response)
      const limitMs = 2000 * (Number(response.headers.get("Chatstream-Heartbeat")) || HEARTBEAT_S)
      const isSooner = limitMs < this.#limitMs
      this.#limitMs = limitMs
      if (isSooner) void this.#watch(connection)
      this.#meet(response.headers.get("X-Run-Id") ?? "")
      await this.#read(response, connection.signal)
      return lostConnection()
    } catch (error) {
      return lostConnection(error)
    } finally {
      connection.abort()
    }
  }

  /** @param {AbortSignal} signal */
  #request(signal) {
    const { api, fetch } = this.#around
    if (this.#begin && !this.runId) return this.#begin(signal)
    return fetch(`${api}/api/runs/${this.runId}/events?after=${this.#last}`, { signal })
  }

  /** @param {Response} response @param {AbortSignal} signal */
  async #read(response, signal) {
    const parser = createParser(
      (frame) => signal.aborted || this.#take(frame.id, parseEvent(frame.data)),
      (id) => signal.aborted || this.#take(id, null),
    )
    const reader = response.body?.getReader()
    while (reader && !this.#hasEnded) {
      const { value, done } = await reader.read()
      if (done || signal.aborted) break
      // While a number is missing, more of the same connection is no sign of life.
      if (this.#held.size === 0) this.#heardAt = this.#around.now()
      this.#around.apply({ type: "connected" })
      parser.feed(value)
      this.#around.changed()
    }
    await reader?.cancel()
  }

  /** Break a connection on which nothing is heard. */
  /** @param {AbortController} connection */
  async #watch(connection) {
    while (!connection.signal.aborted) {
      const leftMs = this.#heardAt + this.#limitMs - this.#around.now()
      if (leftMs <= 0) return connection.abort()
      await this.#around.sleep(leftMs, connection.signal)
    }
  }

  /** Put an event in its place. */
  /** @param {string} id @param {WireEvent | null} event */
  #take(id, event) {
    if (this.#hasEnded) return
    const number = /^\d+$/.test(id) ? Number(id) : 0
    if (event?.type === "resync") return this.#resync(event)
    const isEnd = event?.type === "done" || event?.type === "error"
    // The log is gone: behind the messages of a resync comes the end alone, whatever its number.
    if (this.#isAfterResync && isEnd) return this.#apply(event)
    this.#isAfterResync = false
    if (number > this.#last) this.#held.set(number, event)
    for (let next = this.#held.get(this.#last + 1); next !== undefined; next = this.#held.get(this.#last + 1)) {
      this.#held.delete(++this.#last)
      if (next && !this.#hasEnded) this.#apply(next)
    }
  }

  /** @param {WireEvent} event */
  #resync(event) {
    this.#last = 0
    this.#held.clear()
    this.#isAfterResync = true
    this.#around.apply(event)
  }

  /** @param {WireEvent} event */
  #apply(event) {
    this.#hasEnded = event.type === "done" || event.type === "error"
    if (event.type === "start") this.#meet(event.runId)
    this.#around.apply(event)
  }

  /** @param {string} runId */
  #meet(runId) {
    if (this.runId || !runId) return
    this.runId = runId
    this.#tell(runId)
  }
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
