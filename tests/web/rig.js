/** What the tests of the client share: a clock that is moved by hand, streams in memory, and a server as small as can be. */

import assert from "node:assert/strict"
import { readFileSync, readdirSync } from "node:fs"

import { createChat } from "../../web/chat.js"

const FOLDER = new URL("../wires/golden/", import.meta.url)

export const GOLDEN = readdirSync(FOLDER).filter((name) => name.endsWith(".sse")).sort()

/** Read a golden stream; every number that it leaves out becomes a block of an id alone, as the server sends it. */
/** @param {string} name @returns {string[]} blocks, the n-th being event n */
export function goldenBlocks(name) {
  const blocks = []
  for (const block of readFileSync(new URL(name, FOLDER), "utf8").split("\n\n").filter(Boolean)) {
    const id = Number(/^id: (\d+)/m.exec(block)?.[1])
    while (blocks.length < id - 1) blocks.push(`id: ${blocks.length + 1}\n\n`)
    blocks.push(`${block}\n\n`)
  }
  return blocks
}

/** @param {object[]} events null for one that a viewer needs nothing of */
export const blocksOf = (events) =>
  events.map((event, index) => `id: ${index + 1}\n${event ? `data: ${JSON.stringify(event)}\n` : ""}\n`)

export const encode = (text) => new TextEncoder().encode(text)

/** Time passes only when it is told to. */
export class Clock {
  time = 1000
  /** How long was slept, each time. */
  slept = []
  #timers = []

  now = () => this.time

  sleep = (ms, signal) => {
    this.slept.push(ms)
    return new Promise((resolve) => {
      const timer = { at: this.time + ms, resolve }
      this.#timers.push(timer)
      signal.addEventListener("abort", () => {
        this.#timers = this.#timers.filter((one) => one !== timer)
        resolve()
      })
    })
  }

  /** Let `ms` pass, and all that happens meanwhile happen. */
  async pass(ms) {
    const end = this.time + ms
    await settle()
    while (true) {
      const next = this.#timers.filter(({ at }) => at <= end).sort((one, other) => one.at - other.at)[0]
      if (!next) break
      this.time = next.at
      this.#timers = this.#timers.filter((one) => one !== next)
      next.resolve()
      await settle()
    }
    this.time = end
  }
}

/** Let everything happen that needs no time. */
export async function settle() {
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate)
}

/**
 * Make a response as fetch does, of which only what a client reads is there.
 *
 * @param {Iterable<Uint8Array> | AsyncIterable<Uint8Array>} chunks
 * @param {{ signal?: AbortSignal, end?: "close" | "break" | "hang", headers?: Record<string, string> }} [more]
 */
export function stream(chunks, { signal, end = "close", headers = {} } = {}) {
  const iterator = chunks[Symbol.asyncIterator]?.() ?? chunks[Symbol.iterator]()
  const aborted = new Promise((_, reject) => {
    signal?.addEventListener("abort", () => reject(signal.reason))
  })
  aborted.catch(() => {})
  const read = async () => {
    const { value, done } = await (signal ? Promise.race([iterator.next(), aborted]) : iterator.next())
    if (!done) return { value, done }
    if (end === "break") throw new TypeError("network error")
    return end === "hang" ? aborted : { value: undefined, done: true }
  }
  const body = { getReader: () => ({ read, cancel: async () => {} }) }
  return { ok: true, status: 200, headers: new Headers(headers), body }
}

/** @param {number} status @param {unknown} body @param {Record<string, string>} [headers] */
export function json(status, body, headers = {}) {
  return { ok: status < 400, status, headers: new Headers(headers), json: async () => structuredClone(body) }
}

export const refusal = (status, code, more = {}, headers = {}) =>
  json(status, { error: { code, message: `no: ${code}`, requestId: "q", ...more } }, headers)

/** Bytes that a test writes when it wants to. */
export class Pipe {
  #waiting = []
  #written = []
  #isOver = false
  #onEnd

  /** @param {() => void} [onEnd] */
  constructor(onEnd = () => {}) {
    this.#onEnd = onEnd
  }

  /** @param {string} text */
  write(text) {
    this.#written.push({ value: encode(text), done: false })
    this.#wake()
  }

