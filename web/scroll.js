/**
 * Keeps the end of the answer in view until the reader goes elsewhere. What the reader does decides, and never where the
 * layout happens to be: images, fonts, folding, a window or a phone's keyboard that changes its size move it as well.
 *
 *                 leave     press     release      arrive       jump
 *     following   away      held                                following
 *     held        away                following                 following
 *     away                                         following    following
 *
 * leave    the wheel, a finger, a key or the scrollbar goes up, something is selected, unfolded or found
 * press    a finger or the mouse is down: nothing moves beneath it until its release
 * arrive   the reader comes down to the end
 * jump     the reader asks, or presses the button that leads to the end
 *
 * Not every way to scroll can be heard (find in page, screen readers). But `top` is noted after each change of the
 * layout, so a scroll event that tells of another one tells of the reader.
 */

import { texts } from "./texts.js"

/** @typedef {"following" | "held" | "away"} State */
/** @typedef {"leave" | "press" | "release" | "arrive" | "jump"} Action */

/** @type {Record<State, Partial<Record<Action, State>>>} */
const TABLE = {
  following: { leave: "away", press: "held" },
  held: { leave: "away", release: "following", jump: "following" },
  away: { arrive: "following", jump: "following" },
}

// Within this of the end counts as being there: trackpads and zoom leave fractions.
const NEAR = 24

const UP_KEYS = new Set(["ArrowUp", "PageUp", "Home"])

/**
 * Return the state after an action; one that means nothing there leaves it as it is.
 *
 * @param {State} state
 * @param {Action} action
 * @returns {State}
 */
export function next(state, action) {
  return TABLE[state][action] ?? state
}

/**
 * Follow the end of `content` inside `scroller`; `button` jumps there.
 *
 * @param {HTMLElement} scroller
 * @param {HTMLElement} content
 * @param {HTMLElement} button
 */
export function followScroll(scroller, content, button) {
  const follower = new Follower(scroller, button)
  listen(scroller, content, follower)
  button.addEventListener("click", () => follower.act("jump"))
  const observer = new ResizeObserver(() => follower.settle())
  observer.observe(content)
  observer.observe(scroller)
  return follower
}

class Follower {
  #scroller
  #button
  /** @type {State} */
  #state = "following"
  #top = 0

  /** @param {HTMLElement} scroller @param {HTMLElement} button */
  constructor(scroller, button) {
    this.#scroller = scroller
    this.#button = button
  }

  /** @param {Action} action */
  act(action) {
    if (action === "leave" && !this.#canScroll()) return
    if (action === "arrive" && !(this.#state === "away" && this.#isAtEnd())) return
    const state = next(this.#state, action)
    if (state === this.#state) return
    this.#state = state
    this.settle()
  }

  /** Keep the end in view, or else note where the reader is, after the layout has changed. */
  settle() {
    if (this.#state === "following") this.#scroller.scrollTop = this.#scroller.scrollHeight
    this.#top = this.#scroller.scrollTop
    this.#show()
  }

  /** Change what is above what the reader sees, which stays where it is. */
  /** @param {() => void} change */
  keepPlace(change) {
    // At the very top no browser holds on to anything, and some never do.
    const { scrollTop, scrollHeight } = this.#scroller
    change()
    if (this.#state !== "following" && this.#scroller.scrollTop === scrollTop) this.#scroller.scrollTop += this.#scroller.scrollHeight - scrollHeight
  }

  scrolled() {
    const top = this.#scroller.scrollTop
    const before = this.#top
    this.#top = top
    // Where the text became shorter than that the layout moved it, and not the reader.
    if (top < before - 1 && before <= this.#end() + 1) this.act("leave")
    else if (top > before) this.act("arrive")
    if (this.#state === "away") this.#show()
  }

  /** Say on the button that there is more to read than when the reader left. */
  tellNews() {
    if (this.#state === "away") this.#name(texts.jumpToNews)
  }

  #show() {
    const isHidden = this.#state !== "away" || this.#isAtEnd()
    if (isHidden) this.#name(texts.jump)
    if (this.#button.hidden !== isHidden) this.#button.hidden = isHidden
  }

  /** @param {string} name */
  #name(name) {
    if (this.#button.title === name) return
    this.#button.title = name
    this.#button.setAttribute("aria-label", name)
    this.#button.classList.toggle("news", name === texts.jumpToNews)
  }

  #canScroll() {
    return this.#end() > 1
  }

  #isAtEnd() {
    return this.#end() - this.#scroller.scrollTop <= NEAR
  }

  #end() {
    return this.#scroller.scrollHeight - this.#scroller.clientHeight
  }
}

/** Tell the follower what the reader does. */
/** @param {HTMLElement} scroller @param {HTMLElement} content @param {Follower} follower */
function listen(scroller, content, follower) {
  let lastTouch = 0
  const passive = { passive: true }
  const go = (/** @type {number} */ down) => down && follower.act(down < 0 ? "leave" : "arrive")

  scroller.addEventListener("wheel", ({ deltaY }) => void go(deltaY), passive)
  scroller.addEventListener("touchstart", ({ touches }) => {
    lastTouch = touches[0].clientY
    follower.act("press")
  }, passive)
  scroller.addEventListener("touchmove", ({ touches }) => {
    go(lastTouch - touches[0].clientY)
    lastTouch = touches[0].clientY
  }, passive)
  scroller.addEventListener("mousedown", ({ button }) => void (button === 0 && follower.act("press")))
  for (const end of ["mouseup", "touchend", "touchcancel", "dragend", "contextmenu", "blur"]) addEventListener(end, () => follower.act("release"))
  scroller.addEventListener("keydown", ({ key, shiftKey, target }) => {
    if (target instanceof Element && target.closest("input, textarea")) return
    if (UP_KEYS.has(key) || (key === " " && shiftKey)) follower.act("leave")
    // The end that the browser goes to is no more the end when it is reached.
    if (key === "End") follower.act("jump")
  })
  scroller.addEventListener("scroll", () => follower.scrolled(), passive)
  document.addEventListener("selectionchange", () => {
    const selection = document.getSelection()
    if (selection?.type === "Range" && content.contains(selection.anchorNode)) follower.act("leave")
  })
  // What unfolds, is edited or replaced is to be read where it is.
  content.addEventListener("click", ({ target }) => {
    if (target instanceof Element && target.closest("summary, .edit, .branches, .details")) follower.act("leave")
  })
}
