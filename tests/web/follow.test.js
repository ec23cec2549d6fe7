/** A run is followed over any connections: cut, doubled, out of order, silent or frozen, what is applied is the run. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { Follower } from "../../web/follow.js"
import { createHub } from "../../web/hub.js"
import { EMPTY, reduce } from "../../web/transcript.js"
import { Clock, GOLDEN, Pipe, blocksOf, dice, encode, goldenBlocks, json, refusal, settle, stream } from "./rig.js"

const text = (content) => ({ type: "text", content })
const START = { type: "start", runId: "r", messageId: "m", model: "x" }
const DONE = { type: "done", outcome: "completed", finishReason: "stop", usage: {} }
/** @param {string[]} blocks */
const named = (blocks) => blocks.map((block) => `event: r\n${block}`)
const BLOCKS = named(blocksOf([START, null, text("a"), text("b"), null, DONE]))
const from = (number) => `/api/events?run=r&after=${number}`

/** Follow with these answers to its requests, in their order; the last one is for all that follow. */
function followerOf(answers, { runId = "r", clock = new Clock() } = {}) {
  const requests = []
  const seen = { applied: [], transcript: EMPTY, requests, clock }
  const ask = async (path, signal) => {
    requests.push(path)
    const answer = answers[Math.min(requests.length, answers.length) - 1]
    return answer({ signal, after: Number(/after=(\d+)/.exec(path)?.[1] ?? 0) })
  }
  const { sleep, now } = clock
  const around = {
    hub: createHub({ fetch: (path, { signal }) => ask(path, signal), sleep, now }),
    sleep,
    now,
    apply: (event) => {
      seen.transcript = reduce(seen.transcript, event)
      if (!["connected", "wait"].includes(event.type)) seen.applied.push(event)
    },
    changed: () => {},
  }
  seen.follower = new Follower(around, runId, runId ? undefined : (signal) => ask("BEGIN", signal))
  return seen
}

const lost = () => Promise.reject(new TypeError("fetch failed"))
const accepted = () => json(202, { runId: "r" })
const rest = (blocks) => ({ signal, after }) => stream([encode(blocks.slice(after).join(""))], { signal })
const piece = (bytes, end = "close") => ({ signal }) => stream([bytes], { signal, end })

// Between them they have frames of every kind; how all others are read at every byte is seen in golden.test.js.
const EVERYWHERE = [
  "citations.anthropic.sse",
  "fails_in_the_middle.openai.sse",
  "overloaded_then_well.openai_chat.sse",
  "reasoning_then_text.openai.sse",
  "two_tools_one_failing.anthropic.sse",
  "waits_for_both.openai_chat.sse",
]

for (const name of GOLDEN) {
  const isEverywhere = EVERYWHERE.includes(name)

  test(`${name} cut at ${isEverywhere ? "every byte" : "the ends of its frames"} is the same as uncut`, async () => {
    const blocks = named(goldenBlocks(name))
    const bytes = encode(blocks.join(""))
    const whole = followerOf([rest(blocks)])
    assert.equal(await whole.follower.run(), null)
    const numbers = [...bytes].flatMap((byte, at) => (byte === 10 && bytes[at - 1] === 10 ? [at + 1] : []))
    const cuts = isEverywhere ? bytes.keys() : numbers.flatMap((end) => [end - 1, end]).slice(0, -1)
    for (const at of cuts) {
      const cut = followerOf([piece(bytes.subarray(0, at), at % 2 ? "close" : "break"), rest(blocks)])
      const ended = cut.follower.run()
      const complete = numbers.filter((end) => end <= at).length
      // Where nothing was seen the next try is made after a moment.
      if (complete === 0) await cut.clock.pass(1000)
      assert.equal(await ended, null)
      assert.deepEqual(cut.applied, whole.applied)
      assert.deepEqual(cut.transcript, whole.transcript)
      assert.deepEqual(cut.requests, [from(0), from(complete)])
    }
  })

  test(`${name} doubled and out of order is the same`, async () => {
    const blocks = named(goldenBlocks(name))
    const whole = followerOf([rest(blocks)])
    await whole.follower.run()
    for (let seed = 1; seed <= 50; seed++) {
      const next = dice(seed)
      const mixed = [...blocks, ...blocks.filter(() => next() < 0.3)].map((block) => ({ block, at: next() })).sort((one, other) => one.at - other.at)
      const seen = followerOf([piece(encode(mixed.map(({ block }) => block).join("")))])
      assert.equal(await seen.follower.run(), null)
      assert.deepEqual(seen.applied, whole.applied)
    }
  })
}

