/**
 * What can be done with conversations other than reading them: pin, rename, export, delete with a way back. Loaded when
 * the first of it is asked for.
 */

import { failureOf } from "./api.js"
import { sends } from "./composer.js"
import { make } from "./dom.js"
import { openMenu } from "./menu.js"
import { fileName, saveFile } from "./save.js"
import { texts } from "./texts.js"
import { showToast } from "./toast.js"
import { startExport, startImport } from "./exchange.js"

/** @typedef {import("./conversations.js").Conversation} Conversation */
/** @typedef {import("./sidebar.js").Around & { conversations: import("./conversations.js").Conversations, row: (id: string) => HTMLElement | null, focus: (id: string) => void }} Around */

/** @param {Around} around */
export function createManager(around) {
  return new Manager(around)
}

class Manager {
  #around

  /** @param {Around} around */
  constructor(around) {
    this.#around = around
  }

  /** @param {Conversation} item @param {HTMLElement} [button] */
  openMenu(item, button) {
    if (!button) return
    void openMenu(button, nameOf(item), [
      { label: item.pinned ? texts.unpin : texts.pin, key: "P", act: () => this.pin(item) },
      { label: texts.rename, key: "F2", act: () => this.rename(item) },
      { label: texts.exportMarkdown, act: () => void this.#export(item, "md") },
      { label: texts.exportJson, act: () => void this.#export(item, "json") },
      { label: texts.delete, key: "Del", isBad: true, act: () => void this.remove(item) },
    ])
  }

  /** @param {HTMLElement} button */
  openListMenu(button) {
    void openMenu(button, texts.listMenu, [
      { label: texts.import, act: () => this.import() },
      { label: texts.exportAll, act: () => this.exportAll() },
      { label: texts.settings, act: this.#around.settings },
    ])
  }

  import() {
    void startImport(this.#around)
  }

  exportAll() {
    void startExport(this.#around)
  }

  /** @param {Conversation} item */
  pin({ id, pinned }) {
    void this.#around.conversations.change(id, { pinned: !pinned })
  }

  /** Write the title where it stands; Enter and leaving the field keep it, Escape does not. */
  /** @param {Conversation} item */
  rename(item) {
    const row = this.#around.row(item.id)
    if (!row || row.classList.contains("renaming")) return
    const input = make("input", { class: "rename", dir: "auto", "aria-label": texts.renameLabel, value: item.title, maxlength: "200" })
    let isOver = false
    const end = (/** @type {boolean} */ isKept) => {
      // A field that is removed loses the focus, which would end it again.
      if (isOver) return
      isOver = true
      const title = input.value.trim()
      const hadFocus = document.activeElement === input
      row.classList.remove("renaming")
      if (hadFocus) row.querySelector("a")?.focus()
      input.remove()
      if (isKept && title && title !== item.title) void this.#around.conversations.change(item.id, { title })
    }
    input.addEventListener("keydown", (event) => {
      event.stopPropagation()
      if (!sends(event) && event.key !== "Escape") return
      event.preventDefault()
      end(event.key === "Enter")
    })
    input.addEventListener("blur", () => end(true))
    row.classList.add("renaming")
    row.append(input)
    input.select()
  }

  /** @param {Conversation} item */
  async remove(item) {
    const { conversations, announce, open, shown, focus, forget } = this.#around
    const wasShown = item.id === shown()
    if (!(await conversations.remove(item.id))) return
    if (wasShown) open("")
    const undo = async () => {
      if (!(await conversations.restore(item.id))) return showToast(texts.notRestored, announce)
      announce(texts.restored(nameOf(item)))
      // Who has gone on to another one meanwhile stays there.
      if (wasShown && !shown()) open(item.id)
      focus(item.id)
    }
    await showToast(texts.deleted(nameOf(item)), announce, undo, () => forget(item.id))
  }

  /** @param {Conversation} item @param {"md" | "json"} format */
  async #export(item, format) {
    const { server, announce } = this.#around
    const response = await server.fetch(`${server.api}/api/conversations/${encodeURIComponent(item.id)}?format=${format}`).catch(() => null)
    if (response?.ok) return saveFile(`${fileName(item.title)}.${format}`, await response.blob())
    const failure = response && (await failureOf(response))
    await showToast(failure?.message || texts.noList, announce)
  }
}

/** @param {Conversation} item */
function nameOf(item) {
  return item.title || texts.untitled
}
