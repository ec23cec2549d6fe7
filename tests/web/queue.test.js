/** Questions that wait for the answer before them: asked one by one by themselves, or held, and never lost. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { answered, begun, last, refusal, say, settle, shown, start, text } from "./rig.js"

const CALL = { role: "assistant", content: [{ type: "tool_call", id: "t", name: "pay", input: {} }] }
const PNG = { type: "image", mediaType: "image/png", data: "iVBORw0KGgo=" }
const waiting = (chat) => chat.queued.map((one) => one.text)
const finish = async (run, answer = "Yes") => {
  run.say(text(answer)).end("completed", [say(answer)])
  await settle()
}

test("what waits is asked by itself after an answer that completed, one after the other and as it was written", async () => {
  const all = start()
  const { chat, server } = all
  const { run } = await begun(all)
  chat.enqueue("First", [PNG], [{ name: "a.txt", text: "A" }])
  chat.enqueue("Second")
  chat.enqueue(" ")
  await settle()
  assert.deepEqual([waiting(chat), server.runs.length], [["First", "Second"], 1])
  await finish(run)
  assert.deepEqual([waiting(chat), server.runs.length, chat.isLoading], [["Second"], 2, true])
  await finish(server.runs[1])
  await finish(server.runs[2])
  assert.deepEqual([waiting(chat), chat.isLoading], [[], false])
  assert.deepEqual(shown(chat), ["> Hi", "Yes", "> First", "Yes", "> Second", "Yes"])
  assert.deepEqual(chat.messages[2].images, [PNG])
  assert.deepEqual(chat.messages[2].files, [{ name: "a.txt", text: "A" }])
  const asked = server.asked("POST", "/api/chat").map(({ body }) => body.parentId)
  assert.deepEqual(asked, [null, "r0m", "r1m"])
})

test("what waits can be taken back until it is asked, and then is not", async () => {
  const all = start()
  const { chat, server } = all
  const { run } = await begun(all)
  chat.enqueue("First")
  chat.enqueue("Second")
  assert.equal(chat.unqueue(chat.queued[0].id).text, "First")
  assert.equal(chat.unqueue("another"), null)
  await finish(run)
  await finish(server.runs[1])
  assert.deepEqual(shown(chat), ["> Hi", "Yes", "> Second", "Yes"])
})

const ENDINGS = {
  stopped: ({ chat }) => chat.stop(),
  interrupted: ({ run }) => run.end("interrupted", [say("Half")]),
  failed: ({ run }) => run.end(null, [], { error: { code: "overloaded", message: "", retryable: true } }),
  paused: ({ run }) => {
    run.approvals = [{ toolCallId: "t", toolName: "pay", input: {}, wants: "approval", decision: null }]
    run.say({ type: "approval", toolCallId: "t", toolName: "pay", input: {} }).end("paused", [CALL])
  },
}
for (const [name, end] of Object.entries(ENDINGS)) {
  test(`after an answer that is ${name} it is held until the reader sends it`, async () => {
    const all = start()
    const { chat, server } = all
    const { run } = await begun(all)
    chat.enqueue("Next")
    await end({ chat, run })
    await settle()
    assert.deepEqual([waiting(chat), chat.isLoading, server.runs.length], [["Next"], false, 1])
    await begun(all, () => chat.sendQueued(chat.queued[0].id))
    assert.deepEqual([waiting(chat), chat.messages.at(-2).text], [[], "Next"])
  })
}

test("while the server cannot be reached it waits, and goes when the answer has come after all", async () => {
  const all = start()
  const { chat, server, clock } = all
  const { run } = await begun(all)
  chat.enqueue("Next")
  server.away = true
  run.cut()
  await clock.pass(8000)
  assert.deepEqual([waiting(chat), chat.isLoading], [["Next"], true])
  server.away = false
  run.say(text("Yes")).end("completed", [say("Yes")])
  chat.wake()
  await settle()
  assert.deepEqual([waiting(chat), server.runs.length, chat.messages.at(-2).text], [[], 2, "Next"])
})

test("it stays with its conversation, and waits for the reader where that is not shown", async () => {
  const all = start()
  const { chat, server } = all
  const { run } = await begun(all)
  chat.enqueue("Next")
  chat.clear()
  assert.deepEqual(waiting(chat), [])
  await finish(run)
  assert.equal(server.runs.length, 1)
  await chat.open("c")
  await settle()
  assert.deepEqual([waiting(chat), server.runs.length], [["Next"], 1])
})

test("what waits before a new conversation has its name waits in it afterwards", async () => {
  const all = start()
  const { chat, server } = all
  void chat.send("Hi")
  chat.enqueue("Next")
  await settle()
  assert.deepEqual([chat.conversationId, waiting(chat)], ["c", ["Next"]])
  chat.clear()
  assert.deepEqual(waiting(chat), [])
  assert.equal(server.runs.length, 1)
})

test("two tabs that send the same question at once begin one run", async () => {
  const queues = new Map()
  const one = start(undefined, undefined, { queues })
  const { run } = await begun(one)
  one.chat.enqueue("Next")
  const other = start(one.server, undefined, { queues: new Map(queues) })
  await other.chat.open("c")
  await settle()
  await finish(run)
  assert.deepEqual([one.server.runs.length, new Set(one.server.asked("POST", "/api/chat").map(({ body }) => body.turnId)).size], [2, 2])
  await finish(one.server.runs[1])
  assert.deepEqual(shown(other.chat), shown(one.chat))
  assert.equal(last(other.chat).transcript.status, "done")
})

test("what was refused is asked again as another turn", async () => {
  const all = start()
  const { chat, server } = all
  const { run } = await begun(all)
  chat.enqueue("Next")
  server.refuse = (_, path) => (path === "/api/chat" ? refusal(400, "bad_request") : null)
  await finish(run)
  server.refuse = () => null
  await begun(all, () => chat.retry())
  const [, second, third] = server.asked("POST", "/api/chat").map(({ body }) => body)
  assert.deepEqual([second.message, second.turnId === third.turnId], [third.message, false])
})

test("what lost its attachments is held even after an answer that completed", async () => {
  const queues = new Map([["c", [{ id: "q", text: "Look", images: [], files: [], isHeld: true }]]])
  const all = start(undefined, undefined, { queues })
  await answered(all)
  await settle()
  assert.deepEqual([waiting(all.chat), all.server.runs.length], [["Look"], 1])
})

test("the system prompt and the model are the conversation's: made with it, kept in it, and there when it is opened", async () => {
  const all = start()
  const { chat, server } = all
  chat.defaultModel = "demo"
  await chat.configure({ system: "Be brief." })
  assert.deepEqual([chat.system, chat.model, server.requests.length], ["Be brief.", "demo", 0])
  await answered(all)
  assert.deepEqual(server.asked("POST", "/api/conversations")[0].body, { system: "Be brief.", model: "demo" })
  await chat.configure({ model: "other" })
  assert.deepEqual(server.asked("PATCH", "/api/conversations/c")[0].body, { model: "other" })
  await answered(all, () => chat.send("More"))
  assert.equal(server.asked("POST", "/api/chat")[1].body.model, "other")

  chat.clear()
  assert.deepEqual([chat.system, chat.model], ["", "demo"])
  await chat.open("c")
  assert.deepEqual([chat.system, chat.model, chat.lostModel], ["Be brief.", "other", ""])
  chat.canAsk = (model) => model !== "other"
  assert.deepEqual([chat.model, chat.lostModel], ["demo", "other"])
})

test("a change that does not reach the server is taken back, and said", async () => {
  const all = start()
  const { chat, server } = all
  await answered(all)
  server.refuse = (method) => (method === "PATCH" ? refusal(400, "bad_request") : null)
  await chat.configure({ system: "Be brief." })
  assert.deepEqual([chat.system, chat.problem.code], ["", "bad_request"])
})
