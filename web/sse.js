/**
 * Splits a stream of bytes into server-sent events.
 *
 *     stream  = [ bom ] *event
 *     event   = *( comment / field ) end-of-line
 *     comment = ":" *any-char end-of-line
 *     field   = name [ ":" [ space ] *any-char ] end-of-line
 *     end-of-line = CR LF / LF / CR
 *
 * The frames do not depend on how the bytes are cut. What follows the last blank line is an unfinished event and is
 * dropped, as https://html.spec.whatwg.org/multipage/server-sent-events.html says. This module knows no fetch.
 */

/** @typedef {{ id: string, event: string, data: string }} Frame */

/**
 * Create a parser that calls `onFrame` for every whole event, and `onId` for a block that names an id and no data: to the
 * standard that is no event, to us a number that is accounted for.
 *
 * @param {(frame: Frame) => void} onFrame
 * @param {(id: string, event: string) => void} [onId]
 */
export function createParser(onFrame, onId) {
  return new Parser(onFrame, onId)
}

class Parser {
  #onFrame
  #onId
  /** Holds back a character that is cut in two, and drops one BOM at the start of the stream. */
  #decoder = new TextDecoder()
  /** Pieces of a line whose end has not come. Joined once: adding to one string per chunk is quadratic. */
  /** @type {string[]} */
  #pieces = []
  /**
   * A CR ends its line at once, so that an event is not held until the next chunk; the LF of a CR LF that was cut
   * between the two must then not count as a second, empty line.
   */
  #skipLineFeed = false
  /** @type {string[]} */
  #data = []
  #event = ""
  /** Not reset by an event: it is the id that a reconnecting client sends. */
  #id = ""
  #hasId = false

  /** @param {(frame: Frame) => void} onFrame @param {(id: string, event: string) => void} [onId] */
  constructor(onFrame, onId) {
    this.#onFrame = onFrame
    this.#onId = onId
  }

  /** @param {Uint8Array} bytes */
  feed(bytes) {
    this.#split(this.#decoder.decode(bytes, { stream: true }))
  }

  /** End the input: an event without its blank line is dropped. */
  end() {
    this.#split(this.#decoder.decode())
    this.#pieces = []
    this.#data = []
    this.#event = ""
  }

  /** @param {string} text */
  #split(text) {
    let start = this.#skipLineFeed && text[0] === "\n" ? 1 : 0
    if (text !== "") this.#skipLineFeed = false
    const ends = /\r\n|\r|\n/g
    ends.lastIndex = start
    for (let end = ends.exec(text); end; end = ends.exec(text)) {
      this.#pieces.push(text.slice(start, end.index))
      const line = this.#pieces.length === 1 ? this.#pieces[0] : this.#pieces.join("")
      this.#pieces = []
      start = ends.lastIndex
      this.#skipLineFeed = end[0] === "\r" && start === text.length
      this.#readLine(line)
    }
    if (start < text.length) this.#pieces.push(text.slice(start))
  }

  /** @param {string} line */
  #readLine(line) {
    if (line === "") return this.#dispatch()
    const colon = line.indexOf(":")
    const name = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1))
    if (name === "data") this.#data.push(value)
    else if (name === "event") this.#event = value
    else if (name === "id" && !value.includes("\0")) {
      this.#id = value
      this.#hasId = true
    }
  }

  #dispatch() {
    if (this.#data.length > 0) this.#onFrame({ id: this.#id, event: this.#event || "message", data: this.#data.join("\n") })
    else if (this.#hasId) this.#onId?.(this.#id, this.#event)
    this.#hasId = false
    this.#data = []
    this.#event = ""
  }
}
