/**
 * Makes of a tree what the reader sees: the questions and answers on the way to a leaf. All that was said between two
 * questions is one answer, however many messages it is stored as, and so is a run that goes on where another paused or
 * broke off, unless something else was said there too.
 */

import { EMPTY, eventsOf, reduce } from "./transcript.js"

/** @typedef {import("./tree.js").Tree} Tree */
/** @typedef {import("./tree.js").Node} Node */
/** @typedef {import("./tree.js").Run} Run */
/** @typedef {import("./transcript.js").Transcript} Transcript */
/** @typedef {{ index: number, count: number }} Branches which one this is, from 0, of how many beside each other */
/** @typedef {{ name: string, text: string }} TextFile */
/** @typedef {{ text: string, images: readonly import("./images.js").ImagePart[], files: readonly TextFile[] }} Question */
/** @typedef {Question & { id: string, key: string, role: "user", parentId: string, branches: Branches, createdAt: string }} UserMessage */
/**
 * @typedef {object} AssistantMessage
 * @property {string} id the run that began it
 * @property {string} key stays when the server names what was shown before
 * @property {"assistant"} role
 * @property {string} parentId the message that it answers
 * @property {Branches} branches
 * @property {string} createdAt
 * @property {Transcript} transcript
 * @property {Transcript} base what `transcript` was before its last run
 * @property {string} lastRunId
 * @property {string} lastId the last message of its last run, "" where that has none
 */
/** @typedef {UserMessage | AssistantMessage} Message */
/** @typedef {{ parentId: string, run: Run, nodes: Node[] }} Step */

// Stands in for the run of messages that name none.
const NO_RUN = { outcome: "completed", finishReason: null, usage: null, error: null, approvals: [], state: "ended", model: "" }

export class Shown {
  /** What was made of a run before: it keeps what is not stored, such as how long a tool took. */
  /** @type {Map<string, { of: string, count: number, base: Transcript, transcript: Transcript }>} */
  #made = new Map()
  /** What was shown last, by key. @type {Map<string, Message>} */
  #last = new Map()
  #keyOf

  /** @param {(id: string) => string} keyOf the name under which something is shown, which stays */
  constructor(keyOf) {
    this.#keyOf = keyOf
  }

  /**
   * Return the messages on the way to `leafId`, and the run there if it has left none.
   *
   * @param {Tree} tree
   * @param {string} leafId
   * @returns {Message[]}
   */
  messages(tree, leafId) {
    /** @type {Message[]} */
    const shown = []
    /** @type {Step | null} */
    let step = null
    const end = () => {
      if (step) this.#answer(tree, shown, step)
      step = null
    }
    for (const node of tree.path(leafId)) {
      const parentId = node.parentId ?? ""
      if (node.role !== "user") {
        if (step?.run.id !== (node.runId ?? node.id)) end()
        step ??= { parentId, run: runOf(tree, node), nodes: [] }
        step.nodes.push(node)
        continue
      }
      end()
      // What failed before the reader went on is no branch, and is still there to read.
      this.#attempt(tree, shown, parentId, false)
      const branches = branchesOf(tree, parentId, ({ nodeId }) => nodeId === node.id)
      shown.push({ id: node.id, key: this.#keyOf(node.id), role: "user", ...questionOf(node), parentId, branches, createdAt: node.createdAt })
    }
    end()
    this.#attempt(tree, shown, leafId, true)
    return this.#settle(shown)
  }

  /** Return what was shown before where nothing of it is new: a view compares by identity. */
  /** @param {Message[]} shown */
  #settle(shown) {
    const settled = shown.map((message) => {
      const last = this.#last.get(message.key)
      return last && isSame(last, message) ? last : message
    })
    this.#last = new Map(settled.map((message) => [message.key, message]))
    return settled
  }

  /** Note how a run looked while it was live. */
  /** @param {Run} run @param {number} count of its messages @param {Transcript} base @param {Transcript} transcript */
  note(run, count, base, transcript) {
    this.#made.set(this.#keyOf(run.id), { of: summary(run, count), count, base, transcript })
  }

  /** Note a decision: the rest of what is known of the run stays. */
  /** @param {Run} run @param {import("./transcript.js").WireEvent} event */
  decide(run, event) {
    const made = this.#made.get(this.#keyOf(run.id))
    if (made) this.note(run, made.count, made.base, reduce(made.transcript, event))
  }

  /** Show the run that left nothing here, if there is one and it is at its place: the last, or in between. */
  /** @param {Tree} tree @param {Message[]} shown @param {string} parentId @param {boolean} isLast */
  #attempt(tree, shown, parentId, isLast) {
    const run = parentId && tree.tail(parentId)
    if (!run || tree.children(parentId).some(({ runId }) => runId === run.id) !== isLast) return
    this.#answer(tree, shown, { parentId, run, nodes: [] })
  }

