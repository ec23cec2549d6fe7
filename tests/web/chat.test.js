/** The headless chat sends, resumes and stops, against a server in memory whose runs each test writes. The clock is handed in. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { canContinue } from "../../web/shown.js"
import { answered, begun, json, last, partsOf, refusal, say, settle, shown, start, text, branches } from "./rig.js"

const CALL = { role: "assistant", content: [{ type: "tool_call", id: "t", name: "pay", input: { sum: 5 } }] }

// --- sending ----------------------------------------------------------------------------------------------------------

test("the first question makes a conversation, and the next goes below its answer", async () => {
  const all = start()
  const { chat, server } = all
  chat.defaultModel = "scripted:demo"
  const seen = []
  chat.subscribe(() => seen.push(chat.isLoading))
  await answered(all)
  assert.deepEqual([chat.conversationId, chat.isLoading, chat.error, seen.includes(true), seen.at(-1)], ["c", false, null, true, false])
  const [{ body }] = server.asked("POST", "/api/chat")
  assert.equal(typeof body.turnId, "string")
  assert.deepEqual({ ...body, turnId: 0 }, { conversationId: "c", turnId: 0, parentId: null, message: [{ type: "text", text: "Hi" }], model: "scripted:demo" })
  await answered(all, () => chat.send("More"), "Again")
  const bodies = server.asked("POST", "/api/chat").map((request) => request.body)
  assert.deepEqual([bodies[1].parentId, bodies[1].turnId === body.turnId], ["r0m", false])
  assert.equal(server.asked("POST", "/api/conversations").length, 1)
  assert.deepEqual(shown(chat), ["> Hi", "Hello", "> More", "Again"])
})

test("what is sent is shown at once, and under the same key when the server has named it", async () => {
  const all = start()
  const { run, ended } = await begun(all)
  const keys = all.chat.messages.map(({ key }) => key)
  run.say(text("Hello")).end("completed", [say("Hello")])
  await ended
  all.chat.wake()
  await settle()
  assert.deepEqual(all.chat.messages.map(({ key }) => key), keys)
  assert.deepEqual(all.chat.messages.map(({ id }) => id), ["u0", "r0"])
})

test("a lost request is sent again as the same turn, and the run is one", async () => {
  const { chat, server, clock } = start()
  server.away = true
  const ended = chat.send("Hi")
  await clock.pass(1000)
  assert.deepEqual(last(chat).transcript.retry, { code: "network", delayMs: 2000 })
  server.away = false
  let isLost = true
  server.refuse = (method, path) => {
    if (path !== "/api/chat" || !isLost) return null
    isLost = false
    // It arrived, and its answer did not.
    server.refuse = () => null
    void server.fetch(path, { method, body: JSON.stringify(server.requests.at(-1).body), signal: new AbortController().signal })
    throw new TypeError("cut")
  }
  await clock.pass(6000)
  assert.equal(server.runs.length, 1)
  assert.equal(new Set(server.asked("POST", "/api/chat").map(({ body }) => JSON.stringify(body))).size, 1)
  server.runs[0].say(text("Hello")).end("completed", [say("Hello")])
  await ended
  assert.deepEqual(shown(chat), ["> Hi", "Hello"])
})

test("a refusal that asks for patience is repeated three times at most", async () => {
  const { chat, server, clock } = start()
  server.refuse = (_, path) => (path === "/api/chat" ? refusal(503, "overloaded", {}, { "Retry-After": "0" }) : null)
  const ended = chat.send("Hi")
  await clock.pass(8000)
  await ended
  assert.deepEqual(clock.slept.filter((ms) => ms <= 4000), [1000, 2000, 4000])
  assert.deepEqual([server.asked("POST", "/api/chat").length, chat.error.code, chat.error.requestId], [4, "overloaded", "q"])
})

test("Retry-After is obeyed, and where it is too long the reader decides", async () => {
  for (const [seconds, waits] of [["7", [7000]], ["600", []]]) {
    const { chat, server, clock } = start()
    let count = 0
    server.refuse = (_, path) => (path === "/api/chat" && count++ === 0 ? refusal(429, "rate_limit", {}, { "Retry-After": seconds }) : null)
    void chat.send("Hi")
    await clock.pass(7000)
    assert.deepEqual(clock.slept.filter((ms) => ms < 10_000), waits)
    assert.equal(server.runs.length, waits.length)
    assert.equal(chat.error?.code ?? null, waits.length ? null : "rate_limit")
  }
})

test("what cannot be retried is not; asked again it is another turn", async () => {
  for (const refused of [refusal(400, "bad_request"), refusal(401, "auth"), refusal(500, "internal"), refusal(429, "rate_limit")]) {
    const all = start()
    const { chat, server } = all
    server.refuse = (_, path) => (path === "/api/chat" ? refused : null)
    await chat.send("Hi")
    assert.equal(server.asked("POST", "/api/chat").length, 1)
    assert.notEqual(chat.error, null)
    server.refuse = () => null
    chat.defaultModel = "other"
    await answered(all, () => chat.retry())
    const [first, second] = server.asked("POST", "/api/chat").map(({ body }) => body)
    assert.notEqual(first.turnId, second.turnId)
    assert.equal(second.model, "other")
    assert.deepEqual(shown(chat), ["> Hi", "Hello"])
  }
})

test("who asks something else after a refusal has the first question beside it", async () => {
  const all = start()
  const { chat, server } = all
  await answered(all)
  server.refuse = (_, path) => (path === "/api/chat" ? refusal(400, "bad_request") : null)
  await chat.send("Refused")
  server.refuse = () => null
  await answered(all, () => chat.send("Else"), "Yes")
  assert.deepEqual([shown(chat), branches(chat)], [["> Hi", "Hello", "> Else", "Yes"], ["1/1", "1/1", "2/2", "1/1"]])
  assert.equal(server.asked("POST", "/api/chat").at(-1).body.parentId, "r0m")
})

test("an answer that is no JSON is an error with its status", async () => {
  const { chat, server } = start()
  const page = { ...json(502, null), json: () => Promise.reject(new SyntaxError("<html>")) }
  server.refuse = (_, path) => (path === "/api/chat" ? page : null)
  await chat.send("Hi")
  assert.deepEqual([chat.error.code, chat.error.message], ["internal", "HTTP 502"])
})

test("a conflict shows what is there and gives back what was written", async () => {
  const all = start()
  const { chat, server } = all
  await answered(all)
  server.begin("r0m").say(text("Elsewhere"))
  server.refuse = (_, path) => (path === "/api/chat" ? refusal(409, "conflict", { details: { runId: "r1" } }) : null)
  await chat.send("Mine")
  await settle()
  assert.deepEqual([chat.unsent.text, chat.problem.code, chat.isLoading], ["Mine", "conflict", true])
  assert.deepEqual(shown(chat), ["> Hi", "Hello|Elsewhere"])
})

test("nothing is sent while an answer is loading, nor an empty text", async () => {
  const all = start()
  const { chat, server } = all
  await chat.send("  \n")
  assert.equal(chat.messages.length, 0)
  await begun(all)
  await chat.send("again")
  await chat.retry()
  await chat.edit("u0", "other")
  assert.deepEqual([chat.messages.length, server.runs.length], [2, 1])
})

// --- resuming ---------------------------------------------------------------------------------------------------------

test("a cut connection is no error, and no text is doubled or lost", async () => {
  const all = start()
  const { chat } = all
  const { run, ended } = await begun(all)
  for (const word of ["Once ", "upon ", "a ", "time"]) {
    run.say(text(word), null)
    await settle()
    run.cut()
    await settle()
    assert.equal(chat.error, null)
  }
  run.end("completed", [say("Once upon a time")])
  await ended
  assert.deepEqual(shown(chat), ["> Hi", "Once upon a time"])
  assert.deepEqual(all.server.asked("GET", "/api/events").map(({ path }) => path.split("?run=r0&")[1]), [0, 3, 5, 7, 9].map((number) => `after=${number}`))
})

test("a reload in mid-answer follows it from its beginning to its end", async () => {
  const all = start()
  const { run } = await begun(all)
  run.say(text("Half"))
  const { chat } = start(all.server)
  await chat.open("c")
  await settle()
  assert.deepEqual([shown(chat), chat.isLoading, chat.isOpening, chat.title], [["> Hi", "Half"], true, false, "T"])
  run.say(text(" done")).end("completed", [say("Half done")])
  await settle()
  assert.deepEqual([shown(chat), chat.isLoading], [["> Hi", "Half done"], false])
})

test("a server that dies in mid-answer has interrupted it, and its text can go on", async () => {
  const all = start()
  const { chat, server, clock } = all
  const { run, ended } = await begun(all)
  run.say(text("Half"))
  await settle()
  server.away = true
  run.cut()
  await clock.pass(3000)
  assert.deepEqual([chat.error, last(chat).transcript.retry], [null, { code: "network", delayMs: 4000 }])
  server.away = false
  run.end("interrupted", [say("Half")])
  chat.wake()
  await ended
  assert.deepEqual([partsOf(last(chat)), last(chat).transcript.outcome, canContinue(last(chat))], [["Half"], "interrupted", true])

  await answered(all, () => chat.continue(), " and more")
  const { body } = server.asked("POST", "/api/chat").at(-1)
  assert.deepEqual([body.parentId, "message" in body], ["r0m", false])
  assert.deepEqual(shown(chat), ["> Hi", "Half| and more"])
  assert.deepEqual(branches(chat), ["1/1", "1/1"])
  const fresh = start(server)
  await fresh.chat.open("c")
  assert.deepEqual(shown(fresh.chat), shown(chat))
})

test("a conversation that cannot be reached is asked for until it is there; one that is not there is left", async () => {
  const all = start()
  await answered(all)
  const { chat, clock } = start(all.server)
  all.server.away = true
  const opened = chat.open("c")
  await clock.pass(3000)
  assert.deepEqual([chat.isOpening, chat.problem.code], [true, "network"])
  all.server.away = false
  chat.wake()
  await opened
  assert.deepEqual([chat.isOpening, chat.problem, shown(chat)], [false, null, ["> Hi", "Hello"]])

  all.server.refuse = () => refusal(404, "not_found")
  await chat.open("gone")
  assert.deepEqual([chat.conversationId, chat.problem.code, chat.messages], ["", "not_found", []])
})

test("a wake shows what others did meanwhile", async () => {
  const all = start()
  await answered(all)
  const other = start(all.server)
  await other.chat.open("c")
  await answered(other, () => other.chat.send("From there"), "Yes")
  all.chat.wake()
  await settle()
  assert.deepEqual(shown(all.chat), ["> Hi", "Hello", "> From there", "Yes"])
})

test("who sends while the conversation is being read again sees the answer go on", async () => {
  const all = start()
  const { chat, server } = all
  await answered(all)
  let release = () => {}
  const held = new Promise((resolve) => (release = resolve))
  server.refuse = (method, path) => (method === "GET" && path.startsWith("/api/conv") ? held.then(() => server.fetch("/api/conversations/c")) : null)
  chat.wake()
  const { run } = await begun(all, () => chat.send("More"))
  run.say(text("Half"))
  await settle()
  server.refuse = () => null
  release()
  await settle()
  assert.deepEqual([shown(chat), chat.isLoading], [["> Hi", "Hello", "> More", "Half"], true])
})

test("what an answer took is still known after a wake", async () => {
  const all = start()
  const { run, ended } = await begun(all)
  run.say({ type: "tool_start", toolCallId: "t", toolName: "pay" }, { type: "tool_result", toolCallId: "t", result: "ok", isError: false, durationMs: 12 })
  run.end("completed", [CALL, { role: "tool", content: [{ type: "tool_result", toolCallId: "t", toolName: "pay", result: "ok", isError: false }] }])
  await ended
  const before = last(all.chat).transcript
  all.chat.wake()
  await settle()
  assert.equal(last(all.chat).transcript, before)
})

// --- stopping ---------------------------------------------------------------------------------------------------------

test("stop is told to the server, which says what it came to", async () => {
  const all = start()
  const { chat } = all
  const { run, ended } = await begun(all)
  run.say(text("Half"))
  await settle()
  const stopped = chat.stop()
  assert.equal(last(chat).transcript.isStopping, true)
  await Promise.all([stopped, ended])
  const { outcome, receipt, isStopping } = last(chat).transcript
  assert.deepEqual([outcome, receipt.upstreamClosedMs, isStopping, chat.isLoading, partsOf(last(chat))], ["stopped", 7, false, false, ["Half"]])
  assert.equal(canContinue(last(chat)), true)
})

test("stop before anything was heard finds the run and stops it", async () => {
  const { chat, server } = start()
  const ended = chat.send("Hi")
  const stopped = chat.stop()
  await Promise.all([stopped, ended])
  assert.deepEqual([last(chat).transcript.outcome, server.runs[0].ended.outcome], ["stopped", "stopped"])
})

test("stop while the first request is lost tries once more, and then says that it did not arrive", async () => {
  const { chat, server } = start()
  server.away = true
  const ended = chat.send("Hi")
  await settle()
  await Promise.all([chat.stop(), ended])
  assert.deepEqual([chat.error.code, chat.isLoading, server.requests.length], ["unreachable", false, 2])
  // Whether it had arrived nobody knows, so it is the same turn that is sent again.
  server.away = false
  await answered({ chat, server }, () => chat.retry())
  assert.deepEqual(shown(chat), ["> Hi", "Hello"])
})

test("stop while the connection is lost ends the waiting, and a retry shows what came of the run", async () => {
  const all = start()
  const { chat, server, clock } = all
  const { run, ended } = await begun(all)
  run.say(text("Half"))
  await settle()
  server.away = true
  run.cut()
  await clock.pass(1000)
  await Promise.all([chat.stop(), ended])
  assert.deepEqual([chat.error.code, partsOf(last(chat))], ["unreachable", ["Half"]])
  server.away = false
  run.say(text(" more")).end("completed", [say("Half more")])
  await chat.retry()
  assert.deepEqual([shown(chat), server.runs.length, chat.error], [["> Hi", "Half more"], 1, null])
})

test("a stop that does not arrive while the answer goes on says so and can be repeated", async () => {
  const all = start()
  const { chat, server } = all
  const { run, ended } = await begun(all)
  server.refuse = (_, path) => {
    if (path.endsWith("/stop")) throw new TypeError("lost")
    return null
  }
  await chat.stop()
  assert.deepEqual([chat.problem.code, chat.isLoading, last(chat).transcript.isStopping], ["stop", true, false])
  run.say(text("On"))
  await settle()
  assert.deepEqual(shown(chat), ["> Hi", "On"])
  server.refuse = () => null
  await Promise.all([chat.stop(), ended])
  assert.equal(last(chat).transcript.outcome, "stopped")
})

test("where the server has stopped and its last word does not come, stop again ends it", async () => {
  const all = start()
  const { chat, server } = all
  const { run, ended } = await begun(all)
  run.pipes = []
  await chat.stop()
  assert.deepEqual([chat.isLoading, last(chat).transcript.receipt.upstreamClosedMs], [true, 7])
  await Promise.all([chat.stop(), ended])
  assert.deepEqual([last(chat).transcript.outcome, server.runs[0].ended.outcome], ["stopped", "stopped"])
})
