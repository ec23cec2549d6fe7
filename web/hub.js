/**
 * Follows runs for all tabs of a browser over one connection: over HTTP/1.1 it has six to a server, however many tabs.
 *
 *     a tab      want, drop                 what it wants to follow, and from where on
 *     leader     taken, told, lost          over a BroadcastChannel: that it was heard, the events, how the connection broke
 *                leader                     who leads now, and asks what is wanted
 *     any        news                       what changed: lists, and tabs that show the same, look again
 *
 * The tab that holds a Web Lock leads, and has the connection (`line.js`). The others wait for the lock, so when a leader
 * dies the browser itself names the next, which asks for what is wanted: each view says where it is, so nothing is lost,
 * and what is told twice `follow.js` drops. Every tab holds a lock of its own too, for which the leader waits: it gets
 * it when that tab is gone, and with it what it wanted. A leader that does not answer in time (its tab is frozen, or
 * stuck) loses its lock to the one who asked. No timer runs but for that answer.
 *
 * Where there are no Web Locks (a page that was not served securely) each tab leads itself alone.
 */

import { lostConnection, mintId, sleepFor } from "./api.js"
import { Line } from "./line.js"

/** @typedef {import("./api.js").Failure} Failure */
/** @typedef {import("./line.js").Told} Told */
/** @typedef {{ postMessage: (message: any) => void, close: () => void, onmessage: ((event: MessageEvent) => void) | null }} Channel */

/**
 * @typedef {object} Options
 * @property {string} [api]
 * @property {typeof globalThis.fetch} [fetch]
 * @property {import("./api.js").Sleep} [sleep]
 * @property {() => number} [now]
 * @property {string} [name] what tabs share that share a connection: the server's address
 * @property {LockManager | null} [locks] without them a tab shares none
 * @property {((name: string) => Channel) | null} [openChannel]
 */

/**
 * @typedef {object} Viewer
 * @property {() => number} after the number of the last event that it has
 * @property {boolean} isSuspect whether it was in vain that it followed before
 * @property {(events: Told[], limitMs: number) => void} hear is called with what is told of the run, and for each sign of life; longer silence than `limitMs` is none
 * @property {AbortSignal} signal ends it
 */

/** @typedef {Viewer & { id: string, runId: string, stream: string, limitMs: number, isAnswered: boolean, alarm: AbortController | null, end: (failure: Failure) => void }} View */
/** @typedef {{ conversationId: string, runId?: string | null, hasEnded?: boolean }} News of a conversation that changed; with a run that began or ended in it, where that is what changed */

// Of the messages: tabs of another version are none to talk to.
const VERSION = 1

// A leader answers at once; one that is this late does not live. Up to half as much again, so that not all tabs find it at
// once; and where nothing speaks against it, it may be busy.
const ANSWER_MS = 500
const BUSY_MS = 2000

/**
 * Create this tab's part of the hub.
 *
 * @param {Options} [options]
 */
export function createHub(options) {
  return new Hub(options)
}

export class Hub {
  #around
  #sleep
  #name
  #locks
  #openChannel
  #tab = mintId()
  #count = 0
  /** Who leads, as far as this tab has heard: one that was robbed in its sleep may still have something to say. */
  #leader = ""
  /** What this tab follows. @type {Map<string, View>} */
  #views = new Map()
  /** @type {Channel | null} */
  #channel = null
  /** The connection, where this tab leads. @type {Line | null} */
  #line = null
  /** Ends the wait for the lock of the leader, or lets go of it. @type {AbortController | null} */
  #standing = null
  /** Ends being a tab among others. @type {AbortController | null} */
  #belonging = null
  /** Ends the waits for the locks of other tabs. @type {AbortController | null} */
  #minding = null
  /** @type {Set<string>} */
  #minded = new Set()
  /** Whether this tab's own lock is held: what it wants is dropped by a leader that gets it. */
  #isIn = false
  /** @type {Set<(news: News, isOwn: boolean) => void>} */
  #listeners = new Set()

