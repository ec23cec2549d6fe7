/** The settings: of the conversation that is shown, of the page, and what is known of the server. Loaded when opened. */

import { openDialog } from "./dialog.js"
import { make } from "./dom.js"
import { startExport, startImport } from "./exchange.js"
import { choose, recall } from "./storage.js"
import { texts } from "./texts.js"

/** @typedef {import("./exchange.js").Around & { chat: ReturnType<typeof import("./chat.js").createChat> }} Around */

const THEMES = /** @type {const} */ (["system", "light", "dark"])

/** @param {Around} around */
export async function openSettings(around) {
  const { chat, server } = around
  const { visit, system: before } = chat
  const system = make("textarea", { id: "system", rows: "5", dir: "auto", maxlength: "100000", "aria-describedby": "system-note" })
  system.value = before
  const { dialog, closed } = await openDialog(
    "settings-panel",
    texts.settings,
    section(texts.settingsHere, make("label", { for: system.id }, texts.systemPrompt), system, make("p", { id: "system-note" }, texts.systemNote)),
    section(texts.settingsPage, themes()),
    section(texts.settingsData, make("div", { class: "choices" }, deed(texts.import, () => startImport(around)), deed(texts.exportAll, () => startExport(around))), make("p", {}, texts.importHint)),
    section(texts.about, about(server)),
  )
  await closed
  // Whose it was may be gone meanwhile, deleted in another tab.
  const written = system.value.trim()
  if (visit === chat.visit && written !== before) void chat.configure({ system: written })

  /** @param {string} label @param {() => Promise<void>} act */
  function deed(label, act) {
    const button = make("button", { type: "button" }, label)
    button.addEventListener("click", () => {
      dialog.close()
      void act()
    })
    return button
  }
}

/** @param {string} heading @param {...Node} content */
function section(heading, ...content) {
  return make("section", {}, make("h3", {}, heading), ...content)
}

function themes() {
  const chosen = recall("theme") ?? "system"
  const labels = THEMES.map((theme) => {
    const radio = make("input", { type: "radio", name: "theme", value: theme })
    radio.checked = theme === chosen
    return make("label", {}, radio, texts.themes[theme])
  })
  const name = make("span", { id: "theme-name" }, texts.theme)
  const group = make("div", { class: "segments", role: "radiogroup", "aria-labelledby": name.id }, ...labels)
  group.addEventListener("change", ({ target }) => {
    if (target instanceof HTMLInputElement) choose("theme", target.value === "system" ? "" : target.value)
  })
  return make("div", { class: "setting" }, name, group)
}

/** @param {import("./session.js").Session} server */
function about({ api, fetch, isElsewhere }) {
  const address = `${api}/api/openapi.json`
  const link = make("a", { href: address, target: "_blank", rel: "noreferrer" }, texts.apiLink)
  // A server elsewhere lets pages ask, and no links.
  const words = make("p", {}, ...(isElsewhere ? [] : [link]))
  void fetch(address)
    .then((response) => response.json())
    .then(({ info }) => words.prepend(`${texts.title} ${info.version}. `))
    .catch(() => {})
  return words
}