test("an event that is missing is waited for, and asked for when the connection ends", async () => {
  const holed = BLOCKS.filter((_, index) => index !== 2).join("")
  const seen = followerOf([piece(encode(holed)), rest(BLOCKS)])
  await seen.follower.run()
  assert.deepEqual(seen.applied, [START, text("a"), text("b"), DONE])
  assert.equal(seen.requests[1], from(2))
})

test("a connection on which an event stays missing is given up, though bytes still come", async () => {
  const pipe = new Pipe()
  const seen = followerOf([({ signal }) => stream(pipe, { signal }), rest(BLOCKS)])
  const ended = seen.follower.run()
  pipe.write(BLOCKS[0] + BLOCKS[3])
  for (let beat = 0; beat < 2; beat++) {
    await seen.clock.pass(15_000)
    pipe.write(":\n\n")
  }
  await seen.clock.pass(15_000)
  assert.equal(await ended, null)
  assert.deepEqual(seen.applied, [START, text("a"), text("b"), DONE])
})

test("a connection is given up after two heartbeats of silence, and not before", async () => {
  for (const [headers, beat] of [[{}, 15_000], [{ "Chatstream-Heartbeat": "0.2" }, 200]]) {
    const pipe = new Pipe()
    const seen = followerOf([({ signal }) => stream(pipe, { signal, headers }), rest(BLOCKS)])
    const ended = seen.follower.run()
    pipe.write(BLOCKS[0] + BLOCKS[0])
    for (let count = 0; count < 4; count++) {
      await seen.clock.pass(beat * 1.9)
      pipe.write(":\n\n")
      await settle()
    }
    assert.equal(seen.requests.length, 1)
    await seen.clock.pass(beat * 2)
    assert.equal(await ended, null)
    assert.deepEqual(seen.requests, [from(0), from(1)])
  }
})

test("a server that takes the request and says nothing is given up too", async () => {
  const hang = ({ signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(new DOMException("", "AbortError"))))
  for (const runId of ["", "r"]) {
    const seen = followerOf([...(runId ? [] : [hang, accepted]), hang, rest(BLOCKS)], { runId })
    const ended = seen.follower.run()
    await seen.clock.pass(64_000)
    assert.equal(await ended, null)
  }
})

test("a turn is sent until it is taken, as the same one, and its run is followed", async () => {
  const seen = followerOf([lost, lost, accepted, piece(encode(BLOCKS.slice(0, 2).join(""))), rest(BLOCKS)], { runId: "" })
  const ended = seen.follower.run()
  await seen.clock.pass(3000)
  assert.equal(await ended, null)
  assert.equal(await seen.follower.known, "r")
  assert.deepEqual(seen.requests, ["BEGIN", "BEGIN", "BEGIN", from(0), from(2)])
  assert.deepEqual(seen.applied, [START, text("a"), text("b"), DONE])
})

test("while nobody answers it is asked after 1, 2, 4, 4, ... s, and says so", async () => {
  const seen = followerOf([piece(encode(BLOCKS[0])), lost])
  const ended = seen.follower.run()
  await seen.clock.pass(0)
  assert.deepEqual([seen.requests.length, seen.transcript.retry], [2, { code: "network", delayMs: 1000 }])
  for (const [ms, count] of [[1000, 3], [2000, 4], [4000, 5], [4000, 6], [400_000, 106]]) {
    await seen.clock.pass(ms)
    assert.equal(seen.requests.length, count)
  }
  assert.equal(seen.transcript.error, null)
  seen.follower.leave()
  assert.equal(await ended, null)
})

test("after some progress the waits begin anew", async () => {
  const seen = followerOf([piece(encode(BLOCKS[0])), lost, lost, ({ after, signal }) => stream([encode(BLOCKS[after])], { signal }), lost])
  const ended = seen.follower.run()
  await seen.clock.pass(3000)
  assert.deepEqual(seen.clock.slept.filter((ms) => ms < 10_000), [1000, 2000, 1000])
  seen.follower.leave()
  await ended
})

