/**
 * A chat without a page: opens a conversation, sends, stops, edits, tries again. The server keeps the messages (the
 * stored form of `POST /api/chat`); this keeps what is shown of them, and the answer that is being written. It knows
 * fetch, but no document, so another page can be built upon it:
 *
 *     const chat = createChat({ api: "" })
 *     chat.subscribe(() => draw(chat.messages))
 *     await chat.send("Hello")
 *     await chat.send("What is this?", [{ type: "image", mediaType: "image/png", data: "(base64)" }])
 *     await chat.send("And this?", [], [{ name: "notes.txt", text: "..." }])
 *
 * A question that comes too early can wait: `enqueue` keeps it with its conversation, and it is asked by itself once the
 * answer before it has completed. After any other end it is held, for `sendQueued`: the reader may want to say something
 * else then. Only the conversation that is shown asks; the others keep what waits in them.
 *
 * What is sent is shown at once (`turns.js`). A lost connection is no error: `follow.js` takes it up where it was lost.
 * Whoever has a document calls `wake` when its tab wakes.
 */

import { Patience, createAsk, mintId, sleepFor } from "./api.js"
import { Follower } from "./follow.js"
import { createHub } from "./hub.js"
import { Shown, canContinue, contentOf, questionOf } from "./shown.js"
import { reduce } from "./transcript.js"
import { Tree } from "./tree.js"
import { Turns, newRun } from "./turns.js"

/** @typedef {import("./api.js").Failure} Failure */
/** @typedef {import("./api.js").Sleep} Sleep */
/** @typedef {import("./images.js").ImagePart} ImagePart */
/** @typedef {import("./shown.js").Message} Message */
/** @typedef {import("./shown.js").TextFile} TextFile */
/** @typedef {import("./transcript.js").Transcript} Transcript */
/** @typedef {import("./transcript.js").WireEvent} WireEvent */
/** @typedef {import("./tree.js").Run} Run */

/**
 * @typedef {object} Options
 * @property {string} [api] the server's address, "" for the page's own
 * @property {typeof globalThis.fetch} [fetch]
 * @property {Sleep} [sleep]
 * @property {() => number} [now]
 * @property {import("./hub.js").Hub} [hub] by which tabs share a connection, and tell each other what changed
 * @property {Queues} [queues] where questions wait, by conversation ("" for the new one)
 */

/** A question that waits for its turn, whose id becomes the turn's. One that `isHeld` does not go by itself. */
/** @typedef {import("./shown.js").Question & { id: string, isHeld?: boolean }} Queued */
/** @typedef {{ get: (id: string) => readonly Queued[] | undefined, set: (id: string, queue: readonly Queued[]) => unknown }} Queues */
/** @typedef {{ system: string, model: string }} Settings of a conversation */

/** @typedef {{ run: Run, follower: Follower, base: Transcript, transcript: Transcript, count: number }} Live `count` of the messages that it left */

// After this long a stop has not reached the server.
const STOP_MS = 5000

/** @type {readonly Queued[]} */
const NOTHING = []

/**
 * Create a chat.
 *
 * @param {Options} [options]
 */
export function createChat(options) {
  return new Chat(options)
}

class Chat {
  /** The model to ask where a conversation has none of its own, "" for the server's default. */
  defaultModel = ""
  /** Whether a model can be asked, as far as is known. */
  canAsk = (/** @type {string} */ _model) => true
  /** "" before the first question of a new one. */
  conversationId = ""
  title = ""
  /** @type {readonly Message[]} */
  messages = []
  isOpening = false
  /** What failed that is no answer: opening, stopping, deciding. @type {Failure | null} */
  problem = null
  /** A question that could not be asked where it was meant to be. @type {import("./shown.js").Question | null} */
  unsent = null

