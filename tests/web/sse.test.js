/** The parser's frames must not depend on how the bytes arrive: each transcript is fed in every way it can be cut. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { createParser } from "../../web/sse.js"

const message = (data, id = "", event = "message") => ({ id, event, data })

/** From the standard's examples, and what users of other parsers met. */
const CASES = {
  "one event": ["data: hello\n\n", [message("hello")]],
  "line feed, carriage return and both": ["data: a\n\ndata: b\r\rdata: c\r\n\r\n", [message("a"), message("b"), message("c")]],
  "several data lines": ["data: YHOO\ndata: +2\ndata: 10\n\n", [message("YHOO\n+2\n10")]],
  "comments, ids, and an id that stays": [
    ": test stream\n\ndata: first\nid: 1\n\ndata:second\n\nid\ndata:  third\n\n",
    [message("first", "1"), message("second", "1"), message(" third", "")],
  ],
  "data without a value": ["data\n\ndata\ndata\n\ndata:", [message(""), message("\n")]],
  "no space after the colon": ["data:test\n\ndata: test\n\n", [message("test"), message("test")]],
  "a byte order mark": ["\ufeffdata: x\n\n", [message("x")]],
  "only the first of two byte order marks": ["\ufeff\ufeffdata: x\n\ndata: y\n\n", [message("y")]],
  "a byte order mark inside": ["data: \ufeffx\n\n", [message("\ufeffx")]],
  "characters of two, three and four bytes": ["data: é€😀👩‍🔬\n\n", [message("é€😀👩‍🔬")]],
  "unknown fields and events": ["event: odd\nretry: 10\nfoo: bar\nbaz\ndata: x\n\ndata: y\n\n", [message("x", "", "odd"), message("y")]],
  "an event without data": ["event: ping\n\nid: 4\n\ndata: x\n\n", [message("x", "4")]],
  "an id with a null": ["id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", [message("a", "1"), message("b", "1")]],
  "the end of input without a blank line": ["data: a\n\ndata: b\n", [message("a")]],
  "the end of input inside a line": ["data: a\n\ndata: b", [message("a")]],
  "ids with a part": ["id: 7.2\ndata: {}\n\n", [message("{}", "7.2")]],
  "names are compared literally": ["Data: a\n data: b\ndata : c\n\ndata: d\n\n", [message("d")]],
}

/** @param {Uint8Array[]} chunks */
function parse(chunks) {
  const frames = []
  const parser = createParser((frame) => frames.push(frame))
  chunks.forEach((chunk) => parser.feed(chunk))
  parser.end()
  return frames
}

for (const [name, [text, frames]] of Object.entries(CASES)) {
  const bytes = new TextEncoder().encode(text)

  test(`${name}: whole`, () => {
    assert.deepEqual(parse([bytes]), frames)
  })

  test(`${name}: byte by byte, with empty chunks between`, () => {
    assert.deepEqual(parse([...bytes].flatMap((byte) => [Uint8Array.of(byte), new Uint8Array()])), frames)
  })

  test(`${name}: cut at any two places`, () => {
    for (let first = 0; first <= bytes.length; first++) {
      for (let second = first; second <= bytes.length; second++) {
        const chunks = [bytes.slice(0, first), bytes.slice(first, second), bytes.slice(second)]
        assert.deepEqual(parse(chunks), frames, `cut at ${first} and ${second}`)
      }
    }
  })
}

test("an event that ends with a lone CR is not held until the next chunk", () => {
  const frames = []
  const parser = createParser((frame) => frames.push(frame.data))
  parser.feed(new TextEncoder().encode("data: a\r\r"))
  assert.deepEqual(frames, ["a"])
})

test("an event of 1 MB arrives whole from chunks of any size", () => {
  const data = "0123456789abcdé😀".repeat(65536)
  const bytes = new TextEncoder().encode(`id: 9\ndata: ${data}\n\n`)
  for (const size of [1021, 65536, bytes.length]) {
    const chunks = []
    for (let start = 0; start < bytes.length; start += size) chunks.push(bytes.subarray(start, start + size))
    const [frame] = parse(chunks)
    assert.equal(frame.id, "9")
    assert.equal(frame.data === data, true)
  }
})

test("a block of an id alone is told, however it is cut", () => {
  const bytes = new TextEncoder().encode("id: 1\ndata: a\n\nid: 2\n\n:\n\nid: 3\r\n\r\nevent: x\n\nid: 4\ndata: b\n\nid: 5\n")
  const read = (chunks) => {
    const seen = []
    const parser = createParser(({ id, data }) => seen.push([id, data]), (id) => seen.push(id))
    for (const chunk of chunks) parser.feed(chunk)
    parser.end()
    return seen
  }
  for (let at = 0; at <= bytes.length; at++) {
    assert.deepEqual(read([bytes.subarray(0, at), bytes.subarray(at)]), [["1", "a"], "2", "3", ["4", "b"]])
  }
})