  /** @param {Tree} tree @param {Message[]} shown @param {Step} step */
  #answer(tree, shown, step) {
    const { run, parentId, nodes } = step
    const last = shown.at(-1)
    const isJoined = last?.role === "assistant" && tree.children(parentId).length < 2
    const base = isJoined ? last.transcript : EMPTY
    const ends = { base, transcript: this.#transcript(step, base), lastRunId: run.id, lastId: nodes.at(-1)?.id ?? "" }
    if (isJoined) return void (shown[shown.length - 1] = { ...last, ...ends })
    const branches = branchesOf(tree, parentId, ({ nodeId, runId }) => runId === run.id || nodeId === run.id)
    shown.push({ id: run.id, key: this.#keyOf(run.id), role: "assistant", parentId, branches, createdAt: run.createdAt, ...ends })
  }

  /** @param {Step} step @param {Transcript} base */
  #transcript({ run, nodes }, base) {
    if (run.state === "running") return reduce(base, { type: "begin" })
    const made = this.#made.get(this.#keyOf(run.id))
    if (made?.of === summary(run, nodes.length) && made.base === base) return made.transcript
    const transcript = eventsOf(run, nodes).reduce(reduce, base)
    this.note(run, nodes.length, base, transcript)
    return transcript
  }
}

/** What a question says never changes. */
const CHANGING = ["id", "parentId", "createdAt", "transcript", "base", "lastRunId", "lastId"]

/** @param {any} one @param {any} other */
function isSame(one, other) {
  const isBeside = one.branches.index === other.branches.index && one.branches.count === other.branches.count
  return isBeside && CHANGING.every((name) => one[name] === other[name])
}

/** Of an ended run these can still change: decisions are made, and expire. */
/** @param {Run} run @param {number} count */
function summary({ outcome, error, approvals }, count) {
  return JSON.stringify([error?.code ?? outcome, count, approvals.map(({ decision, isSending }) => [decision, Boolean(isSending)])])
}

/** @param {Tree} tree @param {Node} node @returns {Run} */
function runOf(tree, { id, runId, parentId, createdAt }) {
  const known = tree.runs.get(runId ?? "")
  return known ?? /** @type {Run} */ ({ ...NO_RUN, id: runId ?? id, messageId: id, parentId, createdAt })
}

/** @param {Tree} tree @param {string} parentId @param {(child: import("./tree.js").Child) => boolean} isIt @returns {Branches} */
function branchesOf(tree, parentId, isIt) {
  const children = tree.children(parentId)
  return { index: children.findIndex(isIt), count: children.length }
}

/** Return the content of a question: what it is about first, which models read best. */
/** @param {Question} question */
export function contentOf({ text, images, files }) {
  return [...images, ...files.map(toPart), ...(text.trim() ? [{ type: "text", text }] : [])]
}

/** @param {{ content: any }} message @returns {Question} */
export function questionOf({ content }) {
  if (typeof content === "string") return { text: content, images: [], files: [] }
  /** @type {TextFile[]} */
  const files = []
  const texts = content.map((/** @type {any} */ part) => {
    const file = toFile(part.text ?? "")
    return file ? files.push(file) && "" : (part.text ?? "")
  })
  return { text: texts.join(""), images: content.filter((/** @type {any} */ part) => part.type === "image"), files }
}

/** A text file is a part of its own, marked so that a model knows where it ends: what looks like its end within it is not. */
/** @param {TextFile} file */
function toPart({ name, text }) {
  const inside = text.replace(/<(\\*\/file>)/gi, "<\\$1")
  return { type: "text", text: `<file name="${name.replace(/["<>\p{Cc}]/gu, "_")}">\n${inside}\n</file>` }
}

/** @param {string} part */
function toFile(part) {
  const [, name, inside] = /^<file name="([^"<>\n]*)">\n([^]*)\n<\/file>$/.exec(part) ?? []
  if (name === undefined || /<\/file>/i.test(inside)) return null
  return { name, text: inside.replace(/<\\(\\*\/file>)/gi, "<$1") }
}

const CAN_GO_ON = new Set(["stopped", "interrupted", "limit"])

/**
 * Return true for an answer that broke off and can go on from where it did.
 *
 * @param {Message} message
 */
export function canContinue(message) {
  if (message.role !== "assistant" || message.transcript.status !== "done" || message.lastId === "") return false
  return CAN_GO_ON.has(message.transcript.outcome) || message.transcript.finishReason === "length"
}
