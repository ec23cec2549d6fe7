/**
 * The one connection over which a leader (`hub.js`) follows what is wanted: `GET /api/events`, with a cursor for each run.
 *
 *     want --not covered--> next --its headers came--> open      the one before is closed then, and not sooner
 *
 * When what is wanted changes another connection is opened behind it, so at most two are there at any moment. Each begins
 * at the last number up to which every viewer of a run has all: what some have already is told again, and dropped by
 * `follow.js`. While one is being opened nothing further is begun; what came meanwhile is looked at when it is open.
 *
 * It keeps no clock: its viewers notice silence, and ask again as one who `isSuspect`.
 */

import { failureOf, lostConnection, mintId } from "./api.js"
import { createParser } from "./sse.js"

/** @typedef {import("./api.js").Failure} Failure */
/** @typedef {{ id: string, tab: string, runId: string, after: number, isSuspect: boolean }} Wish `after` is the last number that the viewer has */
/** @typedef {Wish & { by: Stream | null }} Want `by` is what tells it, or will */
/** @typedef {{ name: string, runs: Map<string, number>, heardAt: number, limitMs: number, end: AbortController }} Stream `runs` are those that it has not told to their ends, with how far it is */
/** @typedef {[runId: string, id: string, event: import("./transcript.js").WireEvent | null]} Told null for a number without an event */
/**
 * @typedef {{ type: "taken", ids: string[], stream: string, limitMs: number }
 *   | { type: "told", stream: string, events: Told[] }
 *   | { type: "lost", ids: string[], failure: Failure }} Saying of a leader; a `stream` of "" is still to be opened
 */

const HEARTBEAT_S = 15

// The server takes no more in one stream.
const MOST = 50

// A connection on which something was heard this recently is alive, whoever doubts it.
const FRESH_MS = 1000

export class Line {
  #around
  #say
  /** By their ids. @type {Map<string, Want>} */
  #wants = new Map()
  /** The number up to which every viewer of a run has all. @type {Map<string, number>} */
  #had = new Map()
  /** @type {Stream | null} */
  #open = null
  /** @type {Stream | null} */
  #next = null

  /** @param {{ api: string, fetch: typeof globalThis.fetch, now: () => number }} around @param {(saying: Saying) => void} say */
  constructor(around, say) {
    this.#around = around
    this.#say = say
  }

