/** What screen readers are told of a text that is being written. */

import assert from "node:assert/strict"
import { test } from "node:test"
import { Lexer, Tokenizer, getDefaults } from "../../web/node_modules/marked/lib/marked.esm.js"
import { Reader, sentences, spoken } from "../../web/speech.js"
import { createMarkdown } from "../../web/markdown.js"

const SOURCE = `# A title

The first sentence. The **second** one, with [a link](https://example.org/)! And a third?

- one
- two

\`\`\`python
print("a")
print("b")
\`\`\`

| a | b |
|---|---|
| 1 | 2 |

The end`

/** Feed a text in pieces, one each `stepMs`; return what was said. */
/** @param {string} source @param {number} size @param {number} stepMs */
function listen(source, size, stepMs) {
  /** @type {string[]} */
  const said = []
  let now = 0
  const reader = new Reader((text) => void said.push(text), () => now)
  const stream = createMarkdown({ Lexer, Tokenizer, getDefaults }).stream()
  for (let at = 0; at < source.length; at += size) {
    stream.push(source.slice(at, at + size))
    reader.read(stream.blocks(false), stream.settledCount(), false)
    now += stepMs
  }
  const blocks = stream.blocks(true)
  reader.read(blocks, blocks.length, true)
  return said
}

const words = (/** @type {string} */ text) => text.replace(/\s+/g, " ").trim()

test("however it is cut the same is said, each word once, and never half a sentence", () => {
  const whole = words(listen(SOURCE, SOURCE.length, 0).join(" "))
  assert.match(whole, /^A title The first sentence\. The second one, with a link \(example\.org\)! And a third\? one two Code in python, 2 lines\. a, b, 1, 2, The end$/)
  for (const size of [1, 2, 3, 7, 50]) {
    for (const stepMs of [0, 400, 5000]) {
      const said = listen(SOURCE, size, stepMs)
      assert.equal(words(said.join(" ")), whole, `by ${size}, each ${stepMs} ms`)
      for (const text of said) assert.match(text, /([.!?,]|title|one|two|end)$/, `by ${size}, each ${stepMs} ms`)
    }
  }
})

test("a fast answer is said in few pieces, a slow one as its sentences come", () => {
  assert.equal(listen(SOURCE, 1, 1).length, 2)
  const slow = listen("One. Two. Three", 1, 3000)
  assert.deepEqual(slow, ["One.", "Two.", "Three"])
})

test("a sentence ends where people end it", () => {
  assert.equal(sentences("Hello. Wor"), "Hello.")
  assert.equal(sentences("It is 3.5 metres"), "")
  assert.equal(sentences('He said "no." And'), 'He said "no."')
  assert.equal(sentences("\u4f60\u597d\u3002\u5fd9"), "\u4f60\u597d\u3002")
  assert.equal(spoken({ tag: "code-block", attrs: { info: "" }, children: ["x"] }), "Code, 1 line.")
})
