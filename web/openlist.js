/**
 * A list that is still being written: its items but the last two are done, and are not read again for each word that
 * comes. They are not settled (a blank line between two later items makes all of them loose), so at its end the list is
 * read once more as a whole.
 */

import { level, toTrees } from "./tokens.js"

/** @typedef {import("./tokens.js").Tree} Tree */
/** @typedef {import("./tokens.js").TreeElement} TreeElement */
/** @typedef {import("./tokens.js").Token} Token */

const BULLET = /^ {0,3}([-+*]|\d{1,9}[.)])/
const OPEN_ITEMS = 2

export class OpenList {
  /** How much of the source is done. */
  length = 0
  /** What stands for it when the rest is read: an item that makes the others loose, if they are. */
  lead = ""
  /** @type {Tree[]} */
  #done = []
  #list
  #headings

  /** @param {TreeElement} list @param {number[]} headings the depths of those it stands under */
  constructor(list, headings) {
    this.#list = list
    this.#headings = headings
  }

  /**
   * Return the list that `tokens` are, or null where they are none, or not one that is worth the trouble.
   *
   * @param {Token[]} tokens
   * @param {Tree} tree what was made of it
   * @param {number[]} headings
   */
  static of(tokens, tree, headings) {
    const token = onlyList(tokens)
    if (!token || token.items.length <= OPEN_ITEMS + 1 || typeof tree === "string") return null
    const list = new OpenList(tree, [...headings])
    list.#take(token, tree.children)
    if (token.loose) list.lead = `${BULLET.exec(token.raw)?.[1]} .\n\n`
    return list
  }

  /** Return the whole list, of which `tokens` are what `lead` and the rest of the source became; null where it is another now. */
  /** @param {Token[]} tokens @returns {TreeElement | null} */
  next(tokens) {
    const token = onlyList(tokens)
    if (!token || (token.loose && !this.lead)) return null
    if (this.lead) token.items.shift()
    const tree = toTrees([token])[0]
    if (typeof tree === "string" || tree.tag !== this.#list.tag) return null
    const open = this.#take(token, tree.children)
    const headings = [...this.#headings]
    open.forEach((item) => level(item, headings))
    return { ...this.#list, children: [...this.#done, ...open] }
  }

  /** Take the items that are done; return the others. */
  /** @param {import("./tokens.js").AnyToken} token @param {Tree[]} items */
  #take(token, items) {
    const count = Math.max(0, items.length - OPEN_ITEMS)
    for (const item of items.slice(0, count)) level(item, this.#headings)
    for (const { raw } of token.items.slice(0, count)) this.length += raw.length
    this.#done.push(...items.slice(0, count))
    return items.slice(count)
  }
}

/** @param {Token[]} tokens @returns {import("./tokens.js").AnyToken | null} */
function onlyList(tokens) {
  const blocks = tokens.filter(({ type }) => type !== "space")
  return blocks.length === 1 && blocks[0].type === "list" ? blocks[0] : null
}
