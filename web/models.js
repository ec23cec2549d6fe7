/** The model picker: what the server offers, what the reader chose last, and a word where it is only a demo. */

import { make } from "./dom.js"
import { recall, remember } from "./storage.js"
import { texts } from "./texts-first.js"

/** @typedef {{ id: string, label: string, isDemo: boolean, tools: boolean, images: boolean, available: boolean, reason?: string }} Model */
/** @typedef {{ default: string, models: Model[], imageHosts: string[] }} ModelList `imageHosts`: whose images the policy lets in */

const KEY = "model"

/**
 * Load the list of models; the `status` is 0 where no answer came that may be read.
 *
 * @param {import("./session.js").Session} server
 * @returns {Promise<{ list: ModelList | null, status: number }>}
 */
export async function loadModels({ api, fetch, isElsewhere }) {
  const response = await fetch(`${api}/api/models`).catch(() => null)
  const list = response?.ok ? await response.json().catch(() => null) : null
  // The server allows them in its own page's policy, and this page has another one.
  if (list) list.imageHosts = isElsewhere ? [] : (list.imageHosts ?? [])
  return { list, status: response?.status ?? 0 }
}

/**
 * Fill `select`. It shows the model of the conversation; another choice is that conversation's, and what new ones begin
 * with. `show` is called with the model in use, now and whenever it is another one, and with what it stands in for.
 *
 * @param {HTMLSelectElement} select
 * @param {ModelList} list
 * @param {ReturnType<typeof import("./chat.js").createChat>} chat
 * @param {(model: Model, lost: string) => void} show
 */
export function fillPicker(select, list, chat, show) {
  const usable = list.models.filter((model) => model.available)
  // A bare name is a model's too.
  const find = (/** @type {string | null} */ name) => usable.find(({ id }) => name && (id === name || id.endsWith(`:${name}`)))
  const first = find(recall(KEY)) ?? find(list.default) ?? usable[0]
  if (!first) return
  select.replaceChildren(...list.models.map(option))
  select.hidden = false
  let shown = ""
  const update = () => {
    const model = find(chat.model) ?? first
    if (shown === `${model.id} ${chat.lostModel}`) return
    shown = `${model.id} ${chat.lostModel}`
    select.value = model.id
    show(model, chat.lostModel)
  }
  select.addEventListener("change", () => {
    remember(KEY, select.value)
    chat.defaultModel = select.value
    void chat.configure({ model: select.value })
  })
  chat.defaultModel = first.id
  chat.canAsk = (name) => find(name) !== undefined
  chat.subscribe(update)
  update()
}

/** @param {Model} model */
function option(model) {
  const label = model.available ? model.label : texts.modelUnavailable(model.label, model.reason || texts.unavailable)
  const made = make("option", { value: model.id }, label)
  made.disabled = !model.available
  return made
}
