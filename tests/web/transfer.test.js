/** Conversations from files: what other programs export becomes our own form, and what cannot be read is named. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { exportAll, importFiles, readConversations } from "../../web/transfer.js"

const said = (role, text, more = {}) => ({ author: { role }, content: { content_type: "text", parts: [text] }, create_time: null, ...more })
const node = (id, parent, message, children = []) => ({ id, parent, message, children })

const CHATGPT = {
  title: "Whales",
  create_time: 1700000000.5,
  update_time: 1700000100,
  current_node: "a2",
  mapping: {
    a2: node("a2", "tool", said("assistant", "It is big. \ue200cite\ue202turn0search1\ue201", { metadata: { model_slug: "gpt-4o" } })),
    root: node("root", null, null),
    system: node("system", "root", said("system", "")),
    hidden: node("hidden", "system", said("user", "About me", { metadata: { is_visually_hidden_from_conversation: true } })),
    u1: node("u1", "hidden", said("user", "How big is a whale?", { create_time: 1700000001 })),
    thoughts: node("thoughts", "u1", { author: { role: "assistant" }, content: { content_type: "thoughts", thoughts: [{ summary: "Sizes", content: "Blue ones." }] } }),
    call: node("call", "thoughts", said("assistant", "search('whale')", { recipient: "web" })),
    tool: node("tool", "call", said("tool", "30 m")),
    u2: node("u2", "hidden", { author: { role: "user" }, content: { content_type: "multimodal_text", parts: [{ content_type: "image_asset_pointer" }, "And this?"] } }),
  },
}

const OPEN_WEBUI = {
  id: "x",
  title: "Maths",
  pinned: true,
  created_at: 1700000000,
  updated_at: 1700000100,
  chat: {
    title: "Maths",
    params: { system: "Be brief." },
    history: {
      currentId: "b",
      messages: {
        q: { id: "q", parentId: null, childrenIds: ["a", "b"], role: "user", content: "1 + 1?", timestamp: 1700000001, files: [{ type: "image", url: "data:image/png;base64,AAAA" }, { type: "file" }] },
        a: { id: "a", parentId: "q", role: "assistant", content: "3", model: "small", timestamp: 1700000002 },
        b: { id: "b", parentId: "q", role: "assistant", content: '<details type="reasoning" done="true" duration="2">\n<summary>Thought for 2 seconds</summary>\n> One &lt;and&gt;\n&gt; one.\n</details>\n2', model: "large", timestamp: 1700000003 },
      },
    },
  },
}

const read = (value) => readConversations(value).map(({ conversation }) => conversation)
const outline = ({ messages }) => messages.map(({ id, parentId, role, runId }) => [id, parentId, role, runId].join(" "))

test("ChatGPT's messages are taken over, every branch of them, and its machinery is not", () => {
  const [whales] = read([CHATGPT])
  assert.deepEqual(outline(whales), ["u1  user ", "u2  user ", "thoughts u1 assistant run-thoughts", "a2 thoughts assistant run-thoughts"])
  assert.deepEqual(whales.messages.map(({ content }) => content), [
    [{ type: "text", text: "How big is a whale?" }],
    [{ type: "text", text: "*(an image)*\n\nAnd this?" }],
    [{ type: "reasoning", text: "**Sizes**\n\nBlue ones." }],
    [{ type: "text", text: "It is big." }],
  ])
  assert.deepEqual([whales.title, whales.leafId, whales.createdAt], ["Whales", "a2", "2023-11-14T22:13:20.500Z"])
  assert.deepEqual(whales.messages.map(({ createdAt }) => createdAt.slice(17, 19)), ["21", "20", "21", "21"])
  assert.deepEqual(whales.runs, [{ id: "run-thoughts", messageId: "thoughts", parentId: "u1", model: "", outcome: "completed", createdAt: "2023-11-14T22:13:21.000Z" }])
})

test("Open WebUI's answers are branches with their models, and what it hides in a text is a part again", () => {
  for (const value of [OPEN_WEBUI, { ...OPEN_WEBUI.chat, pinned: true, created_at: 1700000000 }]) {
    const [maths] = read([value])
    assert.deepEqual(outline(maths), ["q  user ", "a q assistant run-a", "b q assistant run-b"])
    assert.deepEqual(maths.messages[0].content, [{ type: "image", mediaType: "image/png", data: "AAAA" }, { type: "text", text: "1 + 1?" }])
    assert.deepEqual(maths.messages[2].content, [{ type: "reasoning", text: "One <and>\none." }, { type: "text", text: "2" }])
    assert.deepEqual(maths.runs.map(({ model }) => model), ["small", "large"])
    assert.deepEqual([maths.title, maths.system, maths.pinned, maths.leafId], ["Maths", "Be brief.", true, "b"])
    assert.equal(maths.updatedAt, value.updated_at ? "2023-11-14T22:15:00.000Z" : maths.messages[2].createdAt)
  }
})

test("our own form goes to the server as it is, alone or among others", () => {
  const own = { title: "Own", messages: [{ id: "m", role: "user", content: [] }], runs: [] }
  assert.deepEqual(read(own), [own])
  assert.equal(read([own, CHATGPT, OPEN_WEBUI])[0], own)
})

test("a file that was tampered with ends nowhere, and what is no conversation is named", () => {
  const circle = { title: "Round", current_node: "a", mapping: { a: node("a", "b", said("user", "A")), b: node("b", "a", said("user", "B")), c: node("c", "d", null), d: node("d", "c", null), e: node("e", "c", said("user", "E")) } }
  const [round] = read([circle])
  assert.deepEqual(outline(round), ["e  user "])
  const reasons = readConversations([1, null, {}, { messages: [] }, { title: "T", mapping: { a: node("a", null, null) } }]).map(({ title, reason }) => `${title} ${reason}`)
  assert.deepEqual(reasons, [" unknown", " unknown", " unknown", " empty", "T empty"])
})

const file = (name, value) => ({ name, text: async () => (typeof value === "string" ? value : JSON.stringify(value)) })
const refuse = (message, status = 400) => ({ value: null, failure: { code: "bad_request", message, retryable: false, status } })

test("files are taken in one after the other, and what is refused is named while the rest goes on", async () => {
  const steps = []
  const asked = []
  const ask = async (method, path, body) => {
    asked.push(`${method} ${path} ${body.title}`)
    return body.title === "Maths" ? refuse("messages[0]: too long") : { value: { id: `c${asked.length}` }, failure: null }
  }
  const files = [file("one.json", [CHATGPT, OPEN_WEBUI]), file("two.json", "no JSON"), file("three.json", CHATGPT)]
  const outcome = await importFiles(ask, files, (...step) => steps.push(step.join("/")), new AbortController().signal)
  assert.deepEqual(asked, ["Whales", "Maths", "Whales"].map((title) => `POST /api/conversations/import ${title}`))
  assert.deepEqual(outcome.conversations, [{ id: "c1" }, { id: "c3" }])
  assert.deepEqual(outcome.refused, [
    { name: "one.json", title: "Maths", reason: "messages[0]: too long" },
    { name: "two.json", title: "", reason: "unreadable" },
  ])
  assert.deepEqual([steps, outcome.isCut], [["0/4", "1/4", "2/4", "3/4"], false])
})

test("taking in ends where it is cancelled, or the server is away", async () => {
  const cancel = new AbortController()
  const cases = [
    [async () => (cancel.abort(), refuse("", 0)), cancel.signal],
    [async () => refuse("", 0), new AbortController().signal],
  ]
  for (const [ask, signal] of cases) {
    const outcome = await importFiles(ask, [file("a", [CHATGPT, CHATGPT])], () => {}, signal)
    assert.deepEqual(outcome, { conversations: [], refused: [], isCut: true })
  }
})

test("all conversations make one file, which can be taken in again", async () => {
  const pages = { "": { conversations: [{ id: "a" }, { id: "b/c" }], next: "n 1" }, "n 1": { conversations: [{ id: "gone" }, { id: "d" }], next: null } }
  const get = async (path) => {
    const { pathname, searchParams } = new URL(path, "http://x")
    if (pathname === "/api/conversations") return Response.json(pages[searchParams.get("before") ?? ""])
    const id = decodeURIComponent(pathname.split("/").at(-1))
    return id === "gone" ? new Response("", { status: 404 }) : Response.json({ id, messages: [{ id: "m" }] })
  }
  const steps = []
  const blob = await exportAll(get, (...step) => steps.push(step.join("/")), new AbortController().signal)
  assert.deepEqual(read(JSON.parse(await blob.text())).map(({ id }) => id), ["a", "b/c", "d"])
  assert.equal(steps.at(-1), "3/4")
  const broken = await exportAll(async (path) => (path.includes("format") ? Promise.reject(new TypeError("away")) : get(path)), () => {}, new AbortController().signal)
  assert.equal(broken, null)
})
