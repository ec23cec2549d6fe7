/** The keys of the page, without a page. */

import assert from "node:assert/strict"
import { test } from "node:test"
import { KEYS, deedOf, nameOf } from "../../web/keys.js"
import { texts } from "../../web/texts.js"

const plain = { ctrlKey: false, metaKey: false, altKey: false, shiftKey: false }

test("a key is named as it is typed, on any keyboard", () => {
  assert.equal(nameOf({ ...plain, key: "?", shiftKey: true }), "?")
  assert.equal(nameOf({ ...plain, key: "/", shiftKey: true }), "/")
  assert.equal(nameOf({ ...plain, key: "C" }), "c")
  assert.equal(nameOf({ ...plain, key: "C", shiftKey: true }), "Shift+c")
  assert.equal(nameOf({ ...plain, key: "O", ctrlKey: true, shiftKey: true }), "Mod+Shift+o")
  assert.equal(nameOf({ ...plain, key: "o", metaKey: true, shiftKey: true }), "Mod+Shift+o")
  assert.equal(nameOf({ ...plain, key: "ArrowUp", altKey: true }), "Alt+ArrowUp")
  assert.equal(nameOf({ ...plain, key: "[", ctrlKey: true, altKey: true, getModifierState: (name) => name === "AltGraph" }), "[")
})

test("keys alone count only where nobody writes, and can be turned off; the browser's own are left alone", () => {
  assert.equal(deedOf("c", false, true), "copy")
  assert.equal(deedOf("c", true, true), null)
  assert.equal(deedOf("c", false, false), null)
  assert.equal(deedOf("?", false, false), null)
  assert.equal(deedOf("Alt+ArrowUp", true, true), null)
  for (const isInField of [true, false]) assert.equal(deedOf("Mod+Shift+o", isInField, false), "create")
  for (const key of ["Mod+c", "Mod+f", "Mod+r", "Mod+k", "Shift+c", "Tab", "Enter", " ", "ArrowUp", "Mod+ArrowUp", "Alt+ArrowLeft"]) assert.equal(deedOf(key, false, true), null, key)
})

test("no key is bound twice, and each has its words in the sheet", () => {
  const keys = KEYS.flatMap((binding) => binding.keys)
  assert.deepEqual([...new Set(keys)], keys)
  for (const { deed } of KEYS) assert.ok(texts.keys[deed], deed)
})
