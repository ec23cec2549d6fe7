/** The reader's actions as a table: which of them ends the following, and which brings it back. */

import assert from "node:assert/strict"
import { test } from "node:test"
import { next } from "../../web/scroll.js"

/** @param {import("../../web/scroll.js").State} state @param {import("../../web/scroll.js").Action[]} actions */
const after = (state, ...actions) => actions.reduce(next, state)

test("whatever leads away from the end stops the following at once, also with a finger down", () => {
  assert.equal(after("following", "leave"), "away")
  assert.equal(after("following", "press", "leave"), "away")
  assert.equal(after("following", "press", "leave", "release"), "away")
})

test("a tap or a click holds the text for as long as it lasts, and no longer", () => {
  assert.equal(after("following", "press"), "held")
  assert.equal(after("following", "press", "release"), "following")
  assert.equal(after("away", "press", "release"), "away")
})

test("only the reader brings it back: by coming down to the end, or by jumping there", () => {
  assert.equal(after("away", "arrive"), "following")
  assert.equal(after("away", "jump"), "following")
  assert.equal(after("following", "press", "jump"), "following")
  assert.equal(after("following", "press", "arrive"), "held")
})
