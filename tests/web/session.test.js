/** Where the server is, and how it knows the reader: by a cookie at home, by the token in each request elsewhere. */

import assert from "node:assert/strict"
import { beforeEach, test } from "node:test"

import { findServer, openSession, takeToken } from "../../web/session.js"

const HERE = "https://pages.example/chat/"
const AWAY = "http://localhost:8000"

/** @type {Record<string, string>} */
let kept = {}
beforeEach(() => {
  kept = {}
  globalThis.sessionStorage = { getItem: (name) => kept[name] ?? null, setItem: (name, value) => void (kept[name] = value) }
})

/** A server that notes what it was asked, and answers with these. */
function play(...answers) {
  const asked = []
  const fetch = async (url, init = {}) => {
    asked.push([url, new Headers(init.headers).get("Authorization"), init.credentials ?? "same-origin"])
    return answers.shift() ?? new Response("{}")
  }
  return { asked, fetch }
}

const FOUND = {
  "": ".",
  "#c=conv_1": ".",
  [`?server=${AWAY}`]: AWAY,
  [`?server=${AWAY}/`]: AWAY,
  "?server=HTTPS://Chat.Example:443": "https://chat.example",
  "?server=http%3A%2F%2F%5B%3A%3A1%5D%3A8000": "http://[::1]:8000",
  "?a=b&server=http://localhost:8000/deep/chat/#c=conv_1": "http://localhost:8000/deep/chat",
  [`?server=${HERE}`]: ".",
  "?server=https://pages.example/chat": ".",
  "?server=https://pages.example": "https://pages.example",
}
for (const [query, api] of Object.entries(FOUND)) {
  test(`the server of ${query || "a bare address"} is ${api}`, () => assert.equal(findServer({ href: HERE + query }), api))
}

const NONE = ["", "x", "localhost:8000", "//localhost:8000", "javascript:alert(1)", "data:text/html,x", "blob:https://a.example/x", "file:///etc", "ws://a.example", "http://", "http://u:p@a.example", "http://u@a.example", "http://a.example?b", "http://a.example%23b", "http://a.example:99999", "http://a b.example"]
for (const named of NONE) {
  test(`${named || "nothing"} is no server`, () => assert.equal(findServer({ href: `${HERE}?server=${encodeURIComponent(decodeURIComponent(named))}` }), null))
}

test("the token leaves the address, and nothing else does", () => {
  const seen = []
  const history = { replaceState: (state, title, url) => void seen.push(url) }
  assert.equal(takeToken({ pathname: "/chat/", search: `?server=${AWAY}`, hash: "#token=a%20b&c=conv_1" }, history), "a b")
  assert.equal(takeToken({ pathname: "/", search: "", hash: "#token=x" }, history), "x")
  assert.equal(takeToken({ pathname: "/", search: "", hash: "#c=conv_1" }, history), "")
  assert.deepEqual(seen, [`/chat/?server=${AWAY}#c=conv_1`, "/"])
})

test("at home the token is traded for a cookie, before anything else is asked", async () => {
  let open = () => {}
  const opened = new Promise((resolve) => (open = () => resolve(new Response(null, { status: 204 }))))
  const { asked, fetch } = play(opened)
  const session = openSession(".", "secret", fetch)
  const answer = session.fetch("./api/models")
  await new Promise((resolve) => setTimeout(resolve))
  assert.deepEqual(asked, [["./api/session", "Bearer secret", "same-origin"]])
  open()
  await answer
  assert.deepEqual(asked.slice(1), [["./api/models", null, "same-origin"]])
  assert.equal(await session.accepted, true)
  assert.deepEqual(kept, {})
})

test("a token that is refused or not heard is told, and the page asks without it", async () => {
  for (const answer of [new Response(null, { status: 401 }), Promise.reject(new TypeError("lost"))]) {
    const { asked, fetch } = play(answer)
    const session = openSession(".", "wrong", fetch)
    assert.equal(await session.accepted, false)
    await session.fetch("./api/models")
    assert.equal(asked.length, 2)
  }
  assert.equal(await openSession(".", "", play().fetch).accepted, true)
})

test("elsewhere each request shows the token, a reload too, and no other server is shown it", async () => {
  const { asked, fetch } = play()
  await openSession(AWAY, "secret", fetch).fetch(`${AWAY}/api/chat`, { method: "POST", headers: { Prefer: "x" } })
  await openSession(AWAY, "", fetch).fetch(`${AWAY}/api/models`)
  await openSession("http://evil.example", "", fetch).fetch("http://evil.example/api/models")
  assert.deepEqual(asked, [
    [`${AWAY}/api/chat`, "Bearer secret", "omit"],
    [`${AWAY}/api/models`, "Bearer secret", "omit"],
    ["http://evil.example/api/models", null, "omit"],
  ])
})

test("where nothing can be kept the token lasts as long as the page", async () => {
  Object.defineProperty(globalThis, "sessionStorage", { configurable: true, get: () => { throw new Error("SecurityError") } })
  const { asked, fetch } = play()
  await openSession(AWAY, "secret", fetch).fetch(AWAY)
  await openSession(AWAY, "", fetch).fetch(AWAY)
  delete globalThis.sessionStorage
  assert.deepEqual(asked.map(([, shown]) => shown), ["Bearer secret", null])
})
