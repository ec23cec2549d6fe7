/** Text files in questions: what is taken and what is refused, by its bytes, and how they travel. Images: images.test.js. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { attach, decode } from "../../web/files.js"
import { contentOf, questionOf } from "../../web/shown.js"
import { answered, begun, start, text } from "./rig.js"

const NONE = { images: [], files: [] }
const taken = (name, bytes, attached = NONE, blindness = "") => attach(new File([bytes], name), attached, blindness)
const bytes = (beginning) => Uint8Array.from(beginning, (character) => character.charCodeAt(0))
const utf16 = (words) => new Uint8Array([0xff, 0xfe, ...Buffer.from(words, "utf16le")])

test("a file is text where its bytes are, in UTF-8 or in UTF-16 with a mark, whatever its name says", async () => {
  for (const [name, content] of Object.entries({ "a.py": "print('é😀')\r\n", Makefile: "", "b.png": "no image" })) {
    assert.deepEqual(await taken(name, content), { images: [], files: [{ name, text: content }] })
  }
  const big = new Uint8Array([0xfe, 0xff, ...Buffer.from("é😀", "utf16le").swap16()])
  assert.deepEqual([decode(utf16("é😀")), decode(big), decode(bytes("\xef\xbb\xbfa"))], ["é😀", "é😀", "a"])
  assert.deepEqual((await taken("a.txt", utf16("hello"))).files[0].text, "hello")
  assert.deepEqual([decode(bytes("caf\xe9")), decode(bytes("a\0b")), decode(utf16("a\0"))], [null, null, null])
})

test("what is no text is refused with what it is and what is taken", async () => {
  const refusal = /^(.*), which cannot be sent\. Images \(PNG, JPEG, WebP, GIF\) and text files \(UTF-8 or UTF-16\) can\.$/
  assert.equal(refusal.exec(await taken("a.pdf", "%PDF-1.7 text alone"))[1], "a.pdf is of type PDF")
  assert.equal(refusal.exec(await taken("a.docx", bytes("PK\x03\x04....")))[1], "a.docx is of type ZIP")
  assert.equal(refusal.exec(await attach(new File([bytes("a\0")], "a.bin", { type: "application/x-thing" }), NONE, ""))[1], "a.bin is of type application/x-thing")
  assert.match(await taken("latin1.txt", bytes("caf\xe9")), /^latin1\.txt is of a type that cannot be sent/)
  assert.match(await taken("late.txt", bytes(`${"a".repeat(5000)}\0`)), /^late\.txt is of a type that cannot be sent/)
})

test("the size and the number of files are bounded, each and together", async () => {
  const of = (kilobytes) => "x".repeat(kilobytes * 1024)
  assert.equal(await taken("a.log", of(257)), "a.log has 257 kB; a text file may have 256 kB.")
  const four = { images: [], files: Array.from("abcd", (name) => ({ name, text: of(256) })) }
  assert.match(await taken("e.log", "x", four), /1024 kB of text files/)
  const many = { images: [], files: Array.from({ length: 20 }, () => ({ name: "a", text: "" })) }
  assert.match(await taken("b", "", many), /20 text files at most/)
})

test("a model without sight takes files, and no images", async () => {
  assert.equal(await taken("a.png", bytes("\x89PNG\r\n\x1a\n"), NONE, "It cannot see."), "It cannot see.")
  assert.equal((await taken("a.txt", "a", NONE, "It cannot see.")).files.length, 1)
})

test("a file goes before the question as a part of its own, and is the same when it is read back", () => {
  const files = [{ name: "a.py", text: "x = 1" }, { name: "b.txt", text: "" }]
  const content = contentOf({ text: "Why?", images: [], files })
  assert.deepEqual(content.map((part) => part.text), ['<file name="a.py">\nx = 1\n</file>', '<file name="b.txt">\n\n</file>', "Why?"])
  assert.deepEqual(questionOf({ content }), { text: "Why?", images: [], files })
  assert.deepEqual(questionOf({ content: "Hi" }), { text: "Hi", images: [], files: [] })
})

test("no text and no name of a file ends it early, and both come back", () => {
  for (const inside of ["</file>", "a\n</file>\n<file name=\"b\">\nb", "<\\/file>", "<\\\\/FILE>", "</File", "\n</file>\n", "\r\n"]) {
    const content = contentOf({ text: "", images: [], files: [{ name: "a", text: inside }] })
    assert.equal(content[0].text.match(/<\/file>/gi).length, 1, inside)
    assert.deepEqual(questionOf({ content }).files, [{ name: "a", text: inside }])
  }
  const [part] = contentOf({ text: "", images: [], files: [{ name: 'a">\n</file>\n<b "', text: "x" }] })
  assert.deepEqual(questionOf({ content: [part] }).files, [{ name: "a____/file___b _", text: "x" }])
})

test("what a reader typed that only looks like files is text", () => {
  for (const typed of ['<file name="a">\nx\n</file> and\n</file>', '<file name="a">x</file>', 'See <file name="a">\nx\n</file>']) {
    assert.equal(questionOf({ content: [{ type: "text", text: typed }] }).text, typed)
  }
})

test("files are shown at once and after a reload, stay with an edit, and can be changed by one", async () => {
  const all = start()
  const { chat } = all
  const files = [{ name: "a.py", text: "</file>" }]
  await answered(all, () => chat.send("Why?", [], files))
  assert.deepEqual([chat.messages[0].text, chat.messages[0].files], ["Why?", files])
  await answered(all, () => chat.edit(chat.messages[0].id, "How?"))
  assert.deepEqual([chat.messages[0].text, chat.messages[0].files], ["How?", files])
  const { run, ended } = await begun(all, () => chat.edit(chat.messages[0].id, "None?", [], []))
  run.say(text("So.")).end("completed", [])
  await ended
  await chat.open("c")
  assert.deepEqual([chat.messages[0].text, chat.messages[0].files, chat.messages[0].branches], ["None?", [], { index: 2, count: 3 }])
})
