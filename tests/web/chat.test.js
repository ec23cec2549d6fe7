/** The headless chat against a real server on loopback, which each test tells what to answer. The clock is handed in. */

import assert from "node:assert/strict"
import { once } from "node:events"
import { createServer } from "node:http"
import { after, before, beforeEach, test } from "node:test"

import { createChat } from "../../web/chat.js"

/** What the server does with each request, in their order; the last one is for all that follow. */
let answers = []
/** @type {{ body: any, closed: Promise<unknown> }[]} */
let requests = []
let api = ""

const server = createServer(async (request, response) => {
  let body = ""
  for await (const chunk of request) body += chunk
  requests.push({ body: JSON.parse(body), closed: once(response, "close") })
  const answer = answers[Math.min(requests.length, answers.length) - 1]
  await answer(response)
})

before(async () => {
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  api = `http://127.0.0.1:${server.address().port}`
})
after(() => {
  server.closeAllConnections()
  server.close()
})
beforeEach(() => {
  requests = []
})

const START = { type: "start", runId: "r", messageId: "m", model: "x" }
const text = (content) => ({ type: "text", content })
const done = (content) => ({ type: "done", outcome: "completed", finishReason: "stop", usage: {}, messages: [{ role: "assistant", content: [{ type: "text", text: content }] }] })
const failure = (retryable) => ({ type: "error", code: "overloaded", message: "busy", retryable, requestId: "q1" })
const frames = (events) => events.map((event, index) => `id: ${index + 1}\ndata: ${JSON.stringify(event)}\n\n`).join("")

const open = (response) => response.writeHead(200, { "Content-Type": "text/event-stream" })
const play = (...events) => (response) => void open(response).end(frames(events))
const cutAfter = (...events) => (response) => open(response).write(frames(events), () => response.destroy())
const hang = (...events) => (response) => void open(response).write(`: hello\n\n${frames(events)}`)
const refuse = (status, code, headers = {}) => (response) =>
  void response.writeHead(status, { "Content-Type": "application/json", ...headers }).end(JSON.stringify({ error: { code, message: `no: ${code}`, requestId: "q2" } }))
const drop = (response) => void response.destroy()

/** @returns {any} */
function chatWith(...theAnswers) {
  answers = theAnswers
  const slept = []
  const chat = createChat({ api, sleep: async (ms) => void slept.push(ms), now: () => 1000 })
  return Object.assign(chat, { slept })
}

/** Resolve when `isSo` holds, looked at after each change. */
function until(chat, isSo) {
  return new Promise((resolve) => {
    const end = chat.subscribe(() => {
      if (!isSo()) return
      end()
      resolve(undefined)
    })
  })
}

const answerOf = (chat) => chat.messages.at(-1).transcript
const shown = (chat) => answerOf(chat).parts.map((part) => part.text ?? part.kind).join("|")

test("an answer is streamed and its messages become the history", async () => {
  const chat = chatWith(play(START, text("Hel"), text("lo"), done("Hello")), play(START, text("Again"), done("Again")))
  chat.model = "scripted:demo"
  const seen = []
  chat.subscribe(() => seen.push(chat.isLoading))
  await chat.send("Hi")
  assert.equal(shown(chat), "Hello")
  assert.deepEqual([seen[0], seen.at(-1), chat.isLoading, chat.error], [true, false, false, null])
  assert.deepEqual(requests[0].body, { messages: [{ role: "user", content: "Hi" }], model: "scripted:demo" })
  await chat.send("More")
  assert.deepEqual(requests[1].body.messages, [
    { role: "user", content: "Hi" },
    { role: "assistant", content: [{ type: "text", text: "Hello" }] },
    { role: "user", content: "More" },
  ])
  assert.deepEqual(chat.messages.map(({ role }) => role), ["user", "assistant", "user", "assistant"])
})

test("frames may be cut anywhere between chunks", async () => {
  const bytes = Buffer.from(frames([START, text("é😀"), done("é😀")]))
  const chat = chatWith(async (response) => {
    open(response)
    for (const byte of bytes) {
      response.write(Buffer.of(byte))
      await new Promise(setImmediate)
    }
    response.end()
  })
  await chat.send("Hi")
  assert.equal(shown(chat), "é😀")
})

test("a failure before anything was seen is tried again after 1, 2 and 4 s", async () => {
  for (const broken of [cutAfter(START), drop, refuse(503, "overloaded", { "Retry-After": "0" })]) {
    requests = []
    const chat = chatWith(broken, broken, broken, play(START, text("ok"), done("ok")))
    await chat.send("Hi")
    assert.deepEqual(chat.slept, [1000, 2000, 4000])
    assert.equal(shown(chat), "ok")
    assert.equal(requests.length, 4)
    assert.deepEqual(requests[3].body.messages, [{ role: "user", content: "Hi" }])
  }
})

test("the third repetition is the last", async () => {
  const chat = chatWith(cutAfter(START))
  await chat.send("Hi")
  assert.equal(requests.length, 4)
  assert.equal(chat.error.code, "network")
})

test("what the server gave up after its own tries is not repeated, and what it had done is kept", async () => {
  const messages = [{ role: "assistant", content: [{ type: "tool_call", id: "a", name: "add", input: {} }] }]
  const chat = chatWith(play(START, { ...failure(true), messages }))
  await chat.send("Hi")
  assert.equal(requests.length, 1)
  assert.deepEqual(chat.history, [{ role: "user", content: "Hi" }, ...messages])
  assert.deepEqual([chat.error.code, chat.error.message, chat.error.requestId], ["overloaded", "busy", "q1"])
})

