/**
 * A menu beside the button that asks for it, by https://www.w3.org/WAI/ARIA/apg/patterns/menu-button/: the arrows, Home,
 * End and first letters move, Tab leaves; Escape and a press beside it are the popover's own. Loaded when one is opened.
 */

import { make } from "./dom.js"
import { loadStyle } from "./styles.js"

/** @typedef {{ label: string, key?: string, isBad?: boolean, act: () => void }} Item `key` does the same where the focus is */

const GAP = 4
const EDGE = 8

/**
 * Open a menu.
 *
 * @param {HTMLElement} button
 * @param {string} label
 * @param {readonly Item[]} items
 */
export async function openMenu(button, label, items) {
  await loadStyle("panels.css")
  const menu = make("div", { class: "menu", role: "menu", popover: "", "aria-label": label }, ...items.map(createItem))
  menu.addEventListener("keydown", (event) => move(event, menu, button))
  menu.addEventListener("click", (event) => {
    const chosen = [...menu.children].findIndex((item) => event.target instanceof Node && item.contains(event.target))
    if (chosen < 0) return
    // The focus goes back first, so that what is done next may move it.
    close(menu, button)
    items[chosen].act()
  })
  menu.addEventListener("toggle", (event) => {
    if (event.newState === "open") return
    button.setAttribute("aria-expanded", "false")
    menu.remove()
  })
  // Beside its button, so that it is within what is not inert.
  button.after(menu)
  button.setAttribute("aria-expanded", "true")
  menu.showPopover()
  place(menu, button)
  focus(menu, 0)
}

/** @param {Item} item */
function createItem({ label, key, isBad }) {
  const hint = key ? [make("kbd", { "aria-hidden": "true" }, key)] : []
  const item = make("button", { type: "button", role: "menuitem", tabindex: "-1", ...(isBad && { class: "bad" }) }, make("span", {}, label), ...hint)
  if (key) item.setAttribute("aria-keyshortcuts", key === "Del" ? "Delete" : key)
  return item
}

/** @param {KeyboardEvent} event @param {HTMLElement} menu @param {HTMLElement} button */
function move(event, menu, button) {
  const items = /** @type {HTMLElement[]} */ ([...menu.children])
  const at = items.findIndex((item) => item === document.activeElement)
  /** @type {Record<string, number>} */
  const steps = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }
  const { key } = event
  if (key in steps) focus(menu, steps[key])
  else if (key === "Tab") close(menu, button)
  else if (key.length !== 1 || key === " " || event.ctrlKey || event.metaKey || event.altKey) return
  else items.find((_, index) => startsWith(items[(at + 1 + index) % items.length], key) && focus(menu, at + 1 + index))
  // Tab goes on from the button.
  if (key !== "Tab") event.preventDefault()
  event.stopPropagation()
}

/** @param {HTMLElement} item @param {string} letter */
function startsWith(item, letter) {
  return item.textContent?.toLowerCase().startsWith(letter.toLowerCase())
}

/** @param {HTMLElement} menu @param {number} index the first follows upon the last */
function focus(menu, index) {
  const count = menu.children.length
  const item = menu.children[((index % count) + count) % count]
  if (item instanceof HTMLElement) item.focus()
  return true
}

/** @param {HTMLElement} menu @param {HTMLElement} button */
function close(menu, button) {
  menu.hidePopover()
  button.focus()
}

/** Put the menu below the button, or above where there is no room, its end at the button's. */
/** @param {HTMLElement} menu @param {HTMLElement} button */
function place(menu, button) {
  const { bottom, top, left, right } = button.getBoundingClientRect()
  const isBelow = bottom + menu.offsetHeight + EDGE < innerHeight
  const start = getComputedStyle(button).direction === "rtl" ? left : right - menu.offsetWidth
  menu.style.top = `${isBelow ? bottom + GAP : Math.max(EDGE, top - menu.offsetHeight - GAP)}px`
  menu.style.left = `${Math.max(EDGE, Math.min(start, innerWidth - menu.offsetWidth - EDGE))}px`
}
