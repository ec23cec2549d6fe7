/** What a conversation holds beside its last answer: failures, branches, and calls that wait for a decision. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { answered, begun, branches, last, partsOf, pathOf, say, settle, shown, start, text } from "./rig.js"

const ASK = { type: "approval", toolCallId: "t", toolName: "pay", input: { sum: 5 }, wants: "decision" }
const CALL = { role: "assistant", content: [{ type: "tool_call", id: "t", name: "pay", input: { sum: 5 } }] }
const PENDING = { toolCallId: "t", toolName: "pay", input: { sum: 5 }, wants: "decision", expiresAt: "2100-01-01T00:00:00.000Z", decision: null }

// --- failures ---------------------------------------------------------------------------------------------------------

test("what the server gave up is an error, what it had done is kept, and a retry stands beside it", async () => {
  const all = start()
  const { chat, server } = all
  const { run, ended } = await begun(all)
  const error = { code: "overloaded", message: "busy", retryable: true, requestId: "q1" }
  run.say(text("Half")).end("failed", [say("Half")], { error })
  await ended
  assert.deepEqual([chat.error.code, chat.error.requestId, partsOf(last(chat))], ["overloaded", "q1", ["Half"]])
  const fresh = start(server)
  await fresh.chat.open("c")
  assert.deepEqual([fresh.chat.error.code, shown(fresh.chat)], ["overloaded", ["> Hi", "Half"]])

  await answered(all, () => chat.retry(), "Whole")
  assert.deepEqual([shown(chat), branches(chat)], [["> Hi", "Whole"], ["1/1", "2/2"]])
  assert.equal(server.asked("POST", "/api/chat")[1].body.parentId, "u0")
})

test("a failure with nothing to keep gives way to the next attempt, and stays to be read when the reader goes on", async () => {
  const all = start()
  const { chat, server } = all
  const { run, ended } = await begun(all)
  const error = { code: "auth", message: "wrong key", retryable: false }
  run.end("failed", [], { error })
  await ended
  await answered(all, () => chat.send("Still?"), "Yes")
  assert.deepEqual(chat.messages.map((message) => message.transcript?.error?.code ?? message.role), ["user", "auth", "user", "assistant"])
  assert.equal(server.asked("POST", "/api/chat")[1].body.parentId, "u0")
  assert.deepEqual(branches(chat), ["1/1", "0/1", "1/1", "1/1"])
})

// --- branches ---------------------------------------------------------------------------------------------------------

test("edit and regenerate add, and every branch stays reachable, after a reload too", async () => {
  const all = start()
  const { chat, server } = all
  await answered(all)
  await answered(all, () => chat.send("More"), "One")
  await answered(all, () => chat.regenerate(), "Two")
  assert.deepEqual([shown(chat), branches(chat)], [["> Hi", "Hello", "> More", "Two"], ["1/1", "1/1", "1/1", "2/2"]])
  await answered(all, () => chat.edit(chat.messages[0].id, "Ho"), "Hey")
  assert.deepEqual([shown(chat), branches(chat)], [["> Ho", "Hey"], ["2/2", "1/1"]])
  assert.deepEqual(server.asked("POST", "/api/chat").map(({ body }) => body.parentId), [null, "r0m", "u2", null])

  await chat.selectBranch(chat.messages[0].id, 0)
  assert.deepEqual(shown(chat), ["> Hi", "Hello", "> More", "Two"])
  await chat.selectBranch(chat.messages[3].id, 0)
  assert.deepEqual(shown(chat), ["> Hi", "Hello", "> More", "One"])
  await settle()
  const fresh = start(server)
  await fresh.chat.open("c")
  assert.deepEqual([shown(fresh.chat), branches(fresh.chat)], [["> Hi", "Hello", "> More", "One"], ["1/2", "1/1", "1/1", "1/2"]])
  assert.deepEqual(server.nodes.map(({ id }) => id), ["u0", "r0m", "u2", "r1m", "r2m", "u5", "r3m"])
})

test("a leaf that is none is shown to its newest end", async () => {
  const all = start()
  await answered(all)
  await answered(all, () => all.chat.send("More"), "One")
  all.server.leafId = "u0"
  const { chat } = start(all.server)
  await chat.open("c")
  assert.deepEqual(shown(chat), ["> Hi", "Hello", "> More", "One"])
})

test("who looks at another branch leaves the answer to go on, and finds it again", async () => {
  const all = start()
  const { chat } = all
  await answered(all)
  const { run } = await begun(all, () => chat.regenerate())
  run.say(text("New"))
  await settle()
  await chat.selectBranch(last(chat).id, 0)
  assert.deepEqual([shown(chat), chat.isLoading, branches(chat)], [["> Hi", "Hello"], false, ["1/1", "1/2"]])
  void chat.selectBranch(last(chat).id, 1)
  await settle()
  run.say(text("er"))
  await settle()
  assert.deepEqual([shown(chat), chat.isLoading], [["> Hi", "Newer"], true])
})

test("another conversation leaves the answer to go on in its own", async () => {
  const all = start()
  const { chat, server } = all
  const { run } = await begun(all)
  chat.clear()
  assert.deepEqual([chat.messages, chat.conversationId, chat.isLoading], [[], "", false])
  run.say(text("old"))
  await settle()
  assert.deepEqual(chat.messages, [])
  assert.equal(server.asked("POST", "/api/runs").length, 0)
})

// --- approvals --------------------------------------------------------------------------------------------------------

/** A chat whose answer waits for a decision on a call. */
async function paused() {
  const all = start()
  const { run, ended } = await begun(all)
  run.approvals = [{ ...PENDING }]
  run.say({ type: "reasoning", content: "Hm" }, text("Shall I?"), { type: "tool_start", toolCallId: "t", toolName: "pay" }, { type: "tool_call", toolCallId: "t", toolName: "pay", input: { sum: 5 } }, ASK)
  run.end("paused", [{ role: "assistant", content: [{ type: "reasoning", text: "Hm" }, { type: "text", text: "Shall I?" }, ...CALL.content] }])
  await ended
  return all
}