test("while it waits the chat says for how long and why", async () => {
  answers = [cutAfter(START), play(START, done("x"))]
  const waits = []
  const chat = createChat({ api, sleep: async () => void waits.push(answerOf(chat).retry) })
  await chat.send("Hi")
  assert.deepEqual(waits, [{ code: "network", delayMs: 1000 }])
  assert.equal(answerOf(chat).retry, null)
})

test("Retry-After is obeyed, and where it is too long the reader decides", async () => {
  const patient = chatWith(refuse(429, "rate_limit", { "Retry-After": "7" }), play(START, done("ok")))
  await patient.send("Hi")
  assert.deepEqual(patient.slept, [7000])
  requests = []
  const asked = chatWith(refuse(429, "rate_limit", { "Retry-After": "600" }))
  await asked.send("Hi")
  assert.deepEqual([asked.slept, asked.error.code], [[], "rate_limit"])
})

test("what cannot be retried is not", async () => {
  for (const broken of [play(START, failure(false)), refuse(400, "bad_request"), refuse(401, "auth"), refuse(500, "internal"), refuse(429, "rate_limit")]) {
    requests = []
    const chat = chatWith(broken)
    await chat.send("Hi")
    assert.equal(requests.length, 1)
    assert.notEqual(chat.error, null)
    assert.deepEqual(chat.slept, [])
  }
})

test("an answer that is no JSON is an error with its status", async () => {
  const chat = chatWith((response) => void response.writeHead(502, { "Content-Type": "text/html" }).end("<html>"))
  await chat.send("Hi")
  assert.deepEqual([chat.error.code, chat.error.message], ["internal", "HTTP 502"])
})

test("once text was seen a lost connection is an error, and no text is doubled", async () => {
  for (const broken of [cutAfter(START, text("Half")), play(START, text("Half")), play(START, text("Half"), failure(true))]) {
    requests = []
    const chat = chatWith(broken, play(START, text("Whole"), done("Whole")))
    await chat.send("Hi")
    assert.equal(requests.length, 1)
    assert.equal(shown(chat), "Half")
    assert.equal(chat.error.retryable, true)
    assert.deepEqual(chat.history, [{ role: "user", content: "Hi" }, { role: "assistant", content: "Half" }])

    await chat.retry()
    assert.equal(shown(chat), "Whole")
    assert.equal(chat.error, null)
    assert.deepEqual(requests[1].body.messages, [{ role: "user", content: "Hi" }])
    assert.deepEqual(chat.messages.map(({ role }) => role), ["user", "assistant"])
  }
})

test("reasoning and tools count as seen", async () => {
  for (const event of [{ type: "reasoning", content: "Hm" }, { type: "tool_start", toolCallId: "t", toolName: "add" }]) {
    requests = []
    const chat = chatWith(play(START, event, failure(true)))
    await chat.send("Hi")
    assert.equal(requests.length, 1)
    assert.deepEqual(chat.history, [{ role: "user", content: "Hi" }])
  }
})

test("stop closes the request and keeps what was seen", async () => {
  const chat = chatWith(hang(START, text("Half")))
  const sent = chat.send("Hi")
  await until(chat, () => shown(chat) === "Half")
  chat.stop()
  await sent
  await requests[0].closed
  assert.deepEqual([chat.isLoading, answerOf(chat).outcome, chat.error], [false, "stopped", null])
  assert.deepEqual(chat.history.at(-1), { role: "assistant", content: "Half" })
})

test("stop works before the first byte and while waiting for another try", async () => {
  const silent = chatWith(() => {})
  const sent = silent.send("Hi")
  setImmediate(() => silent.stop())
  await sent
  assert.deepEqual([silent.isLoading, answerOf(silent).outcome], [false, "stopped"])
  assert.deepEqual(silent.history, [{ role: "user", content: "Hi" }])

  answers = [cutAfter(START)]
  requests = []
  const waiting = createChat({ api })
  const asked = waiting.send("Hi")
  await until(waiting, () => answerOf(waiting).retry !== null)
  waiting.stop()
  await asked
  assert.deepEqual([requests.length, answerOf(waiting).outcome], [1, "stopped"])
})

test("nothing is sent while an answer is loading, nor an empty text", async () => {
  const chat = chatWith(hang(START, text("a")))
  await chat.send("  \n")
  assert.equal(chat.messages.length, 0)
  const sent = chat.send("Hi")
  await chat.send("again")
  await chat.retry()
  assert.equal(chat.messages.length, 2)
  chat.stop()
  await sent
})

test("a new conversation ends the one that is loading", async () => {
  const chat = chatWith(hang(START, text("old")), play(START, text("new"), done("new")))
  const sent = chat.send("Hi")
  await until(chat, () => shown(chat) === "old")
  chat.clear()
  await chat.send("Ho")
  await sent
  assert.equal(shown(chat), "new")
  assert.deepEqual(requests[1].body.messages, [{ role: "user", content: "Ho" }])
})

test("frames that are no events are passed over", async () => {
  const chat = chatWith((response) => void open(response).end(`data: [DONE]\n\ndata: 3\n\ndata: {"type":"later"}\n\n${frames([START, text("a"), done("a")])}`))
  await chat.send("Hi")
  assert.equal(shown(chat), "a")
})
