/**
 * Follows one run to its end, over as many connections as it takes.
 *
 * Every event of a run has a number: 1, 2, 3, ... without gaps, on the wire as the frame's id. Each is applied once and
 * in order: a number that is known is dropped, one from the future is held until those before it are there. So a cut, a
 * repetition or a change of order is never seen, only waited out.
 *
 *     begin  = POST /api/chat              until the run's id is known; again with the same turnId, so it is the same run
 *     follow = hub.follow(ID, from LAST)   over the connection that all tabs share (`hub.js`)
 *
 * A connection counts as broken when it ends before the run does, when nothing was heard for two heartbeats, or when the
 * tab wakes and what was heard last is old: a socket that died while the tab was frozen looks alive, and so may a tab that
 * has the connection. While the server cannot be reached it is asked again and again; the reader may leave at any time,
 * and an answer that no repetition will change (404, a refused token) ends it.
 */

import { Patience, failureOf, lostConnection } from "./api.js"

/** @typedef {import("./api.js").Failure} Failure */
/** @typedef {import("./line.js").Told} Told */
/** @typedef {import("./transcript.js").WireEvent} WireEvent */

/**
 * @typedef {object} Around what a follower needs from outside
 * @property {Pick<import("./hub.js").Hub, "follow">} hub
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
  /** Whether the run has said how it ended. */
  hasEnded = false
  #isLeft = false
  #isLastTry = false
  #isGivenUp = false
  /** A reader who comes back, and a first break, wait for nothing. */
  #isAtOnce = false
  /** Whether the last connection was in vain. */
  #isSuspect = false
  /** Whether the reader was told to wait. */
  #isWaiting = false
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
    if (this.#around.now() - this.#heardAt > FRESH_MS) this.#doubt(this.#connection)
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
      if (this.hasEnded || this.#isLeft) return null
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
    this.#isWaiting = true
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
      if (this.#begin && !this.runId) {
        const response = await this.#begin(connection.signal)
        if (!response.ok) return await failureOf(response)
        this.#meet((await response.json()).runId)
      }
      if (this.#isLeft) return lostConnection()
      const isSuspect = this.#isSuspect
      this.#isSuspect = false
      return await this.#around.hub.follow(this.runId, {
        after: () => this.#last,
        isSuspect,
        hear: (events, limitMs) => this.#hear(connection, events, limitMs),
        signal: connection.signal,
      })
    } catch (error) {
      return lostConnection(error)
    } finally {
      connection.abort()
    }
  }

  /** @param {AbortController} connection @param {Told[]} events @param {number} limitMs */
  #hear(connection, events, limitMs) {
    // While a number is missing, more of the same connection is no sign of life.
    if (this.#held.size === 0) this.#heardAt = this.#around.now()
    const isSooner = limitMs < this.#limitMs
    this.#limitMs = limitMs
    if (isSooner) void this.#watch(connection)
    if (this.#isWaiting) this.#around.apply({ type: "connected" })
    for (const [, id, event] of events) this.#take(id, event)
    if (this.#isWaiting || events.length > 0) this.#around.changed()
    this.#isWaiting = false
    if (this.hasEnded) connection.abort()
  }

  /** Break a connection on which nothing is heard. */
  /** @param {AbortController} connection */
  async #watch(connection) {
    while (!connection.signal.aborted) {
      const leftMs = this.#heardAt + this.#limitMs - this.#around.now()
      if (leftMs <= 0) return this.#doubt(connection)
      await this.#around.sleep(leftMs, connection.signal)
    }
  }

  /** @param {AbortController} connection */
  #doubt(connection) {
    this.#isSuspect = true
    connection.abort()
  }

  /** Put an event in its place. */
  /** @param {string} id @param {WireEvent | null} event */
  #take(id, event) {
    if (this.hasEnded) return
    const number = /^\d+$/.test(id) ? Number(id) : 0
    if (event?.type === "resync") return this.#resync(event)
    const isEnd = event?.type === "done" || event?.type === "error"
    // The log is gone: behind the messages of a resync comes the end alone, whatever its number.
    if (this.#isAfterResync && isEnd) return this.#apply(event)
    this.#isAfterResync = false
    if (number > this.#last) this.#held.set(number, event)
    for (let next = this.#held.get(this.#last + 1); next !== undefined; next = this.#held.get(this.#last + 1)) {
      this.#held.delete(++this.#last)
      if (next && !this.hasEnded) this.#apply(next)
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
    this.hasEnded = event.type === "done" || event.type === "error"
    this.#around.apply(event)
  }

  /** @param {string} runId */
  #meet(runId) {
    if (this.runId || !runId) return
    this.runId = runId
    this.#tell(runId)
  }
}
