/** The golden streams of the server's native wire, read by the page's parser and folded into what a reader sees. */

import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import test from "node:test"

import { createParser } from "../../web/sse.js"
import { EMPTY, eventsOf, reduce } from "../../web/transcript.js"
import { GOLDEN } from "./rig.js"

const FOLDER = new URL("../wires/golden/", import.meta.url)
const FAILED = ["a_wrong_key", "fails_in_the_middle"]

/** @param {Uint8Array[]} chunks */
function transcriptOf(chunks) {
  let transcript = EMPTY
  const parser = createParser(({ data }) => {
    transcript = reduce(transcript, JSON.parse(data))
  })
  for (const chunk of chunks) parser.feed(chunk)
  return transcript
}

/** @param {Uint8Array} stream */
function askedIn(stream) {
  const asked = []
  createParser(({ data }) => asked.push(JSON.parse(data))).feed(stream)
  return asked.filter(({ type }) => type === "approval").map((frame) => ({ ...frame, decision: null, expiresAt: "" }))
}

for (const name of GOLDEN) {
  const stream = new Uint8Array(readFileSync(new URL(name, FOLDER)))

  test(`${name} ends as it did on the server, and the text is the history's`, () => {
    const transcript = transcriptOf([stream])
    assert.equal(transcript.status, FAILED.includes(name.split(".")[0]) ? "failed" : "done")
    assert.ok(transcript.parts.every((part) => !part.isOpen || part.state === "waiting"))
    if (!transcript.messages) return
    const texts = transcript.messages.flatMap(({ content }) => content.filter((part) => part.type === "text"))
    assert.equal(transcript.parts.map(({ kind, text }) => (kind === "text" ? text : "")).join(""), texts.map((part) => part.text).join(""))
  })

  test(`${name} looks the same when it is loaded from what was stored of it`, () => {
    const { runId, model, outcome, finishReason, usage, timing, error, messages, parts } = transcriptOf([stream])
    const toolDurations = Object.fromEntries(parts.filter(({ kind }) => kind === "tool").map(({ id, durationMs }) => [id, durationMs]))
    const run = { id: runId, parentId: null, messageId: "m", model, state: "ended", outcome, finishReason, usage, timing, toolDurations, error, approvals: askedIn(stream), notices: parts.filter(({ lasting }) => lasting), createdAt: "" }
    const loaded = eventsOf(run, messages ?? []).reduce(reduce, EMPTY)
    // Other notices and progress are of the moment.
    const told = (all) => all.filter(({ kind, lasting }) => kind !== "notice" || lasting).map(({ kind, text, id, name, input, inputText, state, result, durationMs, isOpen, isByProvider, sources }) => [kind, text, id, name, input ?? inputText, state, result, durationMs ?? null, isOpen, isByProvider, sources])
    assert.deepEqual(told(loaded.parts), told(parts))
    assert.deepEqual([loaded.status, loaded.outcome, loaded.error?.code, loaded.timing], [error ? "failed" : "done", outcome, error?.code, timing])
    assert.ok(timing.durationMs > 0)
  })

  test(`${name} is read the same byte by byte and cut anywhere`, () => {
    const whole = transcriptOf([stream])
    assert.deepEqual(transcriptOf(Array.from(stream, (byte) => Uint8Array.of(byte))), whole)
    for (let at = 0; at <= stream.length; at++) {
      assert.deepEqual(transcriptOf([stream.subarray(0, at), stream.subarray(at)]), whole)
    }
  })
}