test("a wake finds a connection dead that had brought nothing, and waits for nothing", async () => {
  const silent = ({ signal }) => stream(new Pipe(), { signal })
  const seen = followerOf([silent, rest(BLOCKS)])
  const ended = seen.follower.run()
  await seen.clock.pass(2000)
  seen.follower.wake()
  assert.equal(await ended, null)
  assert.equal(seen.clock.time, 3000)
})

test("a wake ends the wait, and a connection that has long been silent", async () => {
  const pipe = new Pipe()
  const frozen = ({ signal }) => stream(pipe, { signal })
  const seen = followerOf([frozen, lost, rest(BLOCKS)])
  const ended = seen.follower.run()
  pipe.write(BLOCKS[0])
  await settle()
  seen.follower.wake()
  await settle()
  assert.equal(seen.requests.length, 1, "one that has just been heard lives")
  await seen.clock.pass(2000)
  seen.follower.wake()
  await settle()
  assert.equal(seen.requests.length, 2)
  assert.equal(seen.transcript.retry.delayMs, 1000)
  seen.follower.wake()
  assert.equal(await ended, null)
  assert.equal(seen.transcript.retry, null)
  assert.deepEqual(seen.applied, [START, text("a"), text("b"), DONE])
})

test("a run that is not there, and a token that is refused, end it; what may pass does not", async () => {
  for (const [status, code] of [[404, "not_found"], [401, "auth"]]) {
    const told = `event: r\nid: 0\ndata: ${JSON.stringify({ type: "error", code, status, message: "no", retryable: false, requestId: "q" })}\n\n`
    for (const answer of [() => refusal(status, code), piece(encode(told))]) {
      const seen = followerOf([answer])
      const failure = await seen.follower.run()
      assert.deepEqual([failure.code, failure.status, failure.requestId, seen.requests.length], [code, status, "q", 1])
      assert.deepEqual(seen.applied, [])
    }
  }
  const seen = followerOf([() => refusal(503, "overloaded"), () => refusal(500, "internal"), rest(BLOCKS)])
  const ended = seen.follower.run()
  await seen.clock.pass(3000)
  assert.equal(await ended, null)
})

test("a resync begins again, from the first event or with what was stored", async () => {
  const again = followerOf(
    [piece(encode(BLOCKS.slice(0, 4).join(""))), piece(encode(`event: r\nid: 0\ndata: {"type":"resync","messages":[]}\n\n${BLOCKS.join("")}`))],
  )
  assert.equal(await again.follower.run(), null)
  assert.deepEqual(again.transcript.parts, [{ kind: "text", text: "ab", isOpen: false }])

  const messages = [{ role: "assistant", content: [{ type: "text", text: "stored" }] }]
  const stored = `event: r\nid: 0\ndata: ${JSON.stringify({ type: "resync", messages })}\n\nevent: r\nid: 9\ndata: ${JSON.stringify(DONE)}\n\n`
  for (const answers of [[piece(encode(stored))], [piece(encode(BLOCKS.slice(0, 4).join(""))), piece(encode(stored))]]) {
    const gone = followerOf(answers)
    assert.equal(await gone.follower.run(), null)
    assert.deepEqual([gone.transcript.parts, gone.transcript.status], [[{ kind: "text", text: "stored", isOpen: false }], "done"])
    assert.deepEqual(gone.transcript.messages, messages)
  }
})

test("frames that are no events are passed over", async () => {
  const seen = followerOf([piece(encode(`data: [DONE]\n\nevent: r\ndata: 3\n\nevent: r\ndata: {"type":"later"}\n\nevent: other\nid: 1\ndata: {"type":"done"}\n\n${BLOCKS.join("")}`))])
  assert.equal(await seen.follower.run(), null)
  assert.deepEqual(seen.applied, [START, text("a"), text("b"), DONE])
})

test("one who leaves before the run has begun lets it begin", async () => {
  let aborted = false
  let accept = () => {}
  const seen = followerOf([({ signal }) => {
    signal.addEventListener("abort", () => (aborted = true))
    return new Promise((resolve) => (accept = () => resolve(accepted())))
  }], { runId: "" })
  const ended = seen.follower.run()
  await settle()
  seen.follower.leave()
  await settle()
  assert.equal(aborted, false)
  accept()
  assert.equal(await ended, null)
  assert.deepEqual([await seen.follower.known, seen.requests], ["r", ["BEGIN"]])
})
