/** Tabs share one connection, whichever of them dies, sleeps or hangs. The browser is a fake: its locks, its channel, its tabs. */

import assert from "node:assert/strict"
import { test } from "node:test"

import { coalesce, createHub } from "../../web/hub.js"
import { Clock, FakeServer, Pipe, dice, last, partsOf, refusal, say, settle, shown, start, stream, text } from "./rig.js"

/** What tabs have in common: https://w3c.github.io/web-locks/ in small, and channels. */
class Browser {
  clock = new Clock()
  tabs = []
  /** The first of each queue holds the lock. @type {Map<string, any[]>} */
  #queues = new Map()
  /** @type {Set<any>} */
  #channels = new Set()
  /** Until then nobody is told that a lock was taken. */
  slowness = Promise.resolve()

  constructor(server = new FakeServer()) {
    this.server = server
  }

  open(more = {}) {
    const tab = new Tab(this, more)
    this.tabs.push(tab)
    return tab
  }

  locksOf(tab) {
    const request = (name, { signal, steal }, work) => new Promise((resolve, reject) => {
      if (tab.isDead) return
      const queue = this.#queues.get(name) ?? []
      this.#queues.set(name, queue)
      const one = { tab, work, resolve, reject, isHeld: false }
      const leave = () => {
        if (!one.isHeld && queue.includes(one)) queue.splice(queue.indexOf(one), 1), reject(new DOMException("", "AbortError"))
      }
      signal?.addEventListener("abort", leave)
      const [robbed] = steal ? queue.splice(0, 1) : []
      void this.slowness.then(() => robbed?.tab.awake()).then(() => robbed?.reject(new DOMException("", "AbortError")))
      steal ? queue.unshift(one) : queue.push(one)
      void this.#grant(queue)
    })
    return { request }
  }