  end() {
    if (this.#isOver) return
    this.#isOver = true
    this.#onEnd()
    this.#written.push({ value: undefined, done: true })
    this.#wake()
  }

  [Symbol.asyncIterator]() {
    return { next: () => new Promise((resolve) => (this.#waiting.push(resolve), this.#wake())) }
  }

  #wake() {
    while (this.#waiting.length > 0 && this.#written.length > 0) this.#waiting.shift()(this.#written.shift())
  }
}

/**
 * A server that keeps one conversation. A run is written by the test, event by event: `run.say(...events)`. `away` makes
 * every request fail as fetch does where nobody answers; `refuse` answers a request by path before it is looked at.
 */
export class FakeServer {
  requests = []
  runs = []
  nodes = []
  leafId = null
  settings = {}
  away = false
  /** How many streams are open, and the most that ever were. */
  open = 0
  most = 0
  aborted = 0
  refuse = (_method, _path) => null

  fetch = async (path, { method = "GET", body, signal } = {}) => {
    const value = body === undefined ? undefined : JSON.parse(body)
    this.requests.push({ method, path, body: value })
    await null
    signal?.throwIfAborted()
    if (this.away) throw new TypeError("fetch failed")
    return this.refuse(method, path) ?? this.#answer(method, path, value, signal)
  }

  /** What was asked of a route, as bodies or paths. */
  asked(method, path) {
    return this.requests.filter((request) => request.method === method && request.path.startsWith(path))
  }

  #answer(method, path, body, signal) {
    if (path.startsWith("/api/events?")) return this.#follow([...new URLSearchParams(path.split("?")[1])], signal)
    if (path === "/api/conversations") {
      this.settings = body
      return json(201, { id: "c" })
    }
    if (path === "/api/chat") return this.#chat(body)
    if (path.startsWith("/api/conversations/")) {
      const { leafId = this.leafId, ...settings } = method === "PATCH" ? body : {}
      Object.assign(this, { leafId, settings: { ...this.settings, ...settings } })
      return json(200, { ...this.settings, id: "c", title: "T", leafId: this.leafId, messages: this.nodes, runs: this.runs.map((run) => run.told()) })
    }
    const [, id, what] = /^\/api\/runs\/([^/]+)\/(\w+)/.exec(path)
    const run = this.runs.find((one) => one.id === id)
    if (!run) return refusal(404, "not_found")
    if (what === "stop") return run.stop()
    return run.decide(body.decisions)
  }

  #chat(body) {
    const known = this.runs.find(({ turnId }) => turnId === body.turnId)
    if (known) return known.accepted()
    let { parentId } = body
    if (body.message) {
      const id = `u${this.nodes.length}`
      this.nodes.push({ id, parentId, role: "user", content: body.message, runId: null, createdAt: this.when() })
      parentId = id
    }
    return this.begin(parentId, body.turnId).accepted()
  }

  /** @param {string[][]} pairs of a run's id and a cursor behind it */
  #follow(pairs, signal) {
    const pipe = new Pipe(() => this.open--)
    const open = new Set()
    this.most = Math.max(this.most, ++this.open)
    signal.addEventListener("abort", () => {
      this.aborted++
      pipe.end()
    })
    for (const [index, [, id]] of pairs.entries()) {
      if (index % 2) continue
      const run = this.runs.find((one) => one.id === id)
      const refusal = { type: "error", code: "not_found", message: "no", retryable: false, requestId: "q", status: 404 }
      if (run) run.follow(Number(pairs[index + 1][1]), pipe, open)
      else pipe.write(`event: ${id}\nid: 0\ndata: ${JSON.stringify(refusal)}\n\n`)
    }
    if (open.size === 0) pipe.end()
    return stream(pipe, { signal })
  }

  begin(parentId, turnId = null) {
    const run = new FakeRun(this, `r${this.runs.length}`, parentId, turnId)
    this.runs.push(run)
    this.leafId = parentId
    return run
  }

  when() {
    return new Date(this.requests.length * 1000 + this.nodes.length + this.runs.length).toISOString()
  }
}

class FakeRun {
  blocks = []
  pipes = []
  approvals = []
  ended = null
  nextRunId = null

  constructor(server, id, parentId, turnId) {
    Object.assign(this, { server, id, parentId, turnId, messageId: `${id}m`, createdAt: server.when() })
    this.say({ type: "start", runId: id, conversationId: "c", parentId, messageId: this.messageId, model: "x" })
  }

