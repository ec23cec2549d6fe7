/** What is known of an image by its bytes, and how images travel in a chat. Drawing them smaller needs a browser: tests/page. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { hasExif, toBase64, typeOf } from "../../web/images.js"
import { answered, begun, last, refusal, start, text } from "./rig.js"

const bytes = (beginning) => Uint8Array.from(beginning, (character) => character.charCodeAt(0))
const PNG = { type: "image", mediaType: "image/png", data: "iVBORw0KGgo=" }
const GIF = { type: "image", mediaType: "image/gif", data: "R0lGODlh" }
const said = (content) => ({ type: "text", text: content })

test("bytes say what an image is, whatever its name says", () => {
  const known = { "image/png": "\x89PNG\r\n\x1a\n....", "image/jpeg": "\xff\xd8\xff\xe0", "image/webp": "RIFF\n\0\0\0WEBPVP8 ", "image/gif": "GIF89a" }
  for (const [type, beginning] of Object.entries(known)) assert.equal(typeOf(bytes(beginning)), type)
  for (const other of ["", "<svg xmlns=", "BM", "RIFF\0\0\0\0WAVE", "%PDF-1.7"]) assert.equal(typeOf(bytes(other)), "")
})

test("a photo that carries more than its picture is known", () => {
  assert.equal(hasExif(bytes("\xff\xd8\xff\xe1\0\x10Exif\0\0MM")), true)
  assert.equal(hasExif(bytes("\xff\xd8\xff\xe0\0\x10JFIF\0")), false)
  assert.equal(hasExif(bytes("\x89PNG\r\n\x1a\n\0\0\0\x1aeXIfMM")), true)
  const webp = (flags) => bytes(`RIFF....WEBPVP8X\n\0\0\0${String.fromCharCode(flags)}`)
  assert.deepEqual([0, 0x08, 0x18, 0x02, 0x0a].map((flags) => hasExif(webp(flags))), [false, true, true, false, false])
})

test("base64 of many bytes is that of all of them", () => {
  const many = Uint8Array.from({ length: 100_001 }, (_, index) => index % 251)
  assert.equal(toBase64(many), Buffer.from(many).toString("base64"))
})

test("images go before the text of a question, are shown at once and after a reload, and need no text", async () => {
  const all = start()
  const { chat, server } = all
  await answered(all, () => chat.send("What is this?", [PNG]))
  await answered(all, () => chat.send(" ", [GIF]))
  assert.deepEqual(server.asked("POST", "/api/chat").map(({ body }) => body.message), [[PNG, said("What is this?")], [GIF]])
  const told = () => chat.messages.filter(({ role }) => role === "user").map((message) => [message.text, message.images])
  const before = told()
  assert.deepEqual(before, [["What is this?", [PNG]], ["", [GIF]]])
  await chat.open("c")
  assert.deepEqual(told(), before)
})

test("an edit keeps the images, or has others, and what it replaces stays as a branch", async () => {
  const all = start()
  const { chat, server } = all
  await answered(all, () => chat.send("Hi", [PNG, GIF]))
  await answered(all, () => chat.edit(chat.messages[0].id, "Ho"))
  await answered(all, () => chat.edit(chat.messages[0].id, "Ho", [GIF]))
  assert.deepEqual(server.asked("POST", "/api/chat").slice(1).map(({ body }) => body.message), [[PNG, GIF, said("Ho")], [GIF, said("Ho")]])
  await chat.selectBranch(chat.messages[0].id, 0)
  assert.deepEqual([chat.messages[0].text, chat.messages[0].images], ["Hi", [PNG, GIF]])
})

test("a refusal is shown with the question, whose images go again with a retry", async () => {
  const all = start()
  const { chat, server } = all
  server.refuse = (_, path) => (path === "/api/chat" ? refusal(400, "bad_request") : null)
  await chat.send("Hi", [PNG])
  assert.deepEqual([chat.error.message, chat.messages[0].images], ["no: bad_request", [PNG]])
  server.refuse = () => null
  const { run, ended } = await begun(all, () => chat.retry())
  run.say(text("A dot")).end("completed", [])
  await ended
  assert.deepEqual([server.nodes[0].content[0], last(chat).transcript.status], [PNG, "done"])
})