  async #grant(queue) {
    const [one] = queue
    if (!one || one.isHeld) return
    one.isHeld = true
    await one.tab.awake()
    await one.work({})
    one.resolve()
    if (queue[0] === one) queue.shift()
    void this.#grant(queue)
  }

  /** Who holds the lock of the leader. */
  get leader() {
    return [...this.#queues].find(([name]) => name.endsWith(" leader"))?.[1][0]?.tab
  }

  channelOf(tab, name) {
    const channel = { tab, name, onmessage: null, close: () => this.#channels.delete(channel), postMessage: (message) => this.#deliver(channel, message) }
    this.#channels.add(channel)
    return channel
  }

  #deliver(from, message) {
    const data = structuredClone(message)
    for (const channel of this.#channels) {
      if (channel === from || channel.name !== from.name) continue
      channel.tab.inbox = channel.tab.inbox.then(() => channel.tab.awake()).then(() => this.#channels.has(channel) && channel.onmessage?.({ data }))
    }
  }

  /** The browser takes from a tab that is gone what it had. */
  bury(tab) {
    for (const channel of this.#channels) if (channel.tab === tab) channel.close()
    for (const queue of this.#queues.values()) {
      for (const one of queue.filter((each) => each.tab === tab)) queue.splice(queue.indexOf(one), 1)
      void this.#grant(queue)
    }
  }
}

class Tab {
  inbox = Promise.resolve()
  isDead = false
  #end = new AbortController()
  #sleeping = Promise.resolve()
  #wake = () => {}

  constructor(browser, more) {
    const { clock, server } = browser
    this.browser = browser
    const around = {
      fetch: async (path, init = {}) => this.#through(await server.fetch(path, { ...init, signal: AbortSignal.any([this.#end.signal, ...(init.signal ? [init.signal] : [])]) })),
      sleep: async (ms, signal) => (await clock.sleep(ms, signal), await this.awake()),
      now: clock.now,
    }
    this.hub = createHub({ ...around, name: "server", locks: browser.locksOf(this), openChannel: (name) => browser.channelOf(this, name), ...more })
    this.chat = start(server, clock, { ...around, hub: this.hub }).chat
    this.hub.onNews((news, isOwn) => isOwn || this.chat.hear(news))
  }

  /** Nothing that was read is known to a tab that sleeps. */
  async #through(response) {
    await this.awake()
    const reader = response.body?.getReader()
    const read = async () => {
      const piece = await reader.read()
      await this.awake()
      return piece
    }
    return reader ? { ...response, body: { getReader: () => ({ read }) } } : response
  }

  awake() {
    return this.#sleeping
  }

  freeze() {
    this.#sleeping = new Promise((resolve) => (this.#wake = resolve))
  }

  thaw() {
    this.#wake()
  }

  die() {
    this.isDead = true
    this.freeze()
    this.#end.abort()
    this.browser.bury(this)
  }
}

/** Open tabs of a conversation for each of these runs, which have begun, and let each show it. */
async function watching(count, runs = [0, 1, 2]) {
  const server = new Conversations()
  const browser = new Browser(server)
  for (const run of runs) server.begin(`u${run}`, null).say(text("a"))
  for (let number = 0; number < count; number++) void browser.open().chat.open(`c${runs[number % runs.length]}`)
  await settle()
  return { browser, server, clock: browser.clock, tabs: browser.tabs }
}

/** A server with a conversation for each of its runs. */
class Conversations extends FakeServer {
  refuse = (method, path) => {
    const number = /^\/api\/conversations\/c(\d+)$/.exec(path)?.[1]
    if (number === undefined || method !== "GET") return null
    const run = this.runs[Number(number)]
    const question = { id: run.parentId, parentId: null, role: "user", content: [text("Hi")], runId: null, createdAt: "" }
    const messages = [question, ...this.nodes.filter(({ runId }) => runId === run.id)]
    return { ok: true, status: 200, headers: new Headers(), json: async () => structuredClone({ id: `c${number}`, title: "T", leafId: messages.at(-1).id, messages, runs: [run.told()] }) }
  }
}

const streams = (server) => server.asked("GET", "/api/events").map(({ path }) => path.split("?")[1])
const texts = (tabs) => tabs.map(({ chat }) => partsOf(last(chat)).join("|"))
const finish = (server, words) => server.runs.forEach((run) => run.end("completed", [say(words)]))

// --- one connection ---------------------------------------------------------------------------------------------------

test("twelve tabs with three runs have one connection, and two while another takes its place", async () => {
  const { server, tabs } = await watching(12)
  assert.deepEqual([texts(tabs), server.open, server.most], [Array(12).fill("a"), 1, 2])
  for (const run of server.runs) run.say(text("b"))
  await settle()
  const count = streams(server).length
  server.runs[0].end("completed", [say("ab")])
  await settle()
  assert.deepEqual(tabs.map(({ chat }) => chat.isLoading), Array(4).fill([false, true, true]).flat())
  for (const run of server.runs.slice(1)) run.end("completed", [say("ab")])
  await settle()
  assert.deepEqual([texts(tabs), server.open, server.most, streams(server).length], [Array(12).fill("ab"), 0, 2, count])
  assert.equal(tabs.every(({ chat }) => !chat.isLoading && chat.error === null), true)
})

test("a connection that has told all ends by itself, and one that has not is closed", async () => {
  const [told, left] = [await watching(1, [0]), await watching(1, [0])]
  finish(told.server, "a")
  for (const { hub } of left.tabs) hub.leave()
  await settle()
  assert.deepEqual([told, left].map(({ server }) => [server.open, server.aborted]), [[0, 0], [0, 1]])
})

test("many that want the same at once are told it by the connection that the first of them has begun", async () => {
  const { server, browser } = await watching(0, [0])
  const { hub } = browser.open()
  let count = 0
  for (let number = 0; number < 12; number++) void hub.follow("r0", { after: () => 0, isSuspect: false, hear: (events) => (count += events.length), signal: new AbortController().signal })
  await settle()
  assert.deepEqual([count, streams(server)], [24, ["run=r0&after=0"]])
})

test("a connection begins where the viewer is who has least, whatever the one before it still tells", async () => {
  const opened = []
  const hub = createHub({ fetch: (path, { signal }) => new Promise((resolve) => {
    const pipe = new Pipe()
    opened.push({ query: path.split("?")[1], pipe, open: () => resolve(stream(pipe, { signal })) })
  }) })
  const heard = [[], [], []]
  const follow = (runId, number, all) => void hub.follow(runId, { after: () => number, isSuspect: false, hear: (events) => all.push(...events.map(([, id]) => id)), signal: new AbortController().signal })
  const told = (runId, number) => `event: ${runId}\nid: ${number}\n\n`
  follow("r0", 2, heard[0])
  opened[0].open()
  await settle()
  follow("r0", 0, heard[1])
  follow("r0", 2, [])
  follow("r1", 0, heard[2])
  opened[0].pipe.write(told("r0", 3))
  await settle()
  opened[1].open()
  await settle()
  opened[2].open()
  await settle()
  assert.deepEqual(opened.map(({ query }) => query), ["run=r0&after=2", "run=r0&after=0", "run=r0&after=0&run=r1&after=0"])
  opened[2].pipe.write(told("r0", 1) + told("r0", 2) + told("r1", 1) + told("r0", 3))
  await settle()
  assert.deepEqual(heard, [["3", "1", "2", "3"], ["1", "2", "3"], ["1"]])
})

test("a tab that comes late is told all, and who has it nothing twice", async () => {
  const { browser, server, tabs } = await watching(1, [0])
  server.runs[0].say(text("b"))
  await settle()
  const applied = []
  const seen = new AbortController()
  void tabs[0].hub.follow("r0", { after: () => 3, isSuspect: false, hear: (events) => applied.push(...events.map(([, id]) => Number(id))), signal: seen.signal })
  await settle()
  const asked = streams(server).length
  const late = browser.open()
  void late.chat.open("c0")
  await settle()
  assert.deepEqual([texts([tabs[0], late]), streams(server).slice(asked)], [["ab", "ab"], ["run=r0&after=0"]])
  finish(server, "ab")
  await settle()
  assert.deepEqual([texts([tabs[0], late]), server.most], [["ab", "ab"], 2])
  assert.deepEqual(applied, [1, 2, 3, 4], "which follow.js drops by their numbers")
})

test("who joins where the connection is needs no other one; who leaves takes the run along", async () => {
  const { browser, server, tabs } = await watching(3)
  assert.deepEqual(streams(server).at(-1).match(/run=r\d/g).sort(), ["run=r0", "run=r1", "run=r2"])
  const count = streams(server).length
  const join = new AbortController()
  void tabs[1].hub.follow("r0", { after: () => 2, isSuspect: false, hear: () => {}, signal: join.signal })
  await settle()
  join.abort()
  await settle()
  assert.equal(streams(server).length, count)
  tabs[2].die()
  await settle()
  assert.deepEqual(streams(server).slice(count).map((query) => query.match(/run=r\d&after=\d/g).sort()), [["run=r0&after=2", "run=r1&after=2"]])
  for (const tab of browser.tabs) tab.hub.leave()
  await settle()
  assert.equal(server.open, 0)
})

test("what cannot be followed ends nobody else's stream, and the fifty-first run waits", async () => {
  const server = new FakeServer()
  const { hub } = new Browser(server).open()
  for (let number = 0; number < 51; number++) server.begin(null)
  const heard = new Map()
  const ends = [...server.runs.map(({ id }) => id), "none"].map((id) => {
    const end = new AbortController()
    return hub.follow(id, { after: () => 0, isSuspect: false, hear: (events) => events.length && heard.set(id, events.length), signal: end.signal }).then((failure) => [id, failure.status])
  })
  await settle()
  assert.deepEqual(await Promise.all(ends.slice(50)), [["r50", 503], ["none", 503]])
  assert.equal(heard.size, 50)
  finish(server, "")
  await settle()
  const none = await hub.follow("none", { after: () => 0, isSuspect: false, hear: () => {}, signal: new AbortController().signal })
  assert.deepEqual([none.status, none.code, server.open], [404, "not_found", 0])
})

// --- leaders that are gone --------------------------------------------------------------------------------------------

test("when the leader dies at whatever event the next goes on where it was", async () => {
  for (let at = 0; at < 8; at++) {
    const { browser, server, tabs } = await watching(4, [0, 1])
    for (let number = 0; number < 8; number++) {
      if (number === at) browser.leader.die()
      for (const run of server.runs) run.say(text(String(number)))
      // Some of it is on its way.
      if (number % 2) await settle()
    }
    await settle()
    finish(server, "")
    await settle()
    assert.deepEqual(texts(tabs.slice(1)), Array(3).fill("a01234567"))
    assert.deepEqual([server.open, server.most <= 2, browser.leader === tabs[1]], [0, true, true])
  }
})

test("a leader that was robbed takes nothing any more, before the browser has told it so", async () => {
  const { browser, server, clock, tabs } = await watching(3, [0])
  let tell = () => {}
  browser.slowness = new Promise((resolve) => (tell = resolve))
  tabs[0].freeze()
  await clock.pass(2000)
  tabs[1].chat.wake()
  await clock.pass(760)
  tabs[0].thaw()
  await settle()
  assert.equal(server.open, 1)
  server.runs[0].say(text("b"))
  await settle()
  tell()
  await settle()
  server.runs[0].say(text("c"))
  await settle()
  assert.deepEqual([texts(tabs), server.open], [["abc", "abc", "abc"], 1])
})

test("when a connection is lost while the next is opened nobody has to wait", async () => {
  const { browser, server } = await watching(2, [0])
  server.begin("u1", null).say(text("a"))
  // Of the one that is lost nothing new was heard: after such a one tabs wait by themselves.
  server.runs[0].cut()
  await settle()
  const { refuse } = server
  let release = () => {}
  const held = new Promise((resolve) => (release = resolve))
  server.refuse = (method, path) => (path.startsWith("/api/events") ? held.then(() => (server.refuse = refuse, server.fetch(path, { signal: new AbortController().signal }))) : refuse(method, path))
  const late = browser.open()
  void late.chat.open("c1")
  await settle()
  server.runs[0].cut()
  server.runs[0].say(text("b"))
  await settle()
  release()
  await settle()
  assert.deepEqual(texts(browser.tabs), ["ab", "ab", "a"])
})

test("tabs that die and come in any order leave every text whole", async () => {
  for (let seed = 1; seed <= 40; seed++) {
    const next = dice(seed)
    const { browser, server, clock } = await watching(3)
    let alive = [...browser.tabs]
    const words = ["a", "a", "a"]
    for (let step = 0; step < 30; step++) {
      const chance = next()
      const number = Math.floor(next() * 3)
      if (chance < 0.1 && alive.length > 1) alive.splice(Math.floor(next() * alive.length), 1)[0].die()
      else if (chance < 0.2) {
        const tab = browser.open()
        alive.push(tab)
        void tab.chat.open(`c${number}`)
      } else if (chance < 0.3) server.runs[number].cut()
      else server.runs[number].say(text((words[number] += `.${step}`, `.${step}`)))
      if (next() < 0.5) await settle()
    }
    await settle()
    finish(server, "")
    await clock.pass(8000)
    for (const { chat } of alive) assert.equal(partsOf(last(chat)).join("|"), words[Number(chat.conversationId.slice(1))], `seed ${seed}`)
    assert.deepEqual([server.open, server.most, alive.some(({ chat }) => chat.isLoading)], [0, 2, false], `seed ${seed}`)
  }
})

test("a leader that is frozen is replaced when nothing was heard for two heartbeats, and wakes as a tab among others", async () => {
  const { browser, server, clock, tabs } = await watching(3, [0])
  tabs[0].freeze()
  server.runs[0].say(text("b"))
  await clock.pass(29_000)
  assert.deepEqual([texts(tabs), browser.leader === tabs[0]], [["a", "a", "a"], true])
  await clock.pass(2000)
  assert.deepEqual([texts(tabs), browser.leader === tabs[0]], [["a", "ab", "ab"], false])
  tabs[0].thaw()
  await settle()
  assert.equal(server.open, 1)
  server.runs[0].say(text("c"))
  await settle()
  assert.deepEqual([texts(tabs), tabs.map(({ chat }) => chat.error)], [["abc", "abc", "abc"], [null, null, null]])
  browser.leader.die()
  finish(server, "abc")
  await settle()
  assert.deepEqual([texts(tabs), server.open], [["abc", "abc", "abc"], 0])
})

test("a tab that wakes does not wait for a leader that hangs for more than a second", async () => {
  const { browser, server, clock, tabs } = await watching(6, [0])
  tabs[0].freeze()
  server.runs[0].say(text("b"))
  await clock.pass(2000)
  const before = streams(server).length
  for (const { chat } of tabs.slice(1)) chat.wake()
  await clock.pass(760)
  assert.deepEqual(texts(tabs), ["a", "ab", "ab", "ab", "ab", "ab"])
  await clock.pass(2000)
  assert.deepEqual([browser.leader !== tabs[0], server.open], [true, 2], "its own, which hangs, and the one for all")
  assert.ok(streams(server).length < before + 5)
  tabs[0].die()
  assert.equal(server.open, 1)
  assert.equal(last(tabs[1].chat).transcript.retry, null)
})

test("a socket that died in the leader is replaced when another tab wakes, though the leader knows of nothing", async () => {
  const { server, clock, tabs } = await watching(2, [0])
  server.runs[0].pipes = []
  server.runs[0].say(text("b"))
  await clock.pass(2000)
  for (const { chat } of [...tabs, ...tabs]) chat.wake()
  await settle()
  assert.deepEqual([texts(tabs), server.open, streams(server).length], [["ab", "ab"], 1, 2])
})

test("a page that is kept for the way back lets go of everything, and goes on where it was", async () => {
  const { browser, server, tabs } = await watching(2, [0])
  tabs[0].hub.leave()
  await settle()
  assert.deepEqual([browser.leader === tabs[1], server.open], [true, 1])
  server.runs[0].say(text("b"))
  await settle()
  assert.deepEqual(texts(tabs), ["a", "ab"])
  tabs[0].hub.join()
  tabs[0].hub.join()
  await settle()
  assert.deepEqual(texts(tabs), ["ab", "ab"])
  tabs[1].hub.leave()
  server.runs[0].say(text("c"))
  await settle()
  assert.deepEqual([texts(tabs), browser.leader === tabs[0], server.most], [["abc", "ab"], true, 2])
})

// --- servers that are gone --------------------------------------------------------------------------------------------

test("while the server is away each tab says so, asks in its time, and nobody more often", async () => {
  const { server, clock, tabs } = await watching(3, [0])
  server.away = true
  const before = streams(server).length
  server.runs[0].cut()
  await clock.pass(7000)
  assert.deepEqual(tabs.map(({ chat }) => last(chat).transcript.retry?.code), ["network", "network", "network"])
  const count = streams(server).length - before
  assert.ok(count >= 4 && count <= 3 * 5, `${count}`)
  server.away = false
  server.runs[0].say(text("b"))
  await clock.pass(4000)
  assert.deepEqual([texts(tabs), server.open, tabs.map(({ chat }) => last(chat).transcript.retry)], [["ab", "ab", "ab"], 1, [null, null, null]])
})

test("what a busy server refuses does not end the stream that it has let in", async () => {
  const { browser, server, clock } = await watching(2, [0])
  server.begin("u1", null).say(text("a"))
  const { refuse } = server
  server.refuse = (method, path) => (path.startsWith("/api/events") ? refusal(503, "overloaded") : refuse(method, path))
  const late = browser.open()
  void late.chat.open("c1")
  await clock.pass(2900)
  assert.deepEqual([server.open, last(late.chat).transcript.retry?.code, streams(server).length < 9], [1, "overloaded", true])
  server.refuse = refuse
  server.runs[0].say(text("b"))
  await clock.pass(4000)
  assert.deepEqual([texts(browser.tabs), server.open], [["ab", "ab", "a"], 1])
})

// --- without locks ----------------------------------------------------------------------------------------------------

test("without locks, with forbidden ones and with such as never answer, each tab leads itself alone", async () => {
  const forbidden = { request: async () => Promise.reject(new DOMException("", "SecurityError")) }
  const silent = { request: () => new Promise(() => {}) }
  for (const locks of [null, forbidden, silent]) {
    const server = new FakeServer()
    const browser = new Browser(server)
    server.begin(null).say(text("a"))
    const heard = [0, 1].map(() => {
      const all = []
      void browser.open({ locks }).hub.follow("r0", { after: () => 0, isSuspect: false, hear: (events) => all.push(...events), signal: new AbortController().signal })
      return all
    })
    await browser.clock.pass(locks === silent ? 3000 : 0)
    assert.deepEqual([heard.map(({ length }) => length), server.open], [[2, 2], 2])
    const news = []
    browser.tabs[0].hub.onNews((one, isOwn) => news.push([one.conversationId, isOwn]))
    for (const { hub } of browser.tabs) hub.tell({ conversationId: "c" })
    await settle()
    assert.deepEqual(news, [["c", true], ["c", false]])
  }
})

test("a tab that leads itself alone leads no other", async () => {
  const { browser, server, clock } = await watching(0)
  for (const [number, more] of [{ locks: null }, {}].entries()) void browser.open(more).chat.open(`c${number}`)
  await clock.pass(3000)
  assert.deepEqual(streams(server), ["run=r0&after=0", "run=r1&after=0"])
})

// --- news -------------------------------------------------------------------------------------------------------------

test("a question that one tab asks is seen in the others at once, and its answer as it is written", async () => {
  const browser = new Browser()
  const { server } = browser
  const [one, other, elsewhere] = [browser.open(), browser.open(), browser.open()]
  void one.chat.send("Hi")
  await settle()
  server.runs[0].say(text("a")).end("completed", [say("a")])
  await settle()
  void other.chat.open("c")
  await settle()
  const before = server.requests.length
  void one.chat.send("More")
  await settle()
  server.runs[1].say(text("b"))
  await settle()
  assert.deepEqual([shown(other.chat), other.chat.isLoading], [["> Hi", "a", "> More", "b"], true])
  const ended = server.requests.length
  server.runs[1].say(text("c")).end("completed", [say("bc")])
  await settle()
  assert.deepEqual([shown(one.chat), shown(other.chat)], Array(2).fill(["> Hi", "a", "> More", "bc"]))
  assert.equal(server.requests.length, ended, "who has seen it end asks for nothing")
  assert.equal(server.requests.slice(before).filter(({ path }) => path === "/api/conversations/c").length, 1)
  assert.deepEqual(elsewhere.chat.messages, [])
})

test("what changes while a conversation is read is read again", async () => {
  const { browser, server } = await watching(1, [0])
  server.runs[0].end("completed", [say("a")])
  await settle()
  const { refuse } = server
  let release = () => {}
  const held = new Promise((resolve) => (release = resolve))
  server.refuse = (method, path) => (server.refuse = refuse, held.then(() => refuse(method, path)))
  const before = server.requests.length
  for (let number = 0; number < 3; number++) browser.tabs[0].chat.hear({ conversationId: "c0" })
  release()
  await settle()
  assert.equal(server.requests.length, before + 2)
})

test("what was asked elsewhere while an answer was written is shown when that has ended", async () => {
  const browser = new Browser()
  const { server } = browser
  const [one, other] = [browser.open(), browser.open()]
  void one.chat.send("Hi")
  await settle()
  const { parentId } = server.runs[0]
  server.begin(parentId).say(text("x")).end("completed", [say("x")])
  other.hub.tell({ conversationId: "c", runId: "r1", hasEnded: true })
  await settle()
  assert.deepEqual(shown(one.chat), ["> Hi", ""])
  server.runs[0].say(text("a")).end("completed", [say("a")])
  await settle()
  assert.deepEqual(one.chat.messages.at(-1).branches.count, 2)
})

test("who looks at another conversation still tells when the answer that was left has ended", async () => {
  const browser = new Browser()
  const { server } = browser
  const [one, other] = [browser.open(), browser.open()]
  const news = []
  other.hub.onNews((each) => news.push(each))
  void one.chat.send("Hi")
  await settle()
  one.chat.clear()
  await settle()
  assert.deepEqual(news, [{ conversationId: "c", runId: "r0", hasEnded: false }])
  server.runs[0].say(text("a")).end("completed", [say("a")])
  await settle()
  assert.deepEqual(news, [{ conversationId: "c", runId: "r0", hasEnded: false }, { conversationId: "c", runId: "r0", hasEnded: true }])
  assert.deepEqual([one.chat.messages, server.open], [[], 0])
})

test("work that is asked for while it is done is done once more, and no oftener", async () => {
  let count = 0
  let release = () => {}
  const work = coalesce(() => (count++, new Promise((resolve) => (release = resolve))))
  for (let number = 0; number < 5; number++) void work()
  assert.equal(count, 1)
  release()
  await settle()
  assert.equal(count, 2)
  release()
  await settle()
  assert.equal(count, 2)
  void work()
  assert.equal(count, 3)
})
