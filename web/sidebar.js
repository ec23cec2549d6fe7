/**
 * The list of conversations at the side, on a phone a drawer over the page, elsewhere folded away at wish. A
 * conversation is a link to its address, so it opens as links do, in another tab too. What else can be done with it is
 * in `manage.js`, which comes when it is asked for.
 *
 * Tab reaches one row, the one that had the focus last; the arrows, Home and End go from row to row, Enter opens, F2
 * renames, P pins, Delete deletes. What others change in the list never moves the focus.
 */

import { make, setText } from "./dom.js"
import { lazy } from "./lazy.js"
import { choose, recall } from "./storage.js"
import { texts } from "./texts-first.js"

/** @typedef {import("./conversations.js").Conversations} Conversations */
/** @typedef {import("./conversations.js").Conversation} Conversation */
/** @typedef {ReturnType<typeof createRow>} Row */
/** @typedef {{ aside: HTMLElement, list: HTMLElement, search: HTMLInputElement, opener: HTMLButtonElement, folder: HTMLButtonElement, more: HTMLButtonElement, rest: HTMLElement[] }} Elements */
/**
 * @typedef {object} Around
 * @property {import("./session.js").Session} server
 * @property {(text: string) => void} announce
 * @property {(id: string) => void} forget drops what was written in a conversation and not sent
 * @property {(id: string) => void} open shows a conversation, "" a new one
 * @property {() => string} shown the id of the one that is shown
 * @property {() => void} settings
 */

const PAUSE_MS = 200
const DAY_MS = 86_400_000
/** Characters that are shown before what was found. */
const LED_IN = 16
// Where the list is a drawer, as sidebar.css says.
const narrow = matchMedia("(max-width: 52rem)")
/** @type {Record<string, (at: number, count: number) => number>} */
const STEPS = { ArrowDown: (at) => at + 1, ArrowUp: (at) => at - 1, Home: () => 0, End: (_, count) => count - 1 }
/** @type {Record<string, "rename" | "remove" | "pin">} */
const DEEDS = { F2: "rename", Delete: "remove", p: "pin" }

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
 * @param {Around} around
 */
export function createSidebar(elements, conversations, around) {
  const sidebar = new Sidebar(elements, conversations, around)
  listen(elements, conversations, sidebar)
  return sidebar
}

class Sidebar {
  #elements
  #conversations
  /** @type {Map<string, Row>} */
  #rows = new Map()
  /** @type {Map<string, HTMLElement>} */
  #headings = new Map()
  #more = make("button", { type: "button", class: "quiet more" }, texts.more)
  #note = make("p", { class: "note", role: "status" })
  #observer
  /** The row that Tab reaches. */
  #atId = ""
  #manager

  /** @param {Elements} elements @param {Conversations} conversations @param {Around} around */
  constructor(elements, conversations, around) {
    this.#elements = elements
    this.#conversations = conversations
    this.#more.addEventListener("click", () => void conversations.more())
    this.#observer = new IntersectionObserver((entries) => entries.at(-1)?.isIntersecting && void conversations.more())
    this.#manager = lazy(async () => (await import("./manage.js")).createManager({ ...around, conversations, row: (id) => this.#rows.get(id)?.element ?? null, focus: (id) => this.#focus(id) }))
  }