  /** @type {Settings} */
  #settings = { system: "", model: "" }
  #queues
  #options
  #ask
  #patience
  #turns
  #shown
  #tree = new Tree()
  #leafId = ""
  /** @type {Live | null} */
  #live = null
  /** Changes with the conversation: what was asked for another one is not for this. */
  #visit = {}
  #isLoaded = true
  /** Whether another tab changed what is shown since it was read. */
  #isStale = false
  /** @type {Set<() => void>} */
  #listeners = new Set()

  /** @param {Options} [options] */
  constructor({ api = "", fetch = (...args) => globalThis.fetch(...args), sleep = sleepFor, now = Date.now, hub = createHub({ api, fetch, sleep, now }), queues = new Map() } = {}) {
    this.#options = { hub, sleep, now }
    this.#ask = createAsk(api, fetch)
    this.#patience = new Patience(sleep)
    this.#turns = new Turns({ api, fetch, now })
    this.#shown = new Shown((id) => this.#turns.key(id))
    this.#queues = queues
  }

  get isLoading() {
    return this.#live !== null
  }

  /** What the model is told beforehand, besides what the operator says. */
  get system() {
    return this.#settings.system
  }

  /** The model to ask, "" for the server's default. */
  get model() {
    return this.lostModel ? this.defaultModel : this.#settings.model || this.defaultModel
  }

  /** The model that this conversation had, where it cannot be asked any more, else "". */
  get lostModel() {
    const { model } = this.#settings
    return model && !this.canAsk(model) ? model : ""
  }

  /** Another one for each visit of a conversation; it stays when a new one gets its id. */
  get visit() {
    return this.#visit
  }

  /** What waits to be asked. */
  get queued() {
    return this.#queues.get(this.conversationId) ?? NOTHING
  }

  /** Why the last answer failed, or null. */
  get error() {
    const last = this.messages.at(-1)
    return last?.role === "assistant" ? last.transcript.error : null
  }

