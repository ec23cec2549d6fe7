/**
 * The messages of a conversation as the tree that they are. Nothing is ever taken away or changed: edit and regenerate
 * add a child beside another. What is shown is the path from the root to a leaf.
 *
 * A run adds a chain of messages (assistant, tool, assistant, ...) below the message that it answers, all at once when
 * it ends. Until then, and where it ended with nothing to keep, it stands at its place without any: a `tail`.
 */

/** @typedef {import("./transcript.js").WireMessage} WireMessage */
/** @typedef {{ id: string, parentId: string | null, role: string, content: any, runId: string | null, createdAt: string }} Node */
/** @typedef {{ toolCallId: string, toolName: string, input: any, wants: string, expiresAt?: string, decision: string | null, isSending?: boolean }} Approval */
/**
 * @typedef {object} Run
 * @property {string} id
 * @property {string | null} parentId the message that it answers
 * @property {string} messageId the first message that it adds
 * @property {string} model
 * @property {"running" | "ended"} state
 * @property {string | null} outcome
 * @property {string | null} finishReason
 * @property {any} usage
 * @property {import("./transcript.js").Timing | null} [timing]
 * @property {Record<string, number>} [toolDurations] in ms, by the calls' ids
 * @property {import("./transcript.js").Failure | null} error
 * @property {Approval[]} approvals
 * @property {{ code: string, message: string }[]} [notices]
 * @property {string} createdAt
 * @property {boolean} [isLost] whether it was followed no further, and may go on
 */
/** @typedef {{ nodeId: string, runId: string }} Child a message with the run that made it; one of the two may be "" */

export class Tree {
  /** @type {Map<string, Node>} */
  nodes = new Map()
  /** @type {Map<string, Run>} */
  runs = new Map()
  /** @type {Map<string, Node[]>} */
  #below = new Map()
  /** The last run that answers a message. @type {Map<string, Run>} */
  #answering = new Map()
  /** The runs that left messages. @type {Set<string>} */
  #kept = new Set()
  /** When something was added, in steps and not by a clock: there are two, the server's and this one's. @type {Map<string, number>} */
  #added = new Map()

  /** Return the tree of a conversation as the server tells it. */
  /** @param {{ messages: Node[], runs: Run[] }} conversation */
  static from({ messages, runs }) {
    const tree = new Tree()
    const all = [...messages, ...runs].sort((one, other) => (one.createdAt < other.createdAt ? -1 : Number(one.createdAt > other.createdAt)))
    for (const one of all) "role" in one ? tree.add(one) : tree.set(one)
    return tree
  }

  /** @param {Node} node */
  add(node) {
    if (this.nodes.has(node.id)) return
    this.nodes.set(node.id, node)
    this.#added.set(node.id, this.#added.size)
    const siblings = this.#below.get(node.parentId ?? "")
    if (siblings) siblings.push(node)
    else this.#below.set(node.parentId ?? "", [node])
    if (node.runId) this.#kept.add(node.runId)
  }

  /** Add a run, or what is new of it. */
  /** @param {Run} run */
  set(run) {
    const parentId = run.parentId ?? ""
    if (!this.runs.has(run.id)) this.#added.set(run.id, this.#added.size)
    if (!this.runs.has(run.id) || this.#answering.get(parentId)?.id === run.id) this.#answering.set(parentId, run)
    this.runs.set(run.id, run)
  }

  /** Add what a run left, under the ids that the server gives them. */
  /** @param {Run} run @param {readonly WireMessage[]} messages @returns the id of the last one, or of what the run answers */
  keep(run, messages) {
    let parentId = run.parentId
    for (const [index, { role, content }] of messages.entries()) {
      const id = index === 0 ? run.messageId : `${run.messageId}_${index + 1}`
      this.add({ id, parentId, role, content, runId: run.id, createdAt: run.createdAt })
      parentId = id
    }
    return parentId ?? ""
  }

  /** Return the last message of a run, "" where it left none. */
  /** @param {string} runId */
  lastOf(runId) {
    return [...this.nodes.values()].findLast((node) => node.runId === runId)?.id ?? ""
  }

  /** Return the messages from the root to `leafId`. */
  /** @param {string} leafId */
  path(leafId) {
    const path = []
    for (let node = this.nodes.get(leafId); node; node = this.nodes.get(node.parentId ?? "")) path.push(node)
    return path.reverse()
  }

  /** Return the last run at a message if it has left no message (yet). */
  /** @param {string} parentId */
  tail(parentId) {
    const run = this.#answering.get(parentId)
    return run && !this.#kept.has(run.id) ? run : null
  }

  /** Return what there is to choose from below a message. An attempt that came to nothing goes when another follows. */
  /** @param {string} parentId @returns {Child[]} */
  children(parentId) {
    const nodes = this.#below.get(parentId) ?? []
    const children = nodes.map(({ id, runId }) => ({ nodeId: id, runId: runId ?? "" }))
    const tail = this.tail(parentId)
    const isLast = tail && (tail.state === "running" || nodes.every(({ id }) => this.#order(id) < this.#order(tail.id)))
    return isLast ? [...children, { nodeId: "", runId: tail.id }] : children
  }

  /** Return the newest leaf below a message, always by the newest child. */
  /** @param {string} nodeId */
  deepest(nodeId) {
    let id = nodeId
    for (let next = this.children(id).at(-1); next?.nodeId; next = this.children(id).at(-1)) id = next.nodeId
    return id
  }

  /** @param {string} id */
  #order(id) {
    return this.#added.get(id) ?? 0
  }
}