  /** @param {string} currentId @param {boolean} isRunning whether the current one is being answered */
  update(currentId, isRunning) {
    const { items, words, hasMore, problem } = this.#conversations
    const focused = this.#ids.findIndex((id) => this.#rows.get(id)?.element.contains(document.activeElement))
    const rows = new Map()
    const nodes = []
    let group = ""
    for (const item of items) {
      const next = words ? texts.found : item.pinned ? texts.pinned : dayOf(item.updatedAt)
      if (next !== group) nodes.push(this.#heading(next))
      group = next
      const row = this.#rows.get(item.id) ?? createRow(item.id)
      row.update(item.id === currentId ? { ...item, isRunning } : item, item.id === currentId, words)
      rows.set(item.id, row)
      nodes.push(row.element)
    }
    this.#rows = rows
    this.#tell()
    replaceChildren(this.#elements.list, [this.#note, ...nodes, ...(hasMore ? [this.#more] : [])])
    this.#setStop(rows.has(this.#atId) ? this.#atId : rows.has(currentId) ? currentId : (this.#ids[0] ?? ""))
    // The row with the focus is gone.
    if (focused >= 0 && document.activeElement === document.body) this.#focus(this.#ids[Math.min(focused, items.length - 1)])
    // It tells of changes alone, and the end may be in view still, or again.
    this.#observer.unobserve(this.#more)
    if (!problem) this.#observer.observe(this.#more)
  }

  /** Show or hide the list: on a phone the drawer, elsewhere what is at the side, which is remembered. */
  /** @param {boolean} isOpen */
  toggle(isOpen) {
    const { aside, opener, search } = this.#elements
    if (narrow.matches ? aside.classList.contains("open") === isOpen : isOpen === (recall("list") !== "folded")) return
    if (narrow.matches) this.slide(isOpen)
    else choose("list", isOpen ? "" : "folded")
    // On a phone the focus in the field would open the keyboard over the list.
    if (isOpen) (matchMedia("(pointer: fine)").matches ? search : aside).focus()
    else opener.focus()
  }

  /** Move the drawer. */
  /** @param {boolean} isOpen */
  slide(isOpen) {
    const { aside, opener, rest } = this.#elements
    aside.classList.toggle("open", isOpen)
    opener.setAttribute("aria-expanded", String(isOpen))
    for (const element of rest) element.inert = isOpen
  }

  /** Do what a key, or a press on the button of its menu, asks for with a conversation. */
  /** @param {string} id @param {"rename" | "remove" | "pin" | "openMenu"} deed @param {HTMLElement} [button] */
  async act(id, deed, button) {
    const manager = await this.#manager()
    const item = this.#conversations.items.find((one) => one.id === id)
    if (item) manager[deed](item, button)
  }

  /** Open the menu of the list itself. */
  async openMenu() {
    const manager = await this.#manager()
    manager.openListMenu(this.#elements.more)
  }

  /** Go from row to row. */
  /** @param {string} id where the focus is, "" in the field above @param {string} key */
  step(id, key) {
    const at = STEPS[key](this.#ids.indexOf(id), this.#ids.length)
    if (at < 0) this.#elements.search.focus()
    else this.#focus(this.#ids[Math.min(at, this.#ids.length - 1)])
  }

  /** Let Tab reach this row from now on. What its keys do is loaded, so that nothing is typed before it is there. */
  /** @param {string} id */
  stay(id) {
    if (this.#rows.has(id)) this.#setStop(id)
    this.#manager().catch(() => {})
  }

  get #ids() {
    return [...this.#rows.keys()]
  }

  /** @param {string} id */
  #setStop(id) {
    this.#atId = id
    for (const [each, row] of this.#rows) row.setStop(each === id)
  }

  /** @param {string | undefined} id without one, or where its row is gone, the field above has the focus */
  #focus(id) {
    const row = this.#rows.get(id ?? "")
    if (row) row.element.querySelector("a")?.focus()
    else this.#elements.search.focus()
  }

  /** @param {string} group */
  #heading(group) {
    const heading = this.#headings.get(group) ?? make("h2", {}, group)
    this.#headings.set(group, heading)
    return heading
  }

  /** Say why nothing is shown, and to those who do not see the list how much was found. */
  #tell() {
    const { items, words, problem } = this.#conversations
    const count = words && items.length > 0 ? texts.foundCount(items.length) : ""
    const why = problem ? problem.message || texts.noList : items.length > 0 ? "" : words ? texts.notFound : texts.noConversations
    this.#note.classList.toggle("offscreen", why === "")
    setText(this.#note, why || count)
  }
}

/** @param {Elements} elements @param {Conversations} conversations @param {Sidebar} sidebar */
function listen({ aside, search, opener, folder, more, list }, conversations, sidebar) {
  let timer = 0
  const find = () => void conversations.search(search.value)
  search.addEventListener("input", () => {
    clearTimeout(timer)
    timer = setTimeout(find, PAUSE_MS)
  })
  search.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") sidebar.step("", "ArrowDown")
    else if (event.key === "Escape" && search.value) search.value = ""
    else return
    event.preventDefault()
    event.stopPropagation()
    if (event.key === "Escape") find()
  })
  opener.addEventListener("click", () => sidebar.toggle(true))
  folder.addEventListener("click", () => sidebar.toggle(false))
  more.addEventListener("click", () => void sidebar.openMenu())
  list.addEventListener("keydown", (event) => onKey(event, sidebar))
  list.addEventListener("focusin", ({ target }) => sidebar.stay(idOf(target)))
  list.addEventListener("click", ({ target }) => {
    const button = target instanceof Element ? target.closest("button.row-menu") : null
    if (button instanceof HTMLElement) void sidebar.act(idOf(target), "openMenu", button)
  })
  document.addEventListener("keydown", (event) => {
    const isOverIt = document.querySelector("dialog[open], .menu")
    if (event.key === "Escape" && !event.defaultPrevented && aside.classList.contains("open") && !isOverIt) sidebar.toggle(false)
  })
  narrow.addEventListener("change", () => sidebar.slide(false))
  // A press beside the drawer falls on its backdrop, which is the drawer's own.
  aside.addEventListener("click", ({ target }) => {
    const isLink = target instanceof Element && list.contains(target) && target.closest("a")
    if (aside.classList.contains("open") && (target === aside || isLink)) sidebar.toggle(false)
  })
}

/** @param {KeyboardEvent} event @param {Sidebar} sidebar */
function onKey(event, sidebar) {
  const { key, target } = event
  const id = idOf(target)
  if (!id || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || target instanceof HTMLInputElement) return
  if (key in STEPS) sidebar.step(id, key)
  else if (key in DEEDS && !event.repeat) void sidebar.act(id, DEEDS[key])
  else return
  event.preventDefault()
}

/** @param {EventTarget | null} target */
function idOf(target) {
  const row = target instanceof Element ? target.closest(".row") : null
  return row instanceof HTMLElement ? (row.dataset.id ?? "") : ""
}

/** @param {string} id */
function createRow(id) {
  const title = make("span", { class: "row-title", dir: "auto" })
  const snippet = make("span", { class: "row-snippet", dir: "auto" })
  const mark = make("span", { class: "row-mark", role: "img", "aria-label": texts.running })
  const link = make("a", { href: addressOf(id) }, title, snippet, mark)
  const button = make("button", { type: "button", class: "icon row-menu", "aria-haspopup": "menu", "aria-expanded": "false" }, "\u22ef")
  const element = make("div", { class: "row", "data-id": id }, link, button)
  return {
    element,
    /** @param {Conversation} item @param {boolean} isCurrent @param {string} words that were searched for */
    update(item, isCurrent, words) {
      const name = item.title || texts.untitled
      setText(title, name)
      snippet.replaceChildren(...marked(item.snippet ?? "", words))
      link.title = `${name}\n${new Date(item.updatedAt).toLocaleString()}`
      mark.hidden = !item.isRunning
      button.setAttribute("aria-label", texts.menuOf(name))
      if (isCurrent) link.setAttribute("aria-current", "page")
      else link.removeAttribute("aria-current")
    },
    /** @param {boolean} isStop */
    setStop(isStop) {
      for (const control of [link, button]) control.tabIndex = isStop ? 0 : -1
    },
  }
}

/** Return a text with what was searched for set off. */
/** @param {string} text @param {string} words */
function marked(text, words) {
  const found = words.split(/\s+/).map((word) => word.replace(/[^\p{L}\p{M}\p{N}]+/gu, "")).filter(Boolean)
  if (!text || found.length === 0) return text ? [text] : []
  // What is captured stands at the odd places.
  const [before, ...rest] = text.split(new RegExp(`(${found.join("|")})`, "giu"))
  return [rest.length > 0 ? ending(before) : before, ...rest.map((piece, index) => (index % 2 === 0 ? make("b", {}, piece) : piece))]
}

/** Return so much of the end of a text that what follows it is seen in two short lines. */
/** @param {string} text */
function ending(text) {
  if (text.length <= LED_IN) return text
  const end = text.slice(-LED_IN)
  return `\u2026${/\s\S/.test(end) ? end.slice(end.search(/\s/)) : end}`
}

/** Put these nodes in; the one with the focus stays where it is, and the others are moved around it. */
/** @param {HTMLElement} parent @param {Node[]} nodes */
function replaceChildren(parent, nodes) {
  const held = nodes.find((node) => node.parentNode === parent && node.contains(document.activeElement))
  let at = parent.firstChild
  for (const node of nodes) {
    while (node === held && at && at !== held) at = removed(at)
    if (node === at) at = at.nextSibling
    else parent.insertBefore(node, at)
  }
  while (at) at = removed(at)
}

/** Remove a node; returns what followed it. */
/** @param {ChildNode} node */
function removed(node) {
  const next = node.nextSibling
  node.remove()
  return next
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