  /** @param {Options} [options] */
  constructor({ api = "", fetch = (...args) => globalThis.fetch(...args), sleep = sleepFor, now = Date.now, name = api, locks = null, openChannel = null } = {}) {
    this.#around = { api, fetch, now }
    this.#sleep = sleep
    this.#name = `chatstream/${VERSION} ${name}`
    this.#openChannel = openChannel
    this.#locks = locks && openChannel ? locks : null
    this.join()
  }

  /** Follow a run behind what the viewer has; the promise resolves with why that ended. */
  /** @param {string} runId @param {Viewer} viewer @returns {Promise<Failure>} */
  follow(runId, viewer) {
    return new Promise((resolve) => {
      const id = `${this.#tab}/${++this.#count}`
      const end = (/** @type {Failure} */ failure) => {
        if (!this.#views.delete(id)) return
        view.alarm?.abort()
        this.#say({ type: "drop", id })
        resolve(failure)
      }
      /** @type {View} */
      const view = { ...viewer, id, runId, stream: "", limitMs: 0, isAnswered: false, alarm: null, end }
      this.#views.set(id, view)
      viewer.signal.addEventListener("abort", () => end(lostConnection()))
      if (viewer.signal.aborted) end(lostConnection())
      else void this.#want(view)
    })
  }

  /** Say what changed, to all tabs, this one too. */
  /** @param {News} news */
  tell(news) {
    this.#say({ type: "news", news })
  }

  /** Call `listener` with all news, and whether they are of this tab. */
  /** @param {(news: News, isOwn: boolean) => void} listener */
  onNews(listener) {
    this.#listeners.add(listener)
  }

  /** Be a tab among the others, again after `leave`. */
  join() {
    if (this.#belonging) return
    const { signal } = (this.#belonging = new AbortController())
    this.#channel = this.#openChannel?.(this.#name) ?? null
    if (this.#channel) this.#channel.onmessage = ({ data }) => (this.#locks || data.type === "news") && this.#hear(data)
    if (this.#locks) void this.#belong(this.#locks, signal)
    else this.#lead()
  }

  /** Let go of everything, as a page must that the browser keeps for the way back; what is followed goes on after `join`. */
  leave() {
    this.#resign()
    this.#belonging?.abort()
    this.#belonging = null
    this.#standing?.abort()
    this.#channel?.close()
    this.#channel = null
    this.#isIn = false
    this.#leader = ""
  }

  /** @param {LockManager} locks @param {AbortSignal} signal */
  async #belong(locks, signal) {
    try {
      await locks.request(this.#lockOf(this.#tab), { signal }, () => {
        if (!this.#locks) return
        this.#isIn = true
        void this.#stand(locks)
        for (const view of this.#views.values()) void this.#want(view)
        return whenAborted(signal)
      })
    } catch {
      // Locks may be forbidden where storage is.
      if (!signal.aborted) this.#goAlone()
    }
  }

  #goAlone() {
    this.#locks = null
    this.#standing?.abort()
    this.#lead()
  }

  /** Wait for the lock of the leader, or take it from who has it. */
  /** @param {LockManager} locks @param {boolean} [steal] */
  async #stand(locks, steal = false) {
    this.#standing?.abort()
    const { signal } = (this.#standing = new AbortController())
    try {
      await locks.request(this.#lockOf("leader"), steal ? { steal } : { signal }, () => {
        if (signal.aborted) return
        this.#lead()
        return whenAborted(signal)
      })
    } catch {
      // It was taken from this tab, or never wanted any more.
    }
    if (signal.aborted) return
    this.#resign()
    void this.#stand(locks)
  }

  #lead() {
    this.#resign()
    this.#line = new Line(this.#around, (saying) => this.#say(saying))
    this.#say({ type: "leader" })
  }

  #resign() {
    this.#line?.close()
    this.#line = null
    this.#minding?.abort()
    this.#minding = null
    this.#minded.clear()
  }

  /** Ask the leader for a run; one who does not answer leads no longer. */
  /** @param {View} view */
  async #want(view) {
    const { id, runId, isSuspect, alarm } = view
    alarm?.abort()
    Object.assign(view, { stream: "", isAnswered: false, alarm: null })
    if (this.#isIn || !this.#locks) this.#say({ type: "want", id, runId, after: view.after(), isSuspect })
    if (view.isAnswered) return
    const { signal } = (view.alarm = new AbortController())
    await this.#sleep((isSuspect ? ANSWER_MS : BUSY_MS) * (1 + Math.random() / 2), signal)
    if (signal.aborted || !this.#belonging) return
    if (!this.#isIn || !this.#locks) return this.#goAlone()
    void this.#stand(this.#locks, true)
    void this.#want(view)
  }

  /** @param {any} message */
  #say(message) {
    message.tab = this.#tab
    if (this.#locks || message.type === "news") this.#channel?.postMessage(message)
    // A channel does not tell its own.
    this.#hear(message)
  }

  /** @param {any} message */
  #hear(message) {
    if (message.type === "want") this.#line?.want(this.#mind(message))
    else if (message.type === "drop") this.#line?.drop(({ id }) => id === message.id)
    else if (message.type === "news") for (const listener of this.#listeners) listener(message.news, message.tab === this.#tab)
    else if (message.type === "leader") this.#heed(message.tab)
    else if (message.tab !== (this.#leader ||= message.tab)) return
    else if (message.type === "told") this.#pass(message)
    else for (const id of message.ids) this.#answer(this.#views.get(id), message)
  }

  /** @param {string} leader */
  #heed(leader) {
    // It took the lock from this tab, which will hear of that too.
    if (leader !== this.#tab) this.#resign()
    this.#leader = leader
    for (const view of this.#views.values()) void this.#want(view)
  }

  /** @param {View | undefined} view @param {any} message */
  #answer(view, { type, stream, limitMs, failure }) {
    if (!view) return
    view.alarm?.abort()
    view.isAnswered = true
    if (type === "lost") return view.end(failure)
    view.stream = stream
    view.limitMs = limitMs
    if (stream) view.hear([], limitMs)
  }

  /** @param {{ stream: string, events: Told[] }} message */
  #pass({ stream, events }) {
    for (const view of [...this.#views.values()]) {
      if (view.stream !== stream) continue
      try {
        view.hear(events.filter(([runId]) => runId === view.runId), view.limitMs)
      } catch (error) {
        view.end(lostConnection(error))
      }
    }
  }

  /** Learn when a tab is gone: then its own lock is free. */
  /** @template {{ tab: string }} T @param {T} message @returns {T} */
  #mind(message) {
    const { tab } = message
    if (!this.#locks || tab === this.#tab || this.#minded.has(tab)) return message
    this.#minded.add(tab)
    const { signal } = (this.#minding ??= new AbortController())
    const gone = () => {
      if (signal.aborted) return
      this.#minded.delete(tab)
      this.#line?.drop((want) => want.tab === tab)
    }
    this.#locks.request(this.#lockOf(tab), { signal }, gone).catch(() => {})
    return message
  }

  /** @param {string} holder */
  #lockOf(holder) {
    return `${this.#name} ${holder}`
  }
}

/** Return a function that does `work`; asked while it does it does it once more, however often it was asked. */
/** @param {() => Promise<void>} work */
export function coalesce(work) {
  let isBusy = false
  let isAsked = false
  return async () => {
    isAsked = true
    if (isBusy) return
    isBusy = true
    while (isAsked) {
      isAsked = false
      await work()
    }
    isBusy = false
  }
}

/** @param {AbortSignal} signal @returns {Promise<void>} */
function whenAborted(signal) {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    signal.addEventListener("abort", () => resolve())
  })
}
