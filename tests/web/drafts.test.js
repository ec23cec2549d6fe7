/** What was written is kept, within bounds, and a browser that keeps nothing is no error. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { createDrafts, createQueues } from "../../web/drafts.js"

/** As small a Storage as can be, with the quota of a browser's. */
class FakeStorage {
  #items = new Map()
  quota = 5_000_000

  get length() {
    return this.#items.size
  }

  key = (index) => [...this.#items.keys()][index] ?? null
  getItem = (key) => this.#items.get(key) ?? null
  removeItem = (key) => void this.#items.delete(key)
  setItem = (key, value) => {
    if (value.length > this.quota) throw new DOMException("full", "QuotaExceededError")
    this.#items.set(key, value)
  }
}

const HERE = "http://localhost:8000/"
const THROWS = new Proxy({}, { get: () => { throw new DOMException("no", "SecurityError") } })
const written = (text, images = []) => ({ text, images, files: [] })
const image = (size) => ({ type: "image", mediaType: "image/png", data: "A".repeat(size) })

test("what was written is there again in another page, by conversation, and gone when it is forgotten", () => {
  const storage = new FakeStorage()
  const drafts = createDrafts(HERE, storage)
  drafts.set("", written("new"))
  drafts.set("c", written("old", [image(9)]))
  assert.deepEqual(createDrafts(HERE, storage).get(""), written("new"))
  assert.deepEqual(createDrafts(HERE, storage).get("c"), written("old", [image(9)]))
  drafts.set("c", undefined)
  assert.deepEqual([drafts.get("c"), createDrafts(HERE, storage).get("c"), storage.length], [undefined, undefined, 1])
  createQueues(HERE, storage).set("", [])
  assert.equal(storage.length, 1)
})

test("what was meant for one server is neither shown to another nor sent there", () => {
  const storage = new FakeStorage()
  createDrafts(HERE, storage).set("c", written("secret"))
  createQueues(HERE, storage).set("c", [{ id: "1", ...written("secret") }])
  for (const other of ["", "http://localhost", "http://localhost:8000/chat", "https://evil.example/"]) {
    assert.deepEqual([createDrafts(other, storage).get("c"), createQueues(other, storage).get("c")], [undefined, undefined])
  }
})

test("what was dropped is in no storage, and comes back with its conversation in the same page", () => {
  const storage = new FakeStorage()
  const drafts = createDrafts(HERE, storage)
  drafts.set("c", written("text"))
  drafts.drop("c")
  assert.deepEqual([storage.length, drafts.get("c")], [0, written("text")])
})

test("images that are too large are kept by the page alone, and the text in any case", () => {
  const storage = new FakeStorage()
  const drafts = createDrafts(HERE, storage)
  drafts.set("c", written("look", [image(2_000_000)]))
  drafts.set("d", written("", [image(2_000_000)]))
  assert.equal(drafts.get("c").images.length, 1)
  assert.deepEqual([createDrafts(HERE, storage).get("c"), createDrafts(HERE, storage).get("d")], [written("look"), undefined])
  storage.quota = 100
  drafts.set("c", written("look", [image(200)]))
  assert.deepEqual(createDrafts(HERE, storage).get("c"), written("look"))
  drafts.set("c", written("long ".repeat(50)))
  assert.equal(createDrafts(HERE, storage).get("c"), undefined, "nothing older comes back in its place")
})

test("a question that waits without its images does not go by itself", () => {
  const storage = new FakeStorage()
  createQueues(HERE, storage).set("c", [{ id: "1", ...written("a") }, { id: "2", ...written("b", [image(2_000_000)]) }])
  assert.deepEqual(createQueues(HERE, storage).get("c").map(({ text, isHeld }) => [text, Boolean(isHeld)]), [["a", false], ["b", true]])
})

test("the number and the size of what is kept are bounded, and the oldest goes first", (context) => {
  context.mock.timers.enable({ apis: ["Date"] })
  const storage = new FakeStorage()
  const drafts = createDrafts(HERE, storage)
  storage.setItem("another", "stays")
  for (let number = 0; number < 60; number++) {
    context.mock.timers.tick(1)
    drafts.set(`c${number}`, written("text"))
  }
  const fresh = createDrafts(HERE, storage)
  assert.deepEqual([storage.length, fresh.get("c9"), fresh.get("c10")?.text], [51, undefined, "text"])
  for (let number = 0; number < 5; number++) {
    context.mock.timers.tick(1)
    drafts.set(`large${number}`, written("x".repeat(900_000)))
  }
  const kept = Array.from(storage, (_, index) => storage.key(index)).filter((key) => key.includes("large"))
  assert.deepEqual(kept, [`chatstream.draft ${HERE} large2`, `chatstream.draft ${HERE} large3`, `chatstream.draft ${HERE} large4`])
})

test("storage that throws, is missing or holds nonsense is no error", () => {
  for (const storage of [THROWS, null]) {
    const drafts = createDrafts(HERE, storage)
    drafts.set("c", written("text"))
    assert.deepEqual([drafts.get("c"), drafts.get("d")], [written("text"), undefined])
  }
  const storage = new FakeStorage()
  for (const [id, value] of Object.entries({ a: "5 {", b: "{}", c: "" })) storage.setItem(`chatstream.draft ${HERE} ${id}`, value)
  assert.deepEqual(["a", "b", "c"].map((id) => createDrafts(HERE, storage).get(id)), [undefined, undefined, undefined])
})

test("what another tab wrote counts when it is asked for again", () => {
  const storage = new FakeStorage()
  const [one, other] = [createQueues(HERE, storage), createQueues(HERE, storage)]
  one.set("c", [{ id: "1", ...written("a") }])
  assert.equal(other.get("c").length, 1)
  one.set("c", [])
  assert.equal(other.hear({ key: `chatstream.draft ${HERE} c` }), false)
  assert.equal(other.get("c").length, 1)
  assert.equal(other.hear({ key: `chatstream.queue ${HERE} c` }), true)
  assert.equal(other.get("c"), undefined)
})
