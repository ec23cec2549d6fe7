/** Colours may be missing or wrong, the text may not change, and only files from our own list are asked for. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { codeFileName } from "../../web/codefile.js"
import { LARGEST, createHighlight, languageOf } from "../../web/highlight.js"
import { PIECE, nextPiece } from "../../web/pieces.js"

const LIBRARY = new URL("../../web/node_modules/@speed-highlight/core/dist", import.meta.url).href

/** Ask until every language is loaded. */
async function tokens(text, info, load = (path) => import(path.replace(/^.*core\/dist/, LIBRARY))) {
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

test("a file is named by its language, or as its info string says", () => {
  const names = {
    "": "code.txt", python: "code.py", py: "code.py", js: "code.js", javascript: "code.js", bash: "code.sh", tsx: "code.tsx", "c++": "code.c", rust: "code.rs",
    dockerfile: "Dockerfile", makefile: "Makefile", klingon: "code.txt", 'py title="app.py"': "app.py", "ts:main.ts": "main.ts", "../../etc/passwd": "code.txt", "js {1,3}": "code.js",
  }
  for (const [info, name] of Object.entries(names)) assert.equal(codeFileName(info), name, info)
})

// --- pieces ------------------------------------------------------------------------------------------------------------

/** Tokens as simple as can be: strings in quotes, however long, and the rest. */
const simple = (text) => [...text.matchAll(/"[^"]*"?|[^"]+/g)].map(([piece]) => [piece, piece.startsWith('"') ? "str" : ""])

/** All pieces of a text, as it would be coloured when it is here at once. */
function pieces(text, isMixed = false, ask = simple) {
  const found = []
  for (let start = 0, isDone = true; isDone; ) {
    const piece = nextPiece(text.slice(start), ask, isMixed)
    assert.equal(piece.tokens.map(([part]) => part).join(""), text.slice(start, start + piece.length))
    found.push(text.slice(start, start + piece.length))
    start += piece.length
    isDone = piece.isDone
  }
  return found
}

test("long code is coloured in pieces that end between statements and do not depend on what follows", () => {
  const code = "def f():\n    return 1\n\n".repeat(700)
  const whole = pieces(code)
  assert.equal(whole.join(""), code)
  assert.ok(whole.slice(1).every((piece) => /^\S/.test(piece)))
  assert.ok(whole.every((piece) => piece.length <= PIECE))
  for (let length = 100; length < code.length; length += 777) {
    const some = pieces(code.slice(0, length))
    assert.deepEqual(some.slice(0, -1), whole.slice(0, some.length - 1))
  }
})

test("a piece does not end within a string, unless that is very long", () => {
  const string = `"${"a line\n".repeat(400)}"`
  assert.ok(pieces(`x = ${string}\ny = 1\n`.repeat(5)).every((piece) => (piece.match(/"/g) ?? []).length % 2 === 0))
  const endless = pieces(`x = "${"a line\n".repeat(4000)}`)
  assert.ok(endless.length > 1 && endless.every((piece) => piece.length <= 4 * PIECE))
})

test("code that holds another language is cut at any line, as late as can be", () => {
  const page = "<script>\nlet x = 1\n".repeat(1000)
  const found = pieces(page, true)
  assert.ok(found.slice(0, -1).every((piece) => piece.length > 3 * PIECE && piece.endsWith("\n")))
})

test("each character of long code is read a few times at most", () => {
  let read = 0
  const counting = (/** @type {string} */ text) => ((read += text.length), simple(text))
  const cost = (/** @type {string} */ code) => ((read = 0), pieces(code, false, counting), read)
  const line = "let x = 1\n"
  assert.ok(cost(line.repeat(8000)) <= 2.1 * cost(line.repeat(4000)))
  assert.ok(cost(line.repeat(8000)) <= 3 * 8000 * line.length)
})
