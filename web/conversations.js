/**
 * The list of conversations without a page: the pinned ones and then the newest first, a page at a time, or what a
 * search finds. What is loaded again replaces what is shown; an answer to a question that is no longer asked is dropped.
 */

import { createAsk } from "./api.js"

/** @typedef {import("./api.js").Failure} Failure */
/** @typedef {{ id: string, title: string, createdAt: string, updatedAt: string, pinned?: boolean, isRunning: boolean, snippet?: string }} Conversation */

const PATH = "/api/conversations"

export class Conversations {
  /** @type {readonly Conversation[]} */
  items = []
  /** What is searched for, "" for all. */
  words = ""
  hasMore = false
  /** @type {Failure | null} */
  problem = null
  #ask
  #changed
  #tell
  #next = ""
  /** What is being asked for, to tell its answer from older ones. */
  #asked = {}

  /** @param {() => void} changed @param {{ api?: string, fetch?: typeof globalThis.fetch, tell?: (id: string) => void }} [options] `tell` is told what was changed */
  constructor(changed, { api = "", fetch = (...args) => globalThis.fetch(...args), tell = () => {} } = {}) {
    this.#ask = createAsk(api, fetch)
    this.#tell = tell
    this.#changed = changed
  }

  /** Load the list again. */
  async refresh() {
    const query = this.words ? `?q=${encodeURIComponent(this.words)}` : ""
    const { value, isLate } = await this.#load(query)
    if (isLate) return
    // What was loaded behind the first page stays, less what moved into it.
    const ids = new Set(value.conversations.map((/** @type {Conversation} */ { id }) => id))
    const last = value.conversations.at(-1)
    const older = value.next ? this.items.filter((item) => !ids.has(item.id) && inOrder(last, item) < 0).sort(inOrder) : []
    this.items = [...value.conversations, ...older]
    if (older.length === 0) this.#next = value.next ?? ""
    this.hasMore = this.#next !== ""
    this.#changed()
  }

  /** Load the next page. */
  async more() {
    if (!this.#next || this.words) return
    const { value, isLate } = await this.#load(`?before=${encodeURIComponent(this.#next)}`)
    if (isLate) return
    const known = new Set(this.items.map(({ id }) => id))
    this.items = [...this.items, ...value.conversations.filter((/** @type {Conversation} */ { id }) => !known.has(id))]
    this.#next = value.next ?? ""
    this.hasMore = this.#next !== ""
    this.#changed()
  }

  /** @param {string} words */
  async search(words) {
    if (words.trim() === this.words) return
    this.words = words.trim()
    this.items = []
    this.#next = ""
    await this.refresh()
  }

  /** Change what the server keeps of a conversation: its title, whether it is pinned. */
  /** @param {string} id @param {Partial<Pick<Conversation, "title" | "pinned">>} change */
  async change(id, change) {
    return this.#send("PATCH", id, change)
  }

  /** Delete a conversation; for some minutes `restore` brings it back. */
  /** @param {string} id */
  async remove(id) {
    return this.#send("DELETE", id)
  }

  /** @param {string} id */
  async restore(id) {
    return this.#send("PATCH", id, { deleted: false })
  }

  /** Show what was made by other means, in all tabs. */
  /** @param {string} id */
  async noteMade(id) {
    this.#tell(id)
    await this.refresh()
  }

  /** @param {string} method @param {string} id @param {unknown} [body] @returns whether it was done */
  async #send(method, id, body) {
    const { value, failure } = await this.#ask(method, `${PATH}/${encodeURIComponent(id)}`, body)
    // What is loaded anew is the first page alone.
    if (method === "DELETE" && !failure) this.items = this.items.filter((item) => item.id !== id)
    else if (value) this.items = this.items.map((item) => (item.id === id ? { ...item, ...value } : item))
    if (!failure) this.#tell(id)
    await this.refresh()
    // Another tab may have deleted it: then it is as gone as it should be.
    if (failure && failure.status !== 404) {
      this.problem = failure
      this.#changed()
    }
    return !failure
  }

  /** @param {string} query @returns {Promise<{ value: any, isLate: boolean }>} */
  async #load(query) {
    const asked = {}
    this.#asked = asked
    const { value, failure } = await this.#ask("GET", `${PATH}${query}`)
    if (asked !== this.#asked) return { value, isLate: true }
    this.problem = failure
    if (failure) this.#changed()
    return { value, isLate: failure !== null }
  }
}

/** @param {Conversation} one @param {Conversation} other */
function inOrder(one, other) {
  return Number(other.pinned ?? false) - Number(one.pinned ?? false) || Date.parse(other.updatedAt) - Date.parse(one.updatedAt)
}
