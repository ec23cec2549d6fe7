/** Which keys send: the orders of events in which browsers end a composition. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { pastedFiles } from "../../web/attach.js"
import { sends } from "../../web/composer.js"

const key = (more) => ({ key: "Enter", shiftKey: false, isComposing: false, keyCode: 13, ...more })

test("Enter sends, Shift+Enter begins a line, other keys do neither", () => {
  assert.equal(sends(key({})), true)
  assert.equal(sends(key({ shiftKey: true })), false)
  assert.equal(sends(key({ key: "a", keyCode: 65 })), false)
})

test("on a phone's keyboard Enter begins a line, and with Ctrl or Command it sends as everywhere", () => {
  assert.deepEqual([sends(key({}), true), sends(key({ shiftKey: true }), true)], [false, false])
  for (const isTouch of [true, false]) {
    assert.deepEqual([sends(key({ ctrlKey: true }), isTouch), sends(key({ metaKey: true }), isTouch)], [true, true])
    assert.equal(sends(key({ ctrlKey: true, isComposing: true }), isTouch), false)
  }
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
