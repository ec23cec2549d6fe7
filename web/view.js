/**
 * Shows the messages of a chat. It keeps one element per message and only ever adds to it, so a selection survives, and
 * a finished message costs a comparison. Of a long conversation the end is drawn first, the rest when the browser is idle.
 */

import { MESSAGES } from "./message.js"

/** @typedef {import("./shown.js").Message} Message */
/** @typedef {import("./message.js").Tools & { keepPlace: (change: () => void) => void }} Tools */
/** @typedef {{ message: Message, view: import("./message.js").MessageView | null }} Row without a view until it is drawn */

// So many messages are drawn at once, and so many of a long conversation's others each time nothing else is to be done.
const FIRST = 30
const MORE = 10
const IDLE_MS = 500

/**
 * Create a view that draws into `list`.
 *
 * @param {HTMLElement} list
 * @param {Tools} tools
 */
export function createView(list, tools) {
  return new View(list, tools)
}

export class View {
  #list
  #tools
  /** @type {Row[]} */
  #rows = []
  #isWaiting = false

  /** @param {HTMLElement} list @param {Tools} tools */
  constructor(list, tools) {
    this.#list = list
    this.#tools = tools
  }

  /** @param {readonly Message[]} messages */
  draw(messages) {
    const rows = this.#rows
    const same = countWhile(rows, ({ message }, index) => message === messages[index])
    if (same === rows.length && same === messages.length) return
    // A message that is not shown any more (another branch, another conversation) goes with all that follow it.
    const kept = countWhile(rows, ({ message }, index) => message.key === messages[index]?.key)
    const held = this.#list.contains(document.activeElement) ? document.activeElement : null
    const place = held ? rows.findIndex(({ view }) => view?.element.contains(held)) : -1
    for (const { view } of rows.splice(kept)) view?.element.remove()
    for (const [index, message] of messages.slice(same).entries()) {
      const view = rows[same + index]?.view ?? null
      view?.update(message)
      rows[same + index] = { message, view }
    }
    // Who opens a conversation reads its end, who changes to a branch its beginning.
    if (kept === 0) this.#render(Math.max(0, rows.length - FIRST), rows.length)
    else this.#render(kept, Math.min(kept + FIRST, rows.length))
    this.#renderLater()
    if (held && (!held.isConnected || held.closest("[hidden]"))) this.#refocus(held, place)
  }

  /** What had the focus goes with its message, or with what could be done with it: what is in its place has it then. */
  /** @param {Element} held @param {number} place */
  #refocus(held, place) {
    const element = this.#rows[place]?.view?.element
    const steps = element?.querySelectorAll(".step:enabled") ?? []
    const step = held.matches(":last-child") ? steps[steps.length - 1] : steps[0]
    const next = held.matches(".step") ? step : element
    if (next instanceof HTMLElement) next.focus({ preventScroll: true })
  }

  /** Draw at once all that is not drawn yet: it is about to be searched or printed. */
  finish() {
    this.#render(0, this.#rows.length)
  }

  /** @param {number} start @param {number} end */
  #render(start, end) {
    let after = this.#rows.slice(end).find(({ view }) => view)?.view?.element ?? null
    for (const row of this.#rows.slice(start, end).reverse()) {
      if (!row.view) {
        row.view = MESSAGES[row.message.role](this.#tools)
        row.view.update(row.message)
        this.#list.insertBefore(row.view.element, after)
      }
      after = row.view.element
    }
  }

  #renderLater() {
    if (this.#isWaiting || this.#rows.every(({ view }) => view)) return
    this.#isWaiting = true
    whenIdle(() => {
      this.#isWaiting = false
      const end = this.#rows.findLastIndex(({ view }) => !view) + 1
      this.#tools.keepPlace(() => this.#render(Math.max(0, end - MORE), end))
      this.#renderLater()
    })
  }
}

/** @template T @param {readonly T[]} all @param {(one: T, index: number) => boolean} isIt */
function countWhile(all, isIt) {
  const end = all.findIndex((one, index) => !isIt(one, index))
  return end === -1 ? all.length : end
}

/** @param {() => void} deed */
function whenIdle(deed) {
  if ("requestIdleCallback" in globalThis) requestIdleCallback(deed, { timeout: IDLE_MS })
  else setTimeout(deed)
}