const result = (content, isError) => ({ type: "tool_result", toolCallId: "t", toolName: "pay", result: content, isError, durationMs: 3 })

test("a call waits for its decision, after a reload too, and the answer goes on where it was", async () => {
  for (const isLive of [true, false]) {
    const live = await paused()
    const { server } = live
    const all = isLive ? live : start(server)
    const { chat } = all
    if (!isLive) await chat.open("c")
    const tool = last(chat).transcript.parts[2]
    assert.deepEqual([shown(chat), tool.wants, tool.input, chat.isLoading], [["> Hi", "Hm|Shall I?|pay:waiting"], "decision", { sum: 5 }, false])
    const { run, ended } = await begun(all, () => chat.decide("t", "approve"))
    assert.deepEqual(shown(chat), ["> Hi", "Hm|Shall I?|pay:running"])
    run.say(result("paid", false), text("Done.")).end("completed", [{ role: "tool", content: [result("paid", false)] }, say("Done.")])
    await ended
    assert.deepEqual([shown(chat), branches(chat)], [["> Hi", "Hm|Shall I?|pay:done|Done."], ["1/1", "1/1"]])
    assert.deepEqual(server.asked("POST", "/api/runs").map(pathOf), ["POST /api/runs/r0/approvals"])
    const fresh = start(server)
    await fresh.chat.open("c")
    assert.deepEqual(shown(fresh.chat), shown(chat))
  }
})

test("a denied call says so, live and after a reload", async () => {
  const all = await paused()
  const { chat, server } = all
  const { startedAt } = last(chat).transcript.parts[0]
  assert.equal(startedAt, 1000)
  const { run, ended } = await begun(all, () => chat.decide("t", "deny"))
  assert.equal(last(chat).transcript.parts[0].startedAt, startedAt, "what was live is not forgotten for a decision")
  assert.deepEqual(shown(chat), ["> Hi", "Hm|Shall I?|pay:denied"])
  run.say(result("denied", true), text("As you wish.")).end("completed", [{ role: "tool", content: [result("denied", true)] }, say("As you wish.")])
  await ended
  assert.deepEqual(shown(chat), ["> Hi", "Hm|Shall I?|pay:denied|As you wish."])
  const fresh = start(server)
  await fresh.chat.open("c")
  assert.deepEqual(shown(fresh.chat), shown(chat))
})

test("of two calls the first decision waits for the second", async () => {
  const { server } = await paused()
  server.runs[0].approvals.push({ ...PENDING, toolCallId: "s" })
  const all = start(server)
  await all.chat.open("c")
  await all.chat.decide("t", "approve")
  assert.deepEqual([shown(all.chat), server.runs.length], [["> Hi", "Hm|Shall I?|pay:approved|pay:waiting"], 1])
  await begun(all, () => all.chat.decide("s", "deny"))
  assert.deepEqual(shown(all.chat), ["> Hi", "Hm|Shall I?|pay:running|pay:denied"])
})

test("a decision that does not arrive, or comes too late, can be seen", async () => {
  const { chat, server } = await paused()
  server.away = true
  await chat.decide("t", "approve")
  assert.deepEqual([chat.problem.code, shown(chat)[1]], ["decision", "Hm|Shall I?|pay:waiting"])
  server.away = false
  server.runs[0].approvals[0].decision = "deny"
  await chat.decide("t", "approve")
  assert.deepEqual([chat.problem.code, shown(chat)[1]], ["conflict", "Hm|Shall I?|pay:denied"])
})
