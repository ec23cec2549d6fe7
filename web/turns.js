/**
 * The turns that begin here. A turn is shown at once under names of our own; its id goes with each try, so that however
 * often it is sent there is one run. Once the run has begun the server's names are known, and the turn is the server's.
 */

import { mintId } from "./api.js"

/** @typedef {import("./tree.js").Node} Node */
/** @typedef {import("./tree.js").Run} Run */
/** @typedef {{ api: string, fetch: typeof globalThis.fetch, now: () => number }} Around */

/**
 * A question, or without one the wish for another answer, that the server has not confirmed. `body` is made with the
 * first try and kept for those that follow.
 *
 * @typedef {{ node: Node | null, run: Run, body: string, conversationId: string, turnId: string }} Turn
 */

export class Turns {
  #around
  /** By our name of their run. @type {Map<string, Turn>} */
  #open = new Map()
  /** The server's names for ours, and ours for the server's. @type {Map<string, string>} */
  #real = new Map()
  /** @type {Map<string, string>} */
  #ours = new Map()

  /** @param {Around} around */
  constructor(around) {
    this.#around = around
  }

  /** @param {string} conversationId "" where it is still to be made @param {any[] | null} content of the question @param {string} parentId @param {string} model @param {string} [turnId] "" where one is minted */
  begin(conversationId, content, parentId, model, turnId = "") {
    const id = mintId()
    const createdAt = new Date(this.#around.now()).toISOString()
    const node = content && { id: `question-${id}`, parentId, role: "user", content, runId: null, createdAt }
    const turn = { node, run: { ...newRun(`answer-${id}`, node?.id ?? parentId, model), createdAt }, body: "", conversationId, turnId }
    this.#open.set(turn.run.id, turn)
    return turn
  }

  /** Send a turn, again or for the first time, and before the first of all make its conversation. */
  /** @param {Turn} turn @param {AbortSignal} signal @param {(id: string) => void} onConversation @param {import("./chat.js").Settings} settings of a new one */
  async request(turn, signal, onConversation, { system, model }) {
    if (!turn.conversationId) {
      const response = await this.#post("/api/conversations", JSON.stringify({ ...(system && { system }), ...(model && { model }) }), signal)
      if (!response.ok) return response
      turn.conversationId = (await response.json()).id
      onConversation(turn.conversationId)
    }
    const { node, run, conversationId } = turn
    turn.body ||= JSON.stringify({
      conversationId,
      turnId: turn.turnId || mintId(),
      parentId: this.real((node ?? run).parentId ?? "") || null,
      ...(node && { message: node.content }),
      ...(run.model && { model: run.model }),
    })
    return this.#post("/api/chat", turn.body, signal, { Prefer: "respond-async" })
  }

  /** Learn what the server calls a turn that began here. */
  /** @param {string} runId our name of it @param {import("./transcript.js").WireEvent} start */
  confirm(runId, start) {
    const turn = this.#open.get(runId)
    this.#open.delete(runId)
    for (const [ours, theirs] of turn ? [[runId, start.runId], [turn.node?.id, start.parentId]] : []) {
      if (!ours || !theirs) continue
      this.#real.set(ours, theirs)
      this.#ours.set(theirs, ours)
    }
  }

  /** Return the turn of a run if it is not confirmed. */
  /** @param {string} runId */
  get(runId) {
    return this.#open.get(runId)
  }

  /** Return the turn of a question if it is not confirmed. */
  /** @param {string} nodeId */
  asking(nodeId) {
    return this.all().find(({ node }) => node?.id === nodeId)
  }

  all() {
    return [...this.#open.values()]
  }

  /** @param {string} runId */
  drop(runId) {
    this.#open.delete(runId)
  }

  clear() {
    this.#open.clear()
  }

  /** Return the server's name. */
  /** @param {string} id */
  real(id) {
    return this.#real.get(id) ?? id
  }

  /** Return the name under which something is shown, which stays. */
  /** @param {string} id */
  key(id) {
    return this.#ours.get(id) ?? id
  }

  /** @param {string} path @param {string} body @param {AbortSignal} signal @param {Record<string, string>} [headers] */
  #post(path, body, signal, headers = {}) {
    const { api, fetch } = this.#around
    return fetch(`${api}${path}`, { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body, signal })
  }
}

/** @param {string} id @param {string} parentId @param {string} model @returns {Run} */
export function newRun(id, parentId, model) {
  const nothing = { messageId: "", outcome: null, finishReason: null, usage: null, error: null, approvals: [], createdAt: "" }
  return { ...nothing, id, parentId, model, state: "running" }
}
