/**
 * Keeps the end of the answer in view until the reader goes elsewhere. Only what the reader does ends the following:
 * the wheel, a finger, a key, the scrollbar, a selection, unfolding something. That the layout moves does not; the
 * position alone cannot tell the two apart, so it is not what decides. Scrolling back down to the end resumes it.
 */

// Within this of the end counts as being there: trackpads and zoom leave fractions.
const NEAR = 24

const UP_KEYS = new Set(["ArrowUp", "PageUp", "Home"])

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
  button.addEventListener("click", () => follower.toEnd())
  const observer = new ResizeObserver(() => follower.settle())
  observer.observe(content)
  observer.observe(scroller)
  return follower
}

class Follower {
  #scroller
  #button
  #isFollowing = true
  #isDragging = false
  #lastTop = 0

  /** @param {HTMLElement} scroller @param {HTMLElement} button */
  constructor(scroller, button) {
    this.#scroller = scroller
    this.#button = button
  }

  /** Go to the end and follow it from now on. */
  toEnd() {
    this.#isFollowing = true
    this.settle()
  }

  /** Stop following: the reader is elsewhere. */
  leave() {
    this.#isFollowing = false
    this.#show()
  }

  /** Keep the end in view after the layout has moved. */
  settle() {
    if (this.#isFollowing) {
      this.#scroller.scrollTop = this.#scroller.scrollHeight
      // Our own way down must not look like the reader's when its event comes, a moment after a key went up.
      this.#lastTop = this.#scroller.scrollTop
    }
    this.#show()
  }

  /** @param {boolean} isDragging whether the reader holds the scrollbar */
  drag(isDragging) {
    this.#isDragging = isDragging
  }

  scrolled() {
    const top = this.#scroller.scrollTop
    if (this.#isDragging && top < this.#lastTop) this.#isFollowing = false
    // Only on the way down: the first notch of a wheel going up ends near the end as well.
    else if (top > this.#lastTop && this.#isAtEnd()) this.#isFollowing = true
    this.#lastTop = top
    this.#show()
  }

  canScroll() {
    return this.#scroller.scrollHeight > this.#scroller.clientHeight + 1
  }

  #isAtEnd() {
    const { scrollHeight, clientHeight, scrollTop } = this.#scroller
    return scrollHeight - clientHeight - scrollTop <= NEAR
  }

  #show() {
    this.#button.hidden = this.#isFollowing || this.#isAtEnd()
  }
}

/** Tell the follower what the reader does. */
/** @param {HTMLElement} scroller @param {HTMLElement} content @param {Follower} follower */
function listen(scroller, content, follower) {
  let lastTouch = 0
  const up = () => follower.canScroll() && follower.leave()

  scroller.addEventListener("wheel", (event) => void (event.deltaY < 0 && up()), { passive: true })
  scroller.addEventListener("touchstart", (event) => void (lastTouch = event.touches[0].clientY), { passive: true })
  scroller.addEventListener("touchmove", (event) => {
    if (event.touches[0].clientY > lastTouch) up()
    lastTouch = event.touches[0].clientY
  }, { passive: true })
  scroller.addEventListener("keydown", (event) => {
    if (UP_KEYS.has(event.key) || (event.key === " " && event.shiftKey)) up()
  })
  // A press on the scroller itself, not on what it holds, is a press on its bar.
  scroller.addEventListener("pointerdown", (event) => follower.drag(event.target === scroller))
  addEventListener("pointerup", () => follower.drag(false))
  scroller.addEventListener("scroll", () => follower.scrolled(), { passive: true })
  document.addEventListener("selectionchange", () => {
    const selection = document.getSelection()
    if (selection?.type === "Range" && content.contains(selection.anchorNode)) up()
  })
  // What unfolds, is edited or replaced is to be read where it is.
  content.addEventListener("click", (event) => {
    if (event.target instanceof Element && event.target.closest("summary, .edit, .branches")) follower.leave()
  })
}
