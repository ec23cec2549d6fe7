/** Trees of messages and what is shown of them: random growth loses nothing, whatever order it comes in. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { Shown } from "../../web/shown.js"
import { Tree } from "../../web/tree.js"
import { dice } from "./rig.js"

const at = (time) => new Date(time).toISOString()
const user = (id, parentId, time = 0) => ({ id, parentId, role: "user", content: [{ type: "text", text: id }], runId: null, createdAt: at(time) })
const run = (id, parentId, more = {}) => ({ id, parentId, messageId: `${id}m`, model: "x", state: "ended", outcome: "completed", finishReason: "stop", usage: null, error: null, approvals: [], createdAt: at(0), ...more })
const said = (text) => ({ role: "assistant", content: [{ type: "text", text }] })

function build(...steps) {
  const tree = new Tree()
  for (const step of steps) step(tree)
  return tree
}
const ask = (id, parentId) => (tree) => tree.add(user(id, parentId))
const answer = (id, parentId, ...texts) => (tree) => {
  tree.set(run(id, parentId))
  tree.keep(run(id, parentId), texts.map(said))
}
const attempt = (id, parentId, more) => (tree) => tree.set(run(id, parentId, more))
const look = (tree, leafId) => new Shown((id) => id).messages(tree, leafId)
const words = (messages) => messages.map((message) => (message.role === "user" ? message.text : message.transcript.parts.map(({ text }) => text).join("+")))
const branches = (messages) => messages.map(({ branches: { index, count } }) => `${index + 1}/${count}`)

test("the messages of one run are one answer", () => {
  const shown = look(build(ask("q", null), answer("a", "q", "one", "two", "three")), "am_3")
  assert.deepEqual([words(shown), shown[1].lastId, shown[1].parentId], [["q", "one+two+three"], "am_3", "q"])
})

test("a run that goes on where another ended is part of its answer, unless something else was said there too", () => {
  const steps = [ask("q", null), answer("a", "q", "one"), answer("b", "am", "two")]
  assert.deepEqual(words(look(build(...steps), "bm")), ["q", "one+two"])
  const both = build(...steps, ask("p", "am"))
  assert.deepEqual([words(look(both, "bm")), branches(look(both, "bm"))], [["q", "one", "two"], ["1/1", "1/1", "1/2"]])
  assert.deepEqual([words(look(both, "p")), branches(look(both, "p"))], [["q", "one", "p"], ["1/1", "1/1", "2/2"]])
})

test("a run without messages is shown at its leaf, and counts as a branch while it is the newest or runs", () => {
  const steps = [ask("q", null), answer("a", "q", "one"), attempt("b", "q", { state: "running", outcome: null })]
  assert.deepEqual([words(look(build(...steps), "q")), branches(look(build(...steps), "q"))], [["q", ""], ["1/1", "2/2"]])
  const meanwhile = build(ask("q", null), attempt("b", "q", { state: "running", outcome: null }), ask("p", "q"))
  assert.deepEqual(branches(look(meanwhile, "q")), ["1/1", "2/2"])
  const later = build(ask("q", null), attempt("b", "q"), answer("a", "q", "one"))
  assert.deepEqual(branches(look(later, "am")), ["1/1", "1/1"])
})

test("the newest leaf is found by the newest child each time", () => {
  const tree = build(ask("q", null), answer("a", "q", "one"), ask("p", "am"), answer("b", "p", "two"), answer("c", "p", "three"), answer("d", "q", "four"))
  assert.equal(tree.deepest("am"), "cm")
  assert.equal(tree.deepest("q"), "dm")
})

test("a message without a run, and a run that is not listed, are shown", () => {
  const tree = Tree.from({ messages: [user("q", null), { id: "x", parentId: "q", role: "assistant", content: "plain", runId: null, createdAt: at(1) }], runs: [] })
  const shown = look(tree, "x")
  assert.deepEqual([words(shown), branches(shown)], [["q", "plain"], ["1/1", "1/1"]])
})

test("what is loaded is in the order of creation, whichever list it came in", () => {
  const tree = Tree.from({
    messages: [user("q", null), { id: "am", parentId: "q", role: "assistant", content: [], runId: "a", createdAt: at(9) }],
    runs: [run("b", "q", { createdAt: at(5), outcome: "failed" }), run("a", "q", { createdAt: at(8) })],
  })
  assert.deepEqual(tree.children("q"), [{ nodeId: "am", runId: "a" }])
})

test("however a tree grows, every message is shown on some way, and each way begins at a root", () => {
  for (let seed = 1; seed <= 300; seed++) {
    const next = dice(seed)
    const pick = (list) => list[Math.floor(next() * list.length)]
    const tree = new Tree()
    for (let step = 0; step < 30; step++) {
      const all = [...tree.nodes.keys()]
      if (next() < 0.5 || all.length === 0) tree.add(user(`q${step}`, next() < 0.2 || all.length === 0 ? null : pick(all)))
      else answer(`a${step}`, pick(all), ...["one", "two"].slice(0, Math.ceil(next() * 2)))(tree)
    }
    // From any message the reader comes to any other by the switches alone.
    const reached = new Set()
    const visit = (leafId) => {
      const path = tree.path(leafId)
      assert.equal(path[0].parentId, null)
      const isNew = path.some(({ id }) => !reached.has(id))
      for (const { id } of path) reached.add(id)
      if (!isNew) return
      for (const message of look(tree, leafId)) {
        const children = tree.children(message.parentId ?? "")
        assert.equal(message.branches.count, children.length)
        for (const { nodeId } of children) visit(tree.deepest(nodeId))
      }
    }
    visit(tree.deepest([...tree.nodes.keys()][0]))
    assert.deepEqual([...reached].sort(), [...tree.nodes.keys()].sort(), `seed ${seed}`)
  }
})
