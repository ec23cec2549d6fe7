/** Colours may be missing or wrong, the text may not change, and only files from our own list are asked for. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { LARGEST, createHighlight, languageOf } from "../../web/highlight.js"

const LIBRARY = new URL("../../web/node_modules/@speed-highlight/core/dist", import.meta.url).href

/** Ask until every language is loaded. */
async function tokens(text, info, load = (path) => import(path.replace("./lib/speed-highlight", LIBRARY))) {
  const highlight = createHighlight(load)
  let found = null
  for (let round = 0; round < 5; round++) {
    const loaded = new Promise((resolve) => {
      found = highlight(text, info, () => resolve(true))
      setTimeout(resolve, 200)
    })
    if (!(await loaded)) break
  }
  return found
}

const SOURCES = {
  python: "def f(x):\n    return f\"{x}\" # no\n",
  js: "const x = `a${1}` // b\n/re/.test(x)\n",
  html: "<p class=\"a\">b</p><script>let x = 1</script><style>p { color: red }</style>",
  json: '{"a": [1, true, null]}',
  bash: "echo \"$HOME\" | grep x",
}

for (const [info, source] of Object.entries(SOURCES)) {
  test(`${info} gets colours and keeps its text`, async () => {
    const found = await tokens(source, info)
    assert.equal(found.map(([piece]) => piece).join(""), source)
    assert.ok(new Set(found.map(([, type]) => type)).size > 1)
  })
}

test("an unknown language, a large text and a missing library are plain", async () => {
  assert.equal(await tokens("x", "klingon"), null)
  assert.equal(await tokens("x".repeat(LARGEST + 1), "js"), null)
  assert.equal(await tokens("x", "js", async () => Promise.reject(new Error("404"))), null)
})

test("an info string names a language or none, never a path", () => {
  const names = { Python: "py", "js {1,3}": "js", "c++": "c", "ts:file.ts": "ts", "": "", "../../x": "", constructor: "", __proto__: "" }
  for (const [info, name] of Object.entries(names)) assert.equal(languageOf(info), name)
})