  /** Call `listener` after every change; returns the way to end it. */
  /** @param {() => void} listener */
  subscribe(listener) {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Begin a new conversation; an answer that is being written goes on in its own. */
  clear() {
    this.#enter("")
    this.#notify()
  }

  /** Show a conversation; the promise resolves when it is there. */
  /** @param {string} conversationId */
  async open(conversationId) {
    this.#enter(conversationId)
    this.isOpening = true
    this.#notify()
    await this.#load()
  }

  /** The tab or the network is back: look whether the connection lives, and what others changed meanwhile. */
  wake() {
    this.#patience.wake()
    if (this.#live) this.#live.follower.wake()
    else if (this.conversationId && this.#isLoaded) void this.#load()
  }

  /** Show what another tab did, where it is shown here. */
  /** @param {import("./hub.js").News} news */
  hear({ conversationId, runId, hasEnded = false }) {
    if (conversationId !== this.conversationId || !conversationId) return
    const run = runId && this.#tree.runs.get(this.#turns.key(runId))
    if (run && (!hasEnded || run.state === "ended" || run.id === this.#live?.run.id)) return
    this.#isStale = true
    if (!this.#live && this.#isLoaded) void this.#load()
  }

  /** Ask a question; the promise resolves when its answer has ended, in whatever way. */
  /** @param {string} text @param {readonly ImagePart[]} [images] @param {readonly TextFile[]} [files] */
  async send(text, images = [], files = []) {
    await this.#beginBelow(contentOf({ text, images, files }))
  }

  /** Let a question wait until the answer that is being written has completed. */
  /** @param {string} text @param {readonly ImagePart[]} [images] @param {readonly TextFile[]} [files] */
  enqueue(text, images = [], files = []) {
    if (contentOf({ text, images, files }).length > 0) this.#setQueue([...this.queued, { id: mintId(), text, images, files }])
  }

  /** Take a question out of the queue, and return it. */
  /** @param {string} id */
  unqueue(id) {
    const question = this.queued.find((one) => one.id === id)
    if (question) this.#setQueue(this.queued.filter((one) => one !== question))
    return question ?? null
  }

  /** Ask a question that was held. */
  /** @param {string} id */
  async sendQueued(id) {
    const question = this.isLoading || this.isOpening ? null : this.unqueue(id)
    // Another tab may send it too: as the same turn it is one.
    if (question) await this.#beginBelow(contentOf(question), question.id)
  }

  /** Set the system prompt or the model of this conversation. A new one is made with them. */
  /** @param {Partial<Settings>} change */
  async configure(change) {
    const visit = this.#visit
    const before = this.#settings
    this.#settings = { ...before, ...change }
    this.#notify()
    if (!this.conversationId) return
    const { failure } = await this.#ask("PATCH", this.#path(), change)
    if (!failure) this.#options.hub.tell({ conversationId: this.conversationId })
    if (!failure || visit !== this.#visit) return
    this.#settings = before
    await this.#complain(failure)
  }

  /** Ask another question in place of this one, which stays as a branch. */
  /** @param {string} messageId @param {string} text @param {readonly ImagePart[]} [images] by default those that it has @param {readonly TextFile[]} [files] too */
  async edit(messageId, text, images, files) {
    const message = this.#find(messageId)
    if (message?.role !== "user") return
    await this.#begin(contentOf({ text, images: images ?? message.images, files: files ?? message.files }), message.parentId)
  }

  /** Ask for another answer; this one stays as a branch. */
  /** @param {string} [messageId] the answer's, the last one's by default */
  async regenerate(messageId) {
    const message = messageId ? this.#find(messageId) : this.messages.at(-1)
    if (message?.role !== "assistant") return
    await (this.#turns.get(message.lastRunId) ? this.retry() : this.#begin(null, message.parentId))
  }

  /** Go on with an answer that broke off. */
  async continue() {
    const last = this.messages.at(-1)
    if (last?.role === "assistant" && canContinue(last)) await this.#begin(null, last.lastId)
  }

  /** Ask once more where an answer failed. What the server may have taken is sent as the same turn. */
  async retry() {
    const last = this.messages.at(-1)
    if (this.isLoading || last?.role !== "assistant") return
    const turn = this.#turns.get(last.lastRunId)
    const run = this.#tree.runs.get(last.lastRunId)
    if (turn) {
      turn.run = { ...turn.run, model: this.model, state: "running", error: null }
      this.#tree.set(turn.run)
      return this.#followTail()
    }
    // It may have gone on without us.
    if (run?.isLost) return this.#load()
    await this.#begin(null, last.lastId ? last.parentId : (run?.parentId ?? ""))
  }

  /** Show another branch beside this message, and keep it as the one that is shown. */
  /** @param {string} messageId @param {number} index */
  async selectBranch(messageId, index) {
    const message = this.#find(messageId)
    const child = message && this.#tree.children(message.parentId)[index]
    if (!child) return
    this.#leave()
    this.#leafId = child.nodeId ? this.#tree.deepest(child.nodeId) : message.parentId
    this.#show()
    const leafId = this.#turns.real(this.#leafId)
    // Where this does not arrive the branch is shown all the same.
    if (this.conversationId && !this.#turns.asking(leafId)) void this.#ask("PATCH", this.#path(), { leafId })
    await this.#followTail()
  }

  /** Stop the answer that is being written. What came of it is told by the run itself, and by the server's receipt. */
  async stop() {
    const live = this.#live
    if (!live) return
    const { follower, transcript } = live
    // The server has stopped it, and only its last word does not come.
    if (transcript.isStopping) return void (transcript.receipt && follower.giveUp())
    this.problem = null
    this.#apply(live, { type: "stopping", isStopping: true })
    this.#drawLive(live)
    if (!follower.runId) follower.hurry()
    const runId = await this.#within(follower.known)
    const answer = runId ? await this.#within(this.#ask("POST", `/api/runs/${runId}/stop`, {})) : null
    if (answer?.value) this.#apply(live, { type: "receipt", receipt: answer.value })
    else if (this.#live === live && (!runId || live.transcript.retry)) follower.giveUp()
    else if (this.#live === live) {
      this.#apply(live, { type: "stopping", isStopping: false })
      this.problem = unheard("stop", answer?.failure)
    }
    this.#drawLive(live)
  }

  /** Decide on a call that waits for it. The answer goes on when all are decided. */
  /** @param {string} toolCallId @param {"approve" | "deny"} decision */
  async decide(toolCallId, decision) {
    const run = [...this.#tree.runs.values()].findLast(({ approvals }) => approvals.some(isOpen))
    if (!run || this.isLoading) return
    const visit = this.#visit
    this.problem = null
    this.#setApproval(run, toolCallId, { isSending: true })
    const path = `/api/runs/${this.#turns.real(run.id)}/approvals`
    const { value, failure } = await this.#ask("POST", path, { decisions: [{ toolCallId, decision }] })
    if (visit !== this.#visit) return
    this.#setApproval(this.#tree.runs.get(run.id) ?? run, toolCallId, failure ? { isSending: false } : { isSending: false, decision })
    if (failure) return this.#complain(unheard("decision", failure))
    this.#options.hub.tell({ conversationId: this.conversationId, runId: value.runId })
    if (!value.runId) return
    const parentId = this.#tree.lastOf(run.id)
    this.#tree.set(newRun(value.runId, parentId, run.model))
    this.#leafId = parentId
    await this.#followTail()

    /** @param {import("./tree.js").Approval} approval */
    function isOpen(approval) {
      return approval.toolCallId === toolCallId && !approval.decision && !approval.isSending
    }
  }

  /** @param {string} conversationId */
  #enter(conversationId) {
    this.#leave()
    this.#visit = {}
    this.conversationId = conversationId
    this.title = ""
    this.#settings = { system: "", model: "" }
    this.#tree = new Tree()
    this.#turns.clear()
    this.#leafId = ""
    this.#isLoaded = conversationId === ""
    this.isOpening = false
    this.problem = null
    this.#patience.failures = 0
    this.#patience.wake()
    this.messages = []
  }

  /** Look elsewhere. A run that has begun is followed on: others learn from this tab when it ends. */
  #leave() {
    if (!this.#live?.follower.runId) this.#live?.follower.leave()
    this.#live = null
  }

  /** Read the conversation, for as long as the server cannot be reached. */
  async #load() {
    const visit = this.#visit
    this.#isLoaded = false
    while (true) {
      this.#isStale = false
      const { value, failure } = await this.#ask("GET", this.#path())
      if (visit !== this.#visit) return
      if (value && !this.#live) this.#take(value)
      const isOver = !failure || this.#live || (failure.status > 0 && failure.status < 500)
      if (failure?.status === 404 && this.messages.length === 0) this.#enter("")
      this.problem = failure && !this.#live ? failure : null
      if (isOver && this.#isStale && !this.#live) continue
      if (isOver) break
      this.#notify()
      await this.#patience.wait(this.#patience.next())
      if (visit !== this.#visit) return
    }
    this.#patience.failures = 0
    this.#isLoaded = true
    this.isOpening = false
    void this.#followTail()
  }

  /** Show a conversation as the server has it, and what has not reached the server yet. */
  /** @param {any} conversation */
  #take(conversation) {
    const turns = this.#turns
    const tree = Tree.from(conversation)
    for (const { node, run } of turns.all()) {
      if (node) tree.add({ ...node, parentId: turns.real(node.parentId ?? "") })
      tree.set(node ? run : { ...run, parentId: turns.real(run.parentId ?? "") })
    }
    this.#tree = tree
    this.title = conversation.title
    this.#settings = { system: conversation.system ?? "", model: conversation.model ?? "" }
    if (!turns.asking(this.#leafId)) this.#leafId = conversation.leafId ?? ""
    if (!tree.tail(this.#leafId)) this.#leafId = tree.deepest(this.#leafId)
  }

  /** Ask below what is shown. What did not reach the server stays beside it. */
  /** @param {any[]} content @param {string} [turnId] */
  async #beginBelow(content, turnId) {
    await this.#begin(content, this.#turns.asking(this.#leafId)?.node?.parentId ?? this.#leafId, turnId)
  }

  /** Begin a turn below a message: with a question, or without for an answer to what is there. */
  /** @param {any[] | null} content @param {string} parentId @param {string} [turnId] */
  async #begin(content, parentId, turnId) {
    if (this.isLoading || this.isOpening || content?.length === 0) return
    const { node, run } = this.#turns.begin(this.conversationId, content, parentId, this.model, turnId)
    if (node) this.#tree.add(node)
    this.#tree.set(run)
    this.#leafId = run.parentId ?? ""
    this.problem = null
    await this.#followTail()
  }

  /** Follow the run at the end of what is shown, if it is running, to its end. */
  async #followTail() {
    const run = this.#tree.tail(this.#leafId)
    if (run?.state !== "running" || this.#live) return this.#show()
    this.#show()
    const last = this.messages.at(-1)
    if (last?.role !== "assistant") return
    const turn = this.#turns.get(run.id)
    const around = {
      ...this.#options,
      apply: (/** @type {WireEvent} */ event) => this.#apply(live, event),
      changed: () => this.#drawLive(live),
    }
    const visit = this.#visit
    const onConversation = (/** @type {string} */ id) => {
      if (visit !== this.#visit) return
      const waiting = this.queued
      if (waiting.length > 0) this.#setQueue(NOTHING)
      this.conversationId = id
      if (waiting.length > 0) this.#setQueue(waiting)
      this.#notify()
    }
    const begin = turn && ((/** @type {AbortSignal} */ signal) => this.#turns.request(turn, signal, onConversation, { system: this.system, model: this.model }))
    const home = this.conversationId
    const tell = (/** @type {string} */ runId, hasEnded = false) => this.#options.hub.tell({ conversationId: turn?.conversationId || home, runId, hasEnded })
    const follower = new Follower(around, turn ? "" : this.#turns.real(run.id), begin)
    void follower.known.then((runId) => turn && runId && tell(runId))
    /** @type {Live} */
    const live = { run, follower, base: last.base, transcript: last.transcript, count: 0 }
    this.#live = live
    this.#notify()
    const failure = await follower.run()
    if (this.#live === live) this.#settle(live, failure)
    if (follower.hasEnded) tell(follower.runId, true)
  }

  /** Note how a run ended: by itself, or by a failure to follow it. */
  /** @param {Live} live @param {Failure | null} failure */
  #settle(live, failure) {
    if (failure?.status === 409) return this.#withdraw(live, failure)
    const turn = this.#turns.get(live.run.id)
    // Only a reader who stops gives up what cannot be reached.
    if (failure?.status === 0 && live.transcript.receipt) this.#apply(live, { type: "done", outcome: "stopped" })
    else if (failure) this.#apply(live, { ...failure, type: "error", ...(failure.status === 0 && { code: "unreachable" }), ...(failure.status === 404 && !turn && { message: "" }) })
    const { outcome, finishReason, usage, timing, error, parts, messages } = live.transcript
    const run = { ...live.run, outcome, finishReason, usage, timing, error, approvals: parts.flatMap(approvalOf), notices: parts.flatMap((part) => (part.kind === "notice" && part.lasting ? [part] : [])), isLost: failure !== null && !turn }
    live.run = { ...run, state: "ended" }
    live.count = failure ? 0 : (messages ?? []).length
    this.#leafId = this.#tree.keep(live.run, failure ? [] : (messages ?? []))
    this.#tree.set(live.run)
    if (turn && failure) {
      turn.run = live.run
      // What was refused was not taken, so it may be another turn, of another model.
      if (failure.status > 0) turn.body = turn.turnId = ""
    }
    this.#live = null
    this.#drawLive(live)
    const [next] = this.queued
    if (outcome === "completed" && !failure && next && !next.isHeld) void this.sendQueued(next.id)
    if (this.#isStale && !this.#live) void this.#load()
  }

  /** The conversation has changed meanwhile: show how, and give back what was written. */
  /** @param {Live} live @param {Failure} failure */
  #withdraw(live, failure) {
    const node = this.#turns.get(live.run.id)?.node ?? null
    this.unsent = node && questionOf(node)
    this.#turns.drop(live.run.id)
    this.#live = null
    this.#leafId = ""
    void this.#load().then(() => this.#complain(failure))
  }

  /** @param {Live} live @param {WireEvent} event */
  #apply(live, event) {
    if (event.type === "start") {
      live.run = { ...live.run, messageId: event.messageId ?? "" }
      this.#turns.confirm(live.run.id, event)
    }
    live.transcript = reduce(live.transcript, { ...event, at: this.#options.now(), base: live.base })
  }

  /** Show what is new of an answer: the last one alone while it is written. */
  /** @param {Live} live */
  #drawLive(live) {
    const last = this.messages.at(-1)
    if (this.#live === live && last?.role === "assistant") {
      this.messages = this.messages.with(-1, { ...last, transcript: live.transcript })
      return this.#notify()
    }
    if (live.run.state !== "ended" || !this.#tree.runs.has(live.run.id)) return
    this.#shown.note(live.run, live.count, live.base, live.transcript)
    this.#show()
  }

  #show() {
    this.messages = this.#shown.messages(this.#tree, this.#leafId)
    if (this.#live) this.#drawLive(this.#live)
    else this.#notify()
  }

  /** @param {Run} run @param {string} toolCallId @param {Partial<import("./tree.js").Approval>} change */
  #setApproval(run, toolCallId, change) {
    const approvals = run.approvals.map((one) => (one.toolCallId === toolCallId ? { ...one, ...change } : one))
    const changed = { ...run, approvals }
    this.#tree.set(changed)
    this.#shown.decide(changed, { type: "decision", ...approvals.find((one) => one.toolCallId === toolCallId) })
    this.#show()
  }

  /** Say what failed; where others were faster, show what they did. */
  /** @param {Failure} failure */
  async #complain(failure) {
    if (failure.status === 404 || failure.status === 409) await this.#load()
    this.problem = failure
    this.#notify()
  }

  /** @template T @param {Promise<T>} promise @returns {Promise<T | null>} null where it takes too long */
  async #within(promise) {
    const timer = new AbortController()
    const late = this.#options.sleep(STOP_MS, timer.signal).then(() => null)
    const first = await Promise.race([promise, late])
    timer.abort()
    return first
  }

  /** @param {readonly Queued[]} queue */
  #setQueue(queue) {
    this.#queues.set(this.conversationId, queue)
    this.#notify()
  }

  #path() {
    return `/api/conversations/${encodeURIComponent(this.conversationId)}`
  }

  /** @param {string} messageId */
  #find(messageId) {
    return this.messages.find(({ id }) => id === messageId)
  }

  #notify() {
    for (const listener of this.#listeners) listener()
  }
}

/** Say of what did not reach the server what it was; nothing will try it again. */
/** @param {string} code @param {Failure | null} [failure] @returns {Failure} */
function unheard(code, failure) {
  return failure && failure.status > 0 ? failure : { code, message: "", retryable: true, status: 0 }
}

/** @param {import("./transcript.js").Part} part @returns {import("./tree.js").Approval[]} */
function approvalOf(part) {
  if (part.kind !== "tool" || part.state !== "waiting") return []
  return [{ toolCallId: part.id, toolName: part.name, input: part.input, wants: part.wants, decision: null }]
}
