/**
 * The list of conversations at the side, on a phone a drawer over the page. A conversation is a link to its address, so
 * it opens as links do, in another tab too; what else can be done with it is in its menu.
 */

import { sends } from "./composer.js"
import { make, setText } from "./dom.js"
import { texts } from "./texts.js"

/** @typedef {import("./conversations.js").Conversations} Conversations */
/** @typedef {import("./conversations.js").Conversation} Conversation */
/** @typedef {{ element: HTMLElement, update: (item: Conversation, isCurrent: boolean) => void }} Row */
/** @typedef {{ aside: HTMLElement, list: HTMLElement, search: HTMLInputElement, menu: HTMLElement, confirm: HTMLDialogElement, opener: HTMLButtonElement, rest: HTMLElement[] }} Elements */

const PAUSE_MS = 200
const DAY_MS = 86_400_000

/** Return the address of a conversation. */
/** @param {string} id */
export function addressOf(id) {
  return `#c=${encodeURIComponent(id)}`
}

/**
 * Create the list; it is drawn by `update`.
 *
 * @param {Elements} elements
 * @param {Conversations} conversations
 * @param {(id: string) => void} onRemoved
 */
export function createSidebar(elements, conversations, onRemoved) {
  const sidebar = new Sidebar(elements, conversations, onRemoved)
  listen(elements, conversations, sidebar)
  return sidebar
}

class Sidebar {
  #elements
  #conversations
  #onRemoved
  /** @type {Map<string, Row>} */
  #rows = new Map()
  #more = make("button", { type: "button", class: "quiet more" }, texts.more)
  #note = make("p", { class: "note", role: "status" })
  #observer
  /** @type {Conversation | null} */
  #chosen = null

  /** @param {Elements} elements @param {Conversations} conversations @param {(id: string) => void} onRemoved */
  constructor(elements, conversations, onRemoved) {
    this.#elements = elements
    this.#conversations = conversations
    this.#onRemoved = onRemoved
    this.#more.addEventListener("click", () => void conversations.more())
    this.#observer = new IntersectionObserver(([entry]) => entry.isIntersecting && void conversations.more())
  }

