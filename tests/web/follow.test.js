/** A run is followed over any connections: cut, doubled, out of order, silent or frozen, what is applied is the run. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { Follower } from "../../web/follow.js"
import { EMPTY, reduce } from "../../web/transcript.js"
import { Clock, GOLDEN, Pipe, blocksOf, dice, encode, goldenBlocks, refusal, settle, stream } from "./rig.js"

const text = (content) => ({ type: "text", content })
const START = { type: "start", runId: "r", messageId: "m", model: "x" }
const DONE = { type: "done", outcome: "completed", finishReason: "stop", usage: {} }
const BLOCKS = blocksOf([START, null, text("a"), text("b"), null, DONE])

/** Follow with these answers to its requests, in their order; the last one is for all that follow. */
function followerOf(answers, { runId = "", clock = new Clock() } = {}) {
  const requests = []
  const seen = { applied: [], transcript: EMPTY, requests, clock }
  const ask = async (path, signal) => {
    requests.push(path)
    const answer = answers[Math.min(requests.length, answers.length) - 1]
    return answer({ signal, after: Number(/after=(\d+)/.exec(path)?.[1] ?? 0) })
  }
  const around = {
    api: "",
    fetch: (path, { signal }) => ask(path, signal),
    sleep: clock.sleep,
    now: clock.now,
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
const rest = (blocks) => ({ signal, after }) => stream([encode(blocks.slice(after).join(""))], { signal })
const piece = (bytes, end = "close") => ({ signal }) => stream([bytes], { signal, end })

for (const name of GOLDEN) {
  test(`${name} cut at every byte is the same as uncut`, async () => {
    const blocks = goldenBlocks(name)
    const bytes = encode(blocks.join(""))
    const whole = followerOf([rest(blocks)])
    assert.equal(await whole.follower.run(), null)
    const numbers = [...bytes].flatMap((byte, at) => (byte === 10 && bytes[at - 1] === 10 ? [at + 1] : []))
    for (let at = 0; at < bytes.length; at++) {
      const cut = followerOf([piece(bytes.subarray(0, at), at % 2 ? "close" : "break"), rest(blocks)])
      const ended = cut.follower.run()
      const complete = numbers.filter((end) => end <= at).length
      // Before anything was seen the same turn is sent again, after a moment; afterwards the run is asked for the rest.
      if (complete === 0) await cut.clock.pass(1000)
      assert.equal(await ended, null)
      assert.deepEqual(cut.applied, whole.applied)
      assert.deepEqual(cut.transcript, whole.transcript)
      const runId = JSON.parse(/data: (.*)/.exec(blocks[0])[1]).runId
      assert.deepEqual(cut.requests, ["BEGIN", complete ? `/api/runs/${runId}/events?after=${complete}` : "BEGIN"])
    }
  })

  test(`${name} doubled and out of order is the same`, async () => {
    const blocks = goldenBlocks(name)
    const whole = followerOf([rest(blocks)])
    await whole.follower.run()
    for (let seed = 1; seed <= 200; seed++) {
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
  assert.equal(seen.requests[1], "/api/runs/r/events?after=2")
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
    assert.deepEqual(seen.requests, ["BEGIN", "/api/runs/r/events?after=1"])
  }
})

test("a server that takes the request and says nothing is given up too", async () => {
  const hang = ({ signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(new DOMException("", "AbortError"))))
  const seen = followerOf([hang, rest(BLOCKS)])
  const ended = seen.follower.run()
  await seen.clock.pass(32_000)
  assert.equal(await ended, null)
})

test("while nobody answers it is asked after 1, 2, 4, 4, ... s, and says so", async () => {
  const seen = followerOf([piece(encode(BLOCKS[0])), lost], {})
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
  const seen = followerOf([silent, rest(BLOCKS)], { runId: "r" })
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
    const seen = followerOf([() => refusal(status, code)], { runId: "r" })
    const failure = await seen.follower.run()
    assert.deepEqual([failure.code, failure.status, seen.requests.length], [code, status, 1])
  }
  const seen = followerOf([() => refusal(503, "overloaded"), () => refusal(500, "internal"), rest(BLOCKS)], { runId: "r" })
  const ended = seen.follower.run()
  await seen.clock.pass(3000)
  assert.equal(await ended, null)
})

test("a resync begins again, from the first event or with what was stored", async () => {
  const again = followerOf(
    [piece(encode(BLOCKS.slice(0, 4).join(""))), piece(encode(`id: 0\ndata: {"type":"resync","messages":[]}\n\n${BLOCKS.join("")}`))],
    {},
  )
  assert.equal(await again.follower.run(), null)
  assert.deepEqual(again.transcript.parts, [{ kind: "text", text: "ab", isOpen: false }])

  const messages = [{ role: "assistant", content: [{ type: "text", text: "stored" }] }]
  const stored = `data: ${JSON.stringify({ type: "resync", messages })}\n\nid: 9\ndata: ${JSON.stringify(DONE)}\n\n`
  for (const answers of [[piece(encode(stored))], [piece(encode(BLOCKS.slice(0, 4).join(""))), piece(encode(stored))]]) {
    const gone = followerOf(answers)
    assert.equal(await gone.follower.run(), null)
    assert.deepEqual([gone.transcript.parts, gone.transcript.status], [[{ kind: "text", text: "stored", isOpen: false }], "done"])
    assert.deepEqual(gone.transcript.messages, messages)
  }
})

test("frames that are no events are passed over", async () => {
  const seen = followerOf([piece(encode(`data: [DONE]\n\ndata: 3\n\ndata: {"type":"later"}\n\n${BLOCKS.join("")}`))])
  assert.equal(await seen.follower.run(), null)
  assert.deepEqual(seen.applied, [START, text("a"), text("b"), DONE])
})

test("one who leaves before the run has begun lets it begin", async () => {
  const pipe = new Pipe()
  let aborted = false
  const seen = followerOf([({ signal }) => {
    signal.addEventListener("abort", () => (aborted = true))
    return stream(pipe, { signal })
  }])
  const ended = seen.follower.run()
  await settle()
  seen.follower.leave()
  await settle()
  assert.equal(aborted, false)
  pipe.write(BLOCKS[0])
  assert.equal(await ended, null)
  assert.deepEqual([aborted, seen.requests.length], [true, 1])
})
