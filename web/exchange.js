/** Brings conversations in from files, and all of them out as one, showing how far it is. Loaded when it is asked for. */

import { createAsk } from "./api.js"
import { openDialog } from "./dialog.js"
import { make, setText } from "./dom.js"
import { saveFile } from "./save.js"
import { texts } from "./texts.js"
import { showToast } from "./toast.js"
import { exportAll, importFiles } from "./transfer.js"

/** @typedef {Pick<import("./manage.js").Around, "server" | "announce" | "open" | "conversations">} Around */
/** @typedef {(done: number, count: number) => void} Progress */

/** Ask for files, and make conversations of what is in them; one alone is opened. */
/** @param {Around} around */
export async function startImport({ server, announce, open, conversations }) {
  const files = await pickFiles()
  if (files.length === 0) return
  const ask = createAsk(server.api, server.fetch)
  const work = await withProgress(texts.importing, (progress, signal) => importFiles(ask, files, progress, signal))
  const { conversations: made, refused, isCut } = work.outcome
  if (made.length > 0) void conversations.noteMade(made[0].id)
  const words = [texts.imported(made.length), isCut ? texts.importCut : "", refused.length > 0 ? texts.refusedCount(refused.length) : ""].filter(Boolean).join(" ")
  const isPlain = refused.length === 0 && !isCut
  if (isPlain || !work.dialog.open) work.dialog.close()
  else work.end(words, refused.map(({ name, title, reason }) => texts.refused(name, title, texts.refusals[reason] ?? reason)))
  if (made.length === 1) open(made[0].id)
  if (!work.dialog.open) await showToast(words, announce)
}

/** Write all conversations into one file. */
/** @param {Around} around */
export async function startExport({ server, announce }) {
  const get = (/** @type {string} */ path, /** @type {AbortSignal} */ signal) => server.fetch(`${server.api}${path}`, { signal })
  const { outcome, dialog, signal, end } = await withProgress(texts.exportAll, (progress, signal) => exportAll(get, progress, signal))
  if (!outcome && !signal.aborted) return end(texts.noList, [])
  dialog.close()
  if (!outcome) return
  saveFile(`chatstream-${new Date().toISOString().slice(0, 10)}.json`, outcome)
  await showToast(texts.exported, announce)
}

/** @returns {Promise<File[]>} */
function pickFiles() {
  const input = make("input", { type: "file", multiple: "", accept: ".json,application/json" })
  return new Promise((resolve) => {
    input.addEventListener("change", () => resolve([...(input.files ?? [])]))
    input.addEventListener("cancel", () => resolve([]))
    input.click()
  })
}

/** Do what takes long under a dialog that tells how far it is; closing it breaks it off. */
/** @template T @param {string} heading @param {(progress: Progress, signal: AbortSignal) => Promise<T>} work */
async function withProgress(heading, work) {
  const cancel = new AbortController()
  const bar = make("progress", { "aria-label": heading })
  const told = make("p", {})
  const button = make("button", { type: "button" }, texts.cancel)
  const choices = make("div", { class: "choices" }, button)
  const { dialog, closed } = await openDialog("exchange", heading, told, bar, choices)
  button.addEventListener("click", () => dialog.close())
  void closed.then(() => cancel.abort())
  button.focus()
  const outcome = await work((done, count) => {
    bar.max = count
    bar.value = done
    setText(told, texts.progress(done + 1, count))
  }, cancel.signal)
  /** Say how it ended. */
  const end = (/** @type {string} */ words, /** @type {string[]} */ details) => {
    bar.remove()
    setText(button, texts.close)
    told.setAttribute("role", "alert")
    told.replaceChildren(words)
    if (details.length > 0) told.after(make("ul", { class: "refused", tabindex: "0" }, ...details.map((detail) => make("li", { dir: "auto" }, detail))))
  }
  return { outcome, dialog, signal: cancel.signal, end }
}
