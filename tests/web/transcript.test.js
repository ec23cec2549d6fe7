/** What the reader sees is a value: these are lists of events, and what they come to. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { EMPTY, answerText, eventsOf, reduce } from "../../web/transcript.js"

const fold = (...events) => events.reduce(reduce, EMPTY)
const START = { type: "start", runId: "r1", messageId: "m1", model: "scripted:demo" }
const text = (content) => ({ type: "text", content })
const RUN = { id: "r1", parentId: null, messageId: "m1", model: "x", state: "ended", outcome: "completed", finishReason: "stop", usage: null, error: null, approvals: [], createdAt: "" }
const tool = (type, toolCallId, more = {}) => ({ type, toolCallId, toolName: "add", ...more })

test("deltas of one kind become one part", () => {
  const { status, model, parts } = fold(START, text("Hel"), text("lo"))
  assert.equal(status, "streaming")
  assert.equal(model, "scripted:demo")
  assert.deepEqual(parts, [{ kind: "text", text: "Hello", isOpen: true }])
})

test("reasoning closes when text begins and knows how long it took", () => {
  const { parts } = fold(
    START,
    { type: "reasoning", content: "Hm", at: 1000 },
    { type: "reasoning", content: "m", at: 2000 },
    { ...text("So"), at: 4500 },
  )
  assert.deepEqual(parts[0], { kind: "reasoning", text: "Hmm", isOpen: false, startedAt: 1000, endedAt: 4500 })
  assert.equal(parts[1].text, "So")
})

test("interleaved tools stay apart", () => {
  const { parts } = fold(
    START,
    tool("tool_start", "a"),
    tool("tool_start", "b"),
    tool("tool_input", "b", { delta: '{"x"' }),
    tool("tool_input", "a", { delta: '{"y":1}' }),
    tool("tool_input", "b", { delta: ":2}" }),
    tool("tool_call", "a", { input: { y: 1 } }),
    tool("tool_progress", "b", { content: "half" }),
    tool("tool_result", "b", { result: "no", isError: true, durationMs: 5 }),
    tool("tool_result", "a", { result: "1", isError: false, durationMs: 7 }),
  )
  assert.deepEqual(parts.map(({ id, state, inputText, input, progress, result, durationMs }) => [id, state, inputText, input, progress, result, durationMs]), [
    ["a", "done", '{"y":1}', { y: 1 }, [], "1", 7],
    ["b", "failed", '{"x":2}', undefined, ["half"], "no", 5],
  ])
})

test("text after a tool is a new part, text after a notice is not", () => {
  const { parts } = fold(START, text("a"), { type: "notice", code: "overloaded", message: "wait" }, text("b"), tool("tool_start", "t"), text("c"))
  assert.deepEqual(parts.map((part) => [part.kind, part.text ?? ""]), [["text", "ab"], ["notice", ""], ["tool", ""], ["text", "c"]])
})

test("a result of a tool that was never announced is shown", () => {
  const { parts } = fold(START, tool("tool_result", "z", { result: "42", isError: false }))
  assert.deepEqual([parts[0].name, parts[0].state, parts[0].result], ["add", "done", "42"])
})

test("an error closes what is open", () => {
  const transcript = fold(START, text("a"), tool("tool_start", "t"), { type: "error", code: "overloaded", message: "busy", retryable: true, requestId: "q" })
  assert.equal(transcript.status, "failed")
  assert.deepEqual(transcript.error, { code: "overloaded", message: "busy", retryable: true, requestId: "q" })
  assert.deepEqual(transcript.parts.map((part) => part.isOpen), [false, false])
  assert.equal(transcript.parts[1].state, "stopped")
})

test("done keeps the outcome and the messages for the history", () => {
  const messages = [{ role: "assistant", content: "a" }]
  const transcript = fold(START, text("a"), { type: "done", outcome: "limit", finishReason: "tool_calls", usage: {}, messages })
  assert.deepEqual([transcript.status, transcript.outcome, transcript.finishReason, transcript.messages], ["done", "limit", "tool_calls", messages])
})

test("an unknown type leaves the transcript as it is", () => {
  const before = fold(START, text("a"))
  for (const type of ["later", "toString", "__proto__"]) assert.equal(reduce(before, { type }), before)
})

test("the transcript before an event is not changed by it", () => {
  const before = fold(START, text("a"), tool("tool_start", "t"))
  const copy = structuredClone(before)
  for (const event of [text("b"), tool("tool_input", "t", { delta: "{" }), { type: "error", code: "x", message: "" }]) reduce(before, event)
  assert.deepEqual(before, copy)
})

test("parts that did not change are the same objects", () => {
  const before = fold(START, tool("tool_start", "t"), text("a"))
  assert.equal(reduce(before, text("b")).parts[0], before.parts[0])
})

test("a call that waits for a decision goes on waiting when the run has paused, and runs when it goes on", () => {
  const paused = fold(START, tool("tool_start", "t"), tool("approval", "t", { input: { x: 1 }, wants: "decision" }), { type: "done", outcome: "paused" })
  assert.deepEqual([paused.parts[0].state, paused.parts[0].wants, paused.parts[0].input], ["waiting", "decision", { x: 1 }])
  const approved = reduce(paused, tool("decision", "t", { decision: "approve" }))
  assert.equal(approved.parts[0].state, "approved")
  const running = reduce(approved, START)
  assert.deepEqual([running.parts[0].state, running.outcome], ["running", ""])
  assert.deepEqual([reduce(running, tool("tool_result", "t", { result: "1" })).parts.length, reduce(reduce(paused, tool("decision", "t", { decision: "deny" })), tool("tool_result", "t", { result: "no", isError: true })).parts[0].state], [1, "denied"])
})

test("a denial of a call that was answered before it was asked about is shown", () => {
  const run = { ...RUN, outcome: "paused", approvals: [{ toolCallId: "t", toolName: "add", input: {}, wants: "decision", decision: "deny" }] }
  const messages = [
    { role: "assistant", content: [{ type: "tool_call", id: "t", name: "add", input: {} }] },
    { role: "tool", content: [{ type: "tool_result", toolCallId: "t", toolName: "add", result: "it expired", isError: true }] },
  ]
  const [part] = fold(...eventsOf(run, messages)).parts
  assert.deepEqual([part.state, part.result, part.isOpen], ["denied", "it expired", false])
  const [given] = fold(...eventsOf({ ...run, approvals: [{ ...run.approvals[0], decision: "result" }] }, [messages[0], { role: "tool", content: [{ type: "tool_result", toolCallId: "t", result: "42", isError: false }] }])).parts
  assert.deepEqual([given.state, given.result], ["done", "42"])
})

test("an id that is used again after its call was answered is another call", () => {
  const { parts } = fold(START, tool("tool_start", "t"), tool("tool_result", "t", { result: "1" }), tool("tool_start", "t"), tool("tool_result", "t", { result: "2" }))
  assert.deepEqual(parts.map((part) => part.result), ["1", "2"])
})

test("a wait is told until something is heard again, and leaves what was shown", () => {
  const waiting = fold(START, text("a"), { type: "wait", code: "network", delayMs: 1000 })
  assert.deepEqual([waiting.retry, waiting.parts.length], [{ code: "network", delayMs: 1000 }, 1])
  assert.equal(reduce(waiting, { type: "connected" }).retry, null)
})

const search = (type, more) => ({ type, toolCallId: "s", toolName: "web_search", providerExecuted: true, ...more })
const toolsOf = (parts) => parts.map(({ name, input, state, result, isOpen, isByProvider }) => [name, input, state, result, isOpen, isByProvider])

test("a provider's own tool is one card, also where its result brings the arguments or comes turns later", () => {
  const turn = { type: "turn", finishReason: "pause" }
  const called = [START, search("tool_start"), search("tool_call", { input: { q: "x" } }), turn]
  const found = search("tool_result", { result: "a page", isError: false })
  const expected = [["web_search", { q: "x" }, "done", "a page", false, true]]
  assert.deepEqual(toolsOf(fold(...called, text("On I go"), turn, search("tool_start"), found).parts.filter(({ kind }) => kind === "tool")), expected)
  assert.deepEqual(toolsOf(fold(START, { ...found, input: { q: "x" } }).parts), expected)
  assert.deepEqual(toolsOf(fold(...called, { type: "done", outcome: "stopped" }).parts), [["web_search", { q: "x" }, "stopped", "", false, true]])
})

test("a provider's own tool looks the same when it is loaded, its call and result in one part or two", () => {
  const opaque = (more) => ({ type: "opaque", origin: "a:m", data: {}, toolCallId: "s", toolName: "web_search", ...more })
  const load = (...parts) => toolsOf(fold(...eventsOf(RUN, [{ role: "assistant", content: parts }])).parts)
  const [call, result] = [{ input: { q: "x" } }, { result: "a page" }]
  const expected = [["web_search", { q: "x" }, "done", "a page", false, true]]
  assert.deepEqual(load(opaque({ ...call, ...result })), expected)
  assert.deepEqual(load(opaque(call), opaque(result)), expected)
  assert.deepEqual(load({ type: "opaque", origin: "a:m", data: {} }), [])
})

test("sources stand once each under their text, which goes on, and are copied with it", () => {
  const [one, two] = [{ url: "https://a.example/1", title: "One", text: "first" }, { url: "https://b.example/2" }]
  const cite = (...citations) => ({ type: "citations", citations })
  const live = fold(START, text("It is"), cite(one), text(" so."), cite(one, two), tool("tool_start", "t"), tool("tool_result", "t"), text("Also"), cite(two))
  assert.deepEqual(live.parts.map((part) => part.text ?? part.sources ?? part.kind), ["It is so.", [one, two], "tool", "Also", [two]])
  assert.match(answerText(live), /^It is so\.\n\n- One: https:\/\/a\.example\/1\n- https:\/\/b\.example\/2\n\nAlso/)
  const said = (content, ...citations) => ({ type: "text", text: content, citations })
  const loaded = fold(...eventsOf(RUN, [{ role: "assistant", content: [said("It is", one), said(" so.", one, two)] }]))
  assert.deepEqual(loaded.parts, live.parts.slice(0, 2).map((part) => ({ ...part, isOpen: false })))
  assert.deepEqual(fold(START, cite(one)).parts.length, 1)
})

test("the answer's text is that of its text parts", () => {
  assert.equal(answerText(fold(START, { type: "reasoning", content: "no" }, text("a"), tool("tool_start", "t"), text("b"))), "a\n\nb")
})
