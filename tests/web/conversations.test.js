/** The list of conversations: pages, searches, and answers that come too late. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { Conversations } from "../../web/conversations.js"
import { json, refusal, settle } from "./rig.js"

const item = (number) => ({ id: `c${number}`, title: `T${number}`, updatedAt: new Date(number * 1000).toISOString(), isRunning: false })

/** A server of `count` conversations, three on a page. */
function start(count) {
  const all = Array.from({ length: count }, (_, index) => item(count - index))
  const requests = []
  const list = new Conversations(() => {}, {
    fetch: async (path, { method, body }) => {
      requests.push(`${method} ${path}`)
      const { searchParams, pathname } = new URL(path, "http://x")
      const at = all.findIndex(({ id }) => pathname.endsWith(`/${id}`))
      if (at >= 0 && method === "DELETE") return all.splice(at, 1), json(204, null)
      if (at >= 0) return Object.assign(all[at], JSON.parse(body)), json(200, all[at])
      if (pathname !== "/api/conversations") return refusal(404, "not_found")
      const words = searchParams.get("q")
      if (words) return json(200, { conversations: all.filter(({ title }) => title === words), next: null })
      const from = Number(searchParams.get("before") ?? 0)
      return json(200, { conversations: all.slice(from, from + 3), next: from + 3 < all.length ? String(from + 3) : null })
    },
  })
  return { list, all, requests }
}

const ids = ({ items }) => items.map(({ id }) => id).join(" ")

test("the list is loaded page by page, to its end", async () => {
  const { list, requests } = start(7)
  await list.refresh()
  assert.deepEqual([ids(list), list.hasMore], ["c7 c6 c5", true])
  await list.more()
  await list.more()
  assert.deepEqual([ids(list), list.hasMore], ["c7 c6 c5 c4 c3 c2 c1", false])
  await list.more()
  assert.equal(requests.length, 3)
})

test("what moved to the top is there once, and what was loaded behind it stays", async () => {
  const { list, all } = start(6)
  await list.refresh()
  await list.more()
  const [moved] = all.splice(5, 1)
  all.unshift({ ...moved, updatedAt: new Date(9000).toISOString() })
  await list.refresh()
  assert.deepEqual([ids(list), list.hasMore], ["c1 c6 c5 c4 c3 c2", false])
})

test("a search replaces the list, and an answer to an older one is dropped", async () => {
  const { list } = start(4)
  await list.refresh()
  const first = list.search("T1")
  await list.search("T2")
  await first
  assert.deepEqual([ids(list), list.words, list.hasMore], ["c2", "T2", false])
  await list.search(" ")
  assert.equal(ids(list), "c4 c3 c2")
})

test("what is pinned stays before the rest, and goes back to its place", async () => {
  const { list, all } = start(5)
  const sort = () => all.sort((one, other) => Number(other.pinned ?? false) - Number(one.pinned ?? false) || other.id.localeCompare(one.id))
  await list.refresh()
  await list.more()
  all[3].pinned = true
  sort()
  await list.change("c2", { pinned: true })
  assert.equal(ids(list), "c2 c5 c4 c3 c1")
  all[0].pinned = false
  sort()
  assert.equal(await list.change("c2", { pinned: false }), true)
  assert.equal(ids(list), "c5 c4 c3 c2 c1")
})

test("what is deleted behind the first page is gone too, and what cannot be had back is said to be", async () => {
  const { list } = start(5)
  await list.refresh()
  await list.more()
  assert.equal(await list.remove("c1"), true)
  assert.equal(ids(list), "c5 c4 c3 c2")
  assert.equal(await list.restore("c1"), false)
})

test("a title is changed, and what is deleted is gone, twice or once", async () => {
  const { list } = start(2)
  await list.refresh()
  await list.change("c1", { title: "New" })
  assert.equal(list.items[1].title, "New")
  await Promise.all([list.remove("c2"), list.remove("c2")])
  await settle()
  assert.deepEqual([ids(list), list.problem], ["c1", null])
})

test("what the server refuses is told, and the list stays", async () => {
  let isRefusing = false
  const list = new Conversations(() => {}, { fetch: async () => (isRefusing ? refusal(500, "internal") : json(200, { conversations: [item(1)], next: null })) })
  await list.refresh()
  isRefusing = true
  await list.change("c1", { title: "New" })
  assert.deepEqual([ids(list), list.items[0].title, list.problem.code], ["c1", "T1", "internal"])
  isRefusing = false
  await list.refresh()
  assert.equal(list.problem, null)
})
