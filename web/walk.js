/** Goes from message to message by keys, and presses the buttons of the one that has the focus, or else of the last. */

/**
 * @param {HTMLElement} scroller
 * @param {HTMLElement} list
 */
export function createWalk(scroller, list) {
  const focused = () => document.activeElement?.closest(".message") ?? null

  /** The message that reaches into the upper half of what is in view. */
  function current() {
    const middle = scroller.getBoundingClientRect().top + scroller.clientHeight / 2
    const all = [...list.children]
    return all.findLast((message) => message.getBoundingClientRect().top < middle) ?? all[0]
  }

  return {
    /** Move the focus; from outside it first comes to what is in view. */
    /** @param {"previousElementSibling" | "nextElementSibling"} way */
    move(way) {
      const from = focused()
      const to = from ? from[way] : current()
      if (!(to instanceof HTMLElement)) return
      to.focus({ preventScroll: true })
      to.scrollIntoView({ block: "start" })
    },

    /** Press the last button of that kind; returns false where there is none. */
    /** @param {string} selector */
    press(selector) {
      for (const place of [focused(), list]) {
        const buttons = /** @type {HTMLButtonElement[]} */ ([...(place?.querySelectorAll(selector) ?? [])])
        const button = buttons.findLast((one) => !one.disabled && one.checkVisibility())
        button?.click()
        if (button) return true
      }
      return false
    },
  }
}