  say(...events) {
    for (const event of events) {
      const block = `id: ${this.blocks.length + 1}\n${event ? `data: ${JSON.stringify(event)}\n` : ""}\n`
      this.blocks.push(block)
      for (const { pipe } of this.pipes) pipe.write(`event: ${this.id}\n${block}`)
    }
    return this
  }

  end(outcome, messages = [], more = {}) {
    this.ended = { outcome, finishReason: "stop", usage: { outputTokens: 3 }, ...more }
    let { parentId } = this
    for (const [index, { role, content }] of messages.entries()) {
      const id = index === 0 ? this.messageId : `${this.messageId}_${index + 1}`
      this.server.nodes.push({ id, parentId, role, content, runId: this.id, createdAt: this.server.when() })
      parentId = id
    }
    if (this.server.leafId === this.parentId) this.server.leafId = parentId
    this.say({ ...(more.error ? { type: "error", ...more.error } : { type: "done", ...this.ended }), messages })
    for (const { pipe, open } of this.pipes) if (open.delete(this) && open.size === 0) pipe.end()
    return this
  }

  /** Break every connection. */
  cut() {
    for (const { pipe } of this.pipes) pipe.end()
    this.pipes = []
  }

  /** Tell a connection, on which other runs may be `open`, what is behind a cursor. */
  follow(after, pipe, open) {
    this.pipes.push({ pipe, open })
    for (const block of this.blocks.slice(after)) pipe.write(`event: ${this.id}\n${block}`)
    if (!this.ended) open.add(this)
  }

  accepted() {
    return json(202, { runId: this.id, conversationId: "c", messageId: this.messageId, parentId: this.parentId })
  }

  stop() {
    const stopped = !this.ended
    if (stopped) this.end("stopped", [say("Half")])
    return json(200, { stopped, outcome: this.ended.outcome, upstreamClosedMs: 7, usage: { outputTokens: 3 }, estimated: true })
  }

  decide(decisions) {
    for (const { toolCallId, decision } of decisions) {
      const open = this.approvals.find((approval) => approval.toolCallId === toolCallId)
      if (!open || (open.decision && open.decision !== decision)) return refusal(409, "conflict")
      open.decision = decision
    }
    const isReady = this.approvals.every(({ decision }) => decision)
    if (isReady) this.nextRunId ??= this.server.begin(this.server.leafId).id
    return json(200, { runId: this.nextRunId, approvals: this.approvals })
  }

  told() {
    const { id, parentId, messageId, turnId, approvals, nextRunId, createdAt, ended } = this
    const end = ended ?? { outcome: null, finishReason: null, usage: null }
    return { id, conversationId: "c", parentId, messageId, turnId, model: "x", state: ended ? "ended" : "running", error: null, ...end, approvals, nextRunId, createdAt }
  }
}

/** An assistant's message. */
export function say(text) {
  return { role: "assistant", content: [{ type: "text", text }] }
}

/** Return a generator of numbers from 0 to 1 that are the same each time. */
export function dice(seed) {
  let state = seed
  return () => {
    state = (state * 1664525 + 1013904223) % 2 ** 32
    return state / 2 ** 32
  }
}

// --- a chat on such a server -------------------------------------------------------------------------------------------

export const text = (content) => ({ type: "text", content })
/** @returns {{ chat: any, server: FakeServer, clock: Clock }} */
export function start(server = new FakeServer(), clock = new Clock(), more = {}) {
  const chat = createChat({ fetch: server.fetch, sleep: clock.sleep, now: clock.now, ...more })
  return { chat, server, clock }
}

/** Send, and return the run that it began, which the test then writes. */
export async function begun({ chat, server }, act = () => chat.send("Hi")) {
  const count = server.runs.length
  const ended = act()
  await settle()
  assert.equal(server.runs.length, count + 1)
  return { run: server.runs.at(-1), ended }
}

export async function answered(parts, act, answer = "Hello") {
  const { run, ended } = await begun(parts, act)
  run.say(text(answer)).end("completed", [say(answer)])
  await ended
  return run
}

export const last = (chat) => chat.messages.at(-1)
export const partsOf = (message) => message.transcript.parts.map((part) => part.text ?? `${part.name}:${part.state}`)
export const shown = (chat) => chat.messages.map((message) => (message.role === "user" ? `> ${message.text}` : partsOf(message).join("|")))
export const branches = (chat) => chat.messages.map(({ branches: { index, count } }) => `${index + 1}/${count}`)
export const pathOf = ({ method, path }) => `${method} ${path}`
