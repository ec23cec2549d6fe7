/** The facts of an answer, as they are told. */

import assert from "node:assert/strict"
import { test } from "node:test"
import { rows } from "../../web/details.js"
import { EMPTY } from "../../web/transcript.js"

const usage = { inputTokens: 1234, outputTokens: 90, cachedTokens: 1000, reasoningTokens: 40 }
const done = { ...EMPTY, status: /** @type {const} */ ("done"), runId: "run_1", model: "openai:gpt", outcome: "completed", finishReason: "stop", usage }
const timing = { firstTokenMs: 320, durationMs: 3400, generationMs: 2000 }

/** @param {any} transcript */
const told = (transcript, createdAt = "") => Object.fromEntries(rows({ transcript, createdAt }))

test("tokens, times and the speed are told in the reader's numbers", () => {
  const facts = told({ ...done, timing })
  assert.equal(facts.Model, "openai:gpt")
  assert.match(facts.Read, /^1.?234 tokens \(1.?000 from the cache\)$/)
  assert.equal(facts.Written, "90 tokens (40 of reasoning)")
  assert.equal(facts["First token after"], "320 ms")
  assert.equal(facts.Speed, "45 tokens/s")
  assert.equal(facts.Took, "3.4 s")
  assert.equal(facts.Ended, "completed, stop")
})

test("what was counted here and not told by the provider says so", () => {
  assert.match(told({ ...done, usage: { ...usage, estimated: true } }).Written, /^about 90 tokens/)
})

test("what is not known has no line", () => {
  assert.deepEqual(Object.keys(told({ ...done, usage: null })), ["Model", "Ended"])
  assert.deepEqual(Object.keys(told({ ...done, timing: { ...timing, firstTokenMs: null, generationMs: 0 } })), ["Model", "Read", "Written", "Took", "Ended"])
})

test("a failure is told by its code", () => {
  assert.equal(told({ ...EMPTY, error: { code: "overloaded", message: "", retryable: true } }).Ended, "overloaded")
})
