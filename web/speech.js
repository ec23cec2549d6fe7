/** Reads out an answer while it is written, by whole sentences and never by fragments. */

import { texts } from "./texts.js"

/** @typedef {import("./tokens.js").Tree} Tree */

// A voice is slower than a model: what comes meanwhile is said together.
const PAUSE_MS = 2500

/** The blocks of which a first part can be said, because it will not be something else when they are complete. */
const PROSE = new Set(["p", "ul", "ol", "blockquote"])

/** @type {Record<string, string>} */
const ENDS = { br: "\n", p: "\n", li: "\n", tr: "\n", td: ", ", th: ", " }

/** Reads out a text while it is written. */
export class Reader {
  #announce
  #now
  #lastMs = -Infinity
  /** How many blocks were said, and how many characters of the one behind them. */
  #blocks = 0
  #characters = 0

  /** @param {(text: string) => void} announce @param {() => number} [now] */
  constructor(announce, now = () => performance.now()) {
    this.#announce = announce
    this.#now = now
  }

  /** Say what is complete and new, if it is time; at the end say all that is left. */
  /** @param {readonly Tree[]} blocks @param {number} settled how many of them will not change @param {boolean} isEnd */
  read(blocks, settled, isEnd) {
    const now = this.#now()
    if (!isEnd && now - this.#lastMs < PAUSE_MS) return
    const open = blocks[settled]
    const begun = open && typeof open !== "string" && PROSE.has(open.tag) ? sentences(spoken(open)) : ""
    const whole = blocks.slice(this.#blocks, settled).map((block) => spoken(block).trim())
    const text = [...whole, begun].join("\n").slice(this.#characters).trim()
    if (text === "") return
    this.#blocks = settled
    this.#characters = begun.length
    this.#lastMs = now
    this.#announce(text)
  }
}

/** Return what of an unfinished text are whole sentences. */
/** @param {string} text */
export function sentences(text) {
  return /^[^]*(?:[.!?\u2026:]["'\u201d\u2019)\]]*(?=\s)|[\u3002\uff01\uff1f])/.exec(text)?.[0] ?? ""
}

/** Return a block as it is said: nobody listens to code. */
/** @param {Tree} tree @returns {string} */
export function spoken(tree) {
  if (typeof tree === "string") return tree
  if (tree.tag === "code-block") return texts.codeSpoken(tree.attrs.info, tree.children.join("").split("\n").length)
  const inside = tree.children.map(spoken).join("")
  return tree.attrs.class === "host" ? ` (${inside})` : inside + (ENDS[tree.tag] ?? "")
}