  /** @param {string} currentId @param {boolean} isRunning whether the current one is being answered */
  update(currentId, isRunning) {
    const { items, words, hasMore, problem } = this.#conversations
    const rows = new Map()
    const nodes = []
    let group = ""
    for (const item of items) {
      const day = words ? texts.found : dayOf(item.updatedAt)
      if (day !== group) nodes.push(make("h2", {}, day))
      group = day
      const row = this.#rows.get(item.id) ?? createRow(item.id, (button) => this.#open(item.id, button))
      row.update(item.id === currentId ? { ...item, isRunning } : item, item.id === currentId)
      rows.set(item.id, row)
      nodes.push(row.element)
    }
    this.#rows = rows
    setText(this.#note, problem ? problem.message || texts.noList : items.length > 0 ? "" : words ? texts.notFound : texts.noConversations)
    replaceChildren(this.#elements.list, [this.#note, ...nodes, ...(hasMore ? [this.#more] : [])])
    // It tells of changes alone, and the end may be in view still, or again.
    this.#observer.unobserve(this.#more)
    if (!problem) this.#observer.observe(this.#more)
  }

  /** Show or hide the drawer; where there is room it is always shown. */
  /** @param {boolean} isOpen */
  toggle(isOpen) {
    const { aside, opener, rest, search } = this.#elements
    const isDrawer = getComputedStyle(opener).display !== "none"
    if (aside.classList.contains("open") === isOpen) return
    aside.classList.toggle("open", isOpen)
    opener.setAttribute("aria-expanded", String(isOpen))
    for (const element of rest) element.inert = isOpen && isDrawer
    // On a phone the focus in the field would open the keyboard over the list.
    if (isOpen) (matchMedia("(pointer: fine)").matches ? search : aside).focus()
    else opener.focus()
  }

  /** Open the menu of a conversation beside the button that asked for it. */
  /** @param {string} id @param {HTMLElement} button */
  #open(id, button) {
    const { menu } = this.#elements
    this.#chosen = this.#conversations.items.find((item) => item.id === id) ?? null
    for (const link of menu.querySelectorAll("a")) link.href = `api/conversations/${encodeURIComponent(id)}?format=${link.dataset.format}`
    menu.showPopover()
    const { bottom, top, right } = button.getBoundingClientRect()
    const isBelow = bottom + menu.offsetHeight + 8 < innerHeight
    menu.style.top = `${isBelow ? bottom + 4 : Math.max(8, top - menu.offsetHeight - 4)}px`
    menu.style.left = `${Math.max(8, Math.min(right - menu.offsetWidth, innerWidth - menu.offsetWidth - 8))}px`
    menu.querySelector("button")?.focus()
  }

  /** Write the title where it stands; Enter and leaving the field keep it, Escape does not. */
  rename() {
    this.#elements.menu.hidePopover()
    const item = this.#chosen
    const row = item && this.#rows.get(item.id)
    if (!item || !row) return
    const input = make("input", { class: "rename", "aria-label": texts.renameLabel, value: item.title, maxlength: "200" })
    let isOver = false
    const end = (/** @type {boolean} */ isKept) => {
      // A field that is removed loses the focus, which would end it again.
      if (isOver) return
      isOver = true
      const title = input.value.trim()
      input.remove()
      row.element.classList.remove("renaming")
      row.element.querySelector("a")?.focus()
      if (isKept && title && title !== item.title) void this.#conversations.rename(item.id, title)
    }
    input.addEventListener("keydown", (event) => {
      if (sends(event)) end(true)
      else if (event.key === "Escape") end(false)
      else return
      event.preventDefault()
      event.stopPropagation()
    })
    input.addEventListener("blur", () => end(true))
    row.element.classList.add("renaming")
    row.element.append(input)
    input.select()
  }

  /** Ask first: what is deleted is gone. */
  async remove() {
    const { menu, confirm } = this.#elements
    const item = this.#chosen
    menu.hidePopover()
    if (!item) return
    setText(confirm.querySelector("p") ?? confirm, texts.deleteQuestion(item.title || texts.untitled))
    confirm.returnValue = ""
    confirm.showModal()
    await new Promise((resolve) => confirm.addEventListener("close", resolve, { once: true }))
    if (confirm.returnValue !== "delete") return
    this.#elements.search.focus()
    await this.#conversations.remove(item.id)
    if (!this.#conversations.problem) this.#onRemoved(item.id)
  }
}

/** @param {Elements} elements @param {Conversations} conversations @param {Sidebar} sidebar */
function listen({ aside, search, menu, opener, list }, conversations, sidebar) {
  let timer = 0
  search.addEventListener("input", () => {
    clearTimeout(timer)
    timer = setTimeout(() => void conversations.search(search.value), PAUSE_MS)
  })
  menu.querySelector("[data-do=rename]")?.addEventListener("click", () => sidebar.rename())
  menu.querySelector("[data-do=delete]")?.addEventListener("click", () => void sidebar.remove())
  for (const link of menu.querySelectorAll("a")) link.addEventListener("click", () => menu.hidePopover())
  opener.addEventListener("click", () => sidebar.toggle(true))
  document.addEventListener("keydown", (event) => {
    const isOverIt = menu.matches(":popover-open") || document.querySelector("dialog[open]")
    if (event.key === "Escape" && aside.classList.contains("open") && !isOverIt) sidebar.toggle(false)
  })
  // A press beside the drawer falls on its backdrop, which is the drawer's own.
  aside.addEventListener("click", (event) => {
    const isLink = event.target instanceof Element && list.contains(event.target) && event.target.closest("a")
    if (event.target === aside || isLink) sidebar.toggle(false)
  })
}

/** @param {string} id @param {(button: HTMLElement) => void} open @returns {Row} */
function createRow(id, open) {
  const title = make("span", { class: "row-title" })
  const snippet = make("span", { class: "row-snippet" })
  const mark = make("span", { class: "row-mark", role: "img", "aria-label": texts.running })
  const link = make("a", { href: addressOf(id) }, title, snippet)
  const button = make("button", { type: "button", class: "icon row-menu", "aria-haspopup": "true" }, "\u22ef")
  const element = make("div", { class: "row" }, link, mark, button)
  button.addEventListener("click", () => open(button))
  return {
    element,
    update(item, isCurrent) {
      const name = item.title || texts.untitled
      setText(title, name)
      setText(snippet, item.snippet ?? "")
      link.title = `${name}\n${new Date(item.updatedAt).toLocaleString()}`
      mark.hidden = !item.isRunning
      button.setAttribute("aria-label", texts.menuOf(name))
      if (isCurrent) link.setAttribute("aria-current", "page")
      else link.removeAttribute("aria-current")
    },
  }
}

/** Put these nodes in, moving none that is at its place; one that has the focus keeps it. */
/** @param {HTMLElement} parent @param {Node[]} nodes */
function replaceChildren(parent, nodes) {
  const focused = document.activeElement
  for (const [index, node] of nodes.entries()) {
    const old = parent.childNodes[index]
    if (old === node || (old && old.nodeName === "H2" && node.nodeName === "H2" && old.textContent === node.textContent)) continue
    parent.insertBefore(node, old ?? null)
  }
  while (parent.childNodes.length > nodes.length) parent.lastChild?.remove()
  if (focused !== document.activeElement && focused instanceof HTMLElement && parent.contains(focused)) focused.focus()
}

/** @param {string} time @param {number} [now] */
function dayOf(time, now = Date.now()) {
  const midnight = new Date(now).setHours(0, 0, 0, 0)
  const at = Date.parse(time)
  if (at >= midnight) return texts.today
  if (at >= midnight - DAY_MS) return texts.yesterday
  if (at >= midnight - 7 * DAY_MS) return texts.lastWeek
  return new Date(at).toLocaleDateString(undefined, { month: "long", year: "numeric" })
}