  /** @param {Wish} wish */
  want(wish) {
    const { id, runId, after, isSuspect } = wish
    const had = this.#had.get(runId)
    if (had === undefined && this.#had.size >= MOST) {
      return this.#say({ type: "lost", ids: [id], failure: { code: "overloaded", message: "", retryable: true, status: 503 } })
    }
    if (isSuspect) this.#doubt()
    const by = [this.#open, this.#next].find((stream) => stream && after >= (stream.runs.get(runId) ?? Infinity)) ?? null
    this.#had.set(runId, Math.min(after, had ?? after))
    this.#wants.set(id, { ...wish, by })
    this.#say({ type: "taken", ids: [id], stream: by && by === this.#open ? by.name : "", limitMs: by?.limitMs ?? 0 })
    this.#renew()
  }

  /** @param {(want: Want) => boolean} isOver */
  drop(isOver) {
    this.#forget([...this.#wants.values()].filter(isOver))
    this.#renew()
  }

  close() {
    this.#forget([...this.#wants.values()])
    for (const stream of [this.#open, this.#next]) stream?.end.abort()
    this.#open = this.#next = null
  }

  /** @param {Want[]} wants */
  #forget(wants) {
    for (const { id } of wants) this.#wants.delete(id)
    const runs = this.#runs()
    for (const runId of this.#had.keys()) if (!runs.has(runId)) this.#had.delete(runId)
  }

  #runs() {
    return new Set([...this.#wants.values()].map(({ runId }) => runId))
  }

  /** Close what has long been silent: a socket that died while the machine slept looks alive. */
  #doubt() {
    const silent = [this.#open, this.#next].filter((stream) => stream && this.#around.now() - stream.heardAt > FRESH_MS)
    for (const want of this.#wants.values()) if (silent.includes(want.by)) want.by = null
    for (const stream of silent) stream?.end.abort()
    if (silent.includes(this.#open)) this.#open = null
    if (silent.includes(this.#next)) this.#next = null
  }

  /** Open another connection where one wants what this does not tell, or nobody what it does. */
  #renew() {
    const runs = this.#runs()
    if (runs.size === 0) {
      this.#next?.end.abort()
      this.#next = null
      // One that has told all ends by itself: its socket can be used again.
      if (this.#open?.runs.size) {
        this.#open.end.abort()
        this.#open = null
      }
    }
    const isMissing = [...this.#wants.values()].some(({ by }) => !by)
    const isSurplus = [...(this.#open?.runs.keys() ?? [])].some((runId) => !runs.has(runId))
    if (!this.#next && (isMissing || isSurplus)) void this.#connect(new Map([...runs].map((runId) => [runId, this.#had.get(runId) ?? 0])))
  }

  /** @param {Map<string, number>} runs */
  async #connect(runs) {
    const { api, fetch, now } = this.#around
    const end = new AbortController()
    /** @type {Stream} */
    const stream = { name: mintId(), runs, heardAt: now(), limitMs: 2000 * HEARTBEAT_S, end }
    this.#next = stream
    for (const want of this.#wants.values()) want.by ??= stream
    const query = [...runs].map(([runId, after]) => `run=${encodeURIComponent(runId)}&after=${after}`).join("&")
    let failure = lostConnection()
    try {
      // Chromium lets a request wait for another of the same address, in case it could be kept.
      const response = await fetch(`${api}/api/events?${query}`, { signal: end.signal, cache: "no-store" })
      if (end.signal.aborted) return
      if (response.ok) await this.#read(stream, response)
      else failure = await failureOf(response)
    } catch (error) {
      failure = lostConnection(error)
    }
    if (!end.signal.aborted) this.#lose(stream, failure)
  }

  /** @param {Stream} stream @param {Response} response */
  async #read(stream, response) {
    this.#replace(stream, Number(response.headers.get("Chatstream-Heartbeat")) || HEARTBEAT_S)
    /** @type {Told[]} */
    let events = []
    const parser = createParser(
      ({ id, event, data }) => events.push([event, id, parseEvent(data)]),
      (id, event) => events.push([event, id, null]),
    )
    const reader = response.body?.getReader()
    while (reader) {
      const { value, done } = await reader.read()
      if (done || stream.end.signal.aborted) return
      stream.heardAt = this.#around.now()
      parser.feed(value)
      this.#pass(stream, events)
      events = []
    }
  }

  /** Let a connection whose headers came tell all, in place of the one before. */
  /** @param {Stream} stream @param {number} heartbeat */
  #replace(stream, heartbeat) {
    this.#open?.end.abort()
    this.#open = stream
    this.#next = null
    stream.heardAt = this.#around.now()
    stream.limitMs = 2000 * heartbeat
    for (const want of this.#wants.values()) want.by &&= stream.runs.has(want.runId) ? stream : null
    const ids = [...this.#wants.values()].filter(({ by }) => by).map(({ id }) => id)
    this.#say({ type: "taken", ids, stream: stream.name, limitMs: stream.limitMs })
    this.#renew()
  }

  /** @param {Stream} stream @param {Told[]} events */
  #pass(stream, events) {
    const isRefusal = (/** @type {Told} */ [, , event]) => event?.type === "error" && event.status > 0
    for (const told of events) this.#note(stream, told)
    this.#say({ type: "told", stream: stream.name, events: events.filter((told) => !isRefusal(told)) })
    for (const [runId, , event] of events.filter(isRefusal)) {
      const { code, message, requestId, status } = /** @type {any} */ (event)
      this.#fail([...this.#wants.values()].filter((want) => want.by === stream && want.runId === runId), { code, message, requestId, status, retryable: false })
    }
  }

  /** @param {Stream} stream @param {Told} told */
  #note(stream, [runId, id, event]) {
    const number = Number(id)
    if (event?.type === "done" || event?.type === "error") stream.runs.delete(runId)
    else stream.runs.set(runId, number)
    const had = this.#had.get(runId)
    if (had !== undefined && (event?.type === "resync" || number === had + 1)) this.#had.set(runId, number)
  }

  /** @param {Stream} stream @param {Failure} failure */
  #lose(stream, failure) {
    if (this.#open === stream) this.#open = null
    if (this.#next === stream) this.#next = null
    const left = [...this.#wants.values()].filter(({ by }) => by === stream)
    for (const want of left) want.by = this.#next?.runs.has(want.runId) ? this.#next : null
    this.#fail(left.filter(({ by }) => !by), failure)
    // What came meanwhile has not been tried; the rest has, and who still wants it asks again.
    const rest = [...this.#wants.values()]
    if (rest.length === 0 || rest.some(({ by }) => !by)) this.#renew()
  }

  /** @param {Want[]} wants @param {Failure} failure */
  #fail(wants, failure) {
    this.#forget(wants)
    if (wants.length > 0) this.#say({ type: "lost", ids: wants.map(({ id }) => id), failure })
  }
}

/** @param {string} data @returns {import("./transcript.js").WireEvent | null} */
function parseEvent(data) {
  try {
    const event = JSON.parse(data)
    return typeof event?.type === "string" ? event : null
  } catch {
    return null
  }
}
