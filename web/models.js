/** The model picker: what the server offers, what the reader chose last, and a word where it is only a demo. */

import { make } from "./dom.js"
import { texts } from "./texts.js"

/** @typedef {{ id: string, label: string, isDemo: boolean, tools: boolean, images: boolean, available: boolean, reason?: string }} Model */
/** @typedef {{ default: string, models: Model[] }} ModelList */

const KEY = "chatstream.model"

/**
 * Load the list of models.
 *
 * @returns {Promise<{ list: ModelList | null, needsToken: boolean }>}
 */
export async function loadModels() {
  const response = await fetch("api/models").catch(() => null)
  const list = response?.ok ? await response.json().catch(() => null) : null
  return { list, needsToken: response?.status === 401 }
}

/**
 * Fill `select` and call `choose` with the model in use, now and at each change.
 *
 * @param {HTMLSelectElement} select
 * @param {ModelList} list
 * @param {(model: Model) => void} choose
 */
export function fillPicker(select, list, choose) {
  select.replaceChildren(...list.models.map(option))
  const usable = list.models.filter((model) => model.available)
  const remembered = usable.find((model) => model.id === recall())
  const current = remembered ?? usable.find((model) => model.id === list.default) ?? usable[0]
  if (!current) return
  select.value = current.id
  select.hidden = false
  choose(current)
  select.addEventListener("change", () => {
    const chosen = usable.find((model) => model.id === select.value)
    if (!chosen) return
    remember(chosen.id)
    choose(chosen)
  })
}

/** @param {Model} model */
function option(model) {
  const label = model.available ? model.label : texts.modelUnavailable(model.label, model.reason || texts.unavailable)
  const made = make("option", { value: model.id }, label)
  made.disabled = !model.available
  return made
}

// A browser that keeps nothing for this site throws at the mention of its storage.
function recall() {
  try {
    return localStorage.getItem(KEY)
  } catch {
    return null
  }
}

/** @param {string} id */
function remember(id) {
  try {
    localStorage.setItem(KEY, id)
  } catch {
    return
  }
}
