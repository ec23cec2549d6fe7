/** Which keys send: the orders of events in which browsers end a composition. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { pastedFiles, sends } from "../../web/composer.js"

const key = (more) => ({ key: "Enter", shiftKey: false, isComposing: false, keyCode: 13, ...more })

test("Enter sends, Shift+Enter begins a line, other keys do neither", () => {
  assert.equal(sends(key({})), true)
  assert.equal(sends(key({ shiftKey: true })), false)
  assert.equal(sends(key({ key: "a", keyCode: 65 })), false)
})

test("Enter that picks a candidate does not send: Chrome and Firefox mark it", () => {
  assert.equal(sends(key({ isComposing: true, keyCode: 229 })), false)
  assert.equal(sends(key({ isComposing: true })), false)
})

test("Enter that picks a candidate does not send: Safari has ended the composition before", () => {
  assert.equal(sends(key({ keyCode: 229 })), false)
})

test("a paste is about files, unless it is text of which there is a picture too", () => {
  const paste = (...types) => pastedFiles({ types, files: types.includes("Files") ? ["file"] : [] }).length
  assert.deepEqual([paste("Files"), paste("text/html", "Files"), paste("text/plain", "Files")], [1, 1, 1])
  assert.deepEqual([paste("text/plain", "text/html", "Files"), paste("text/plain"), pastedFiles(null).length], [0, 0, 0])
})
