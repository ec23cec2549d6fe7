/**
 * Keeps what was written and not sent, by conversation ("" is the new one): the text of the field, the questions that
 * wait. What was meant for one server no other is shown or sent. It is a Map over this browser's own storage, bounded, of which the oldest goes first; where there is no storage,
 * or it is full, it is a Map. What is attached is kept where it fits.
 *
 * Two tabs of one conversation do not fight: the last one that writes wins, and nothing is taken from a field in use.
 */

/** @typedef {import("./shown.js").Question} Question */
/** @typedef {import("./chat.js").Queued} Queued */

// A browser gives a site five million characters, which all parts of the page share.
const MOST = 50
const LARGEST = 1_000_000
const LARGEST_TOGETHER = 3_000_000

/** @template Value */
class Shelf {
  #prefix
  #lighten
  #storage
  /** @type {Map<string, Value | undefined>} */
  #known = new Map()

  /** @param {string} name @param {string} server its address @param {(value: Value) => Value | undefined} lighten makes what is too large smaller; undefined where nothing is worth keeping @param {Storage | null} [storage] */
  constructor(name, server, lighten, storage = findStorage()) {
    this.#prefix = `chatstream.${name} ${server} `
    this.#lighten = lighten
    this.#storage = storage
  }

  /** @param {string} id @returns {Value | undefined} */
  get(id) {
    if (!this.#known.has(id)) this.#known.set(id, this.#read(this.#prefix + id))
    return this.#known.get(id)
  }

  /** @param {string} id @param {Value | undefined} value undefined to forget it */
  set(id, value) {
    this.#known.set(id, value)
    const key = this.#prefix + id
    const lighter = value && this.#lighten(value)
    if (!this.#write(key, value) && !this.#write(key, lighter)) this.#write(key, undefined)
  }

  /** Forget what was written; this page still has it, should the conversation come back. */
  /** @param {string} id */
  drop(id) {
    this.#write(this.#prefix + id, undefined)
  }

  /** Note what another tab wrote; returns whether it is about this shelf. */
  /** @param {Pick<StorageEvent, "key">} event of the window's `storage` */
  hear({ key }) {
    if (key === null) this.#known.clear()
    else if (!key.startsWith(this.#prefix)) return false
    else this.#known.delete(key.slice(this.#prefix.length))
    return true
  }

  /** @param {string} key @returns {Value | undefined} */
  #read(key) {
    try {
      const [, json] = /^\d+ ([^]+)$/.exec(this.#storage?.getItem(key) ?? "") ?? []
      return json && JSON.parse(json)
    } catch {
      return undefined
    }
  }

  /** @param {string} key @param {Value | undefined} value @returns whether it is kept */
  #write(key, value) {
    try {
      const isNothing = value === undefined || (Array.isArray(value) && value.length === 0)
      const text = isNothing ? "" : `${Date.now()} ${JSON.stringify(value)}`
      if (text.length > LARGEST) return false
      if (text) this.#makeRoom(key, text.length)
      if (text) this.#storage?.setItem(key, text)
      else this.#storage?.removeItem(key)
      return true
    } catch {
      return false
    }
  }

  /** @param {string} key of what comes @param {number} size */
  #makeRoom(key, size) {
    const storage = this.#storage
    if (!storage) return
    const keys = Array.from(storage, (_, index) => storage.key(index) ?? "")
    const others = keys.filter((one) => one.startsWith(this.#prefix) && one !== key)
    const kept = others.map((one) => ({ key: one, text: storage.getItem(one) ?? "" }))
    kept.sort((one, other) => Number.parseInt(other.text) - Number.parseInt(one.text))
    let total = size
    for (const [index, { key: old, text }] of kept.entries()) {
      total += text.length
      if (index >= MOST - 1 || total > LARGEST_TOGETHER) storage.removeItem(old)
    }
  }
}

/** What is in the field. @param {string} server @param {Storage | null} [storage] @returns {Shelf<Question>} */
export function createDrafts(server, storage) {
  return new Shelf("draft", server, (question) => (question.text ? { ...question, images: [], files: [] } : undefined), storage)
}

/** What waits to be sent. One whose attachments do not fit is not sent by itself after a reload. */
/** @param {string} server @param {Storage | null} [storage] @returns {Shelf<readonly Queued[]>} */
export function createQueues(server, storage) {
  return new Shelf("queue", server, (queue) => queue.map((one) => ({ ...one, images: [], files: [], isHeld: one.isHeld || one.images.length + one.files.length > 0 })), storage)
}

// A browser that keeps nothing for this site throws at the mention of its storage.
function findStorage() {
  try {
    return localStorage
  } catch {
    return null
  }
}
