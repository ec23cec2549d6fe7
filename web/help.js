/** The sheet of the page's keys, made of the table that binds them. Loaded when somebody asks for it. */

import { openDialog } from "./dialog.js"
import { make } from "./dom.js"
import { KEYS, letters } from "./keys.js"
import { texts } from "./texts.js"

export async function showHelp() {
  const list = make("dl", { class: "keys" }, ...KEYS.flatMap(({ keys, deed }) => [make("dt", {}, texts.keys[deed]), make("dd", {}, ...keys.map(written))]))
  const box = make("input", { type: "checkbox" })
  box.checked = letters.isOn
  box.addEventListener("change", () => (letters.isOn = box.checked))
  await openDialog("help", texts.help, list, make("p", {}, texts.writingKeys), make("label", { class: "check" }, box, texts.letters))
}

/** @param {string} key */
function written(key) {
  const isMac = /Mac|iP/.test(navigator.platform)
  return make("kbd", {}, key.split("+").map((part) => texts.keyNames[part]?.[Number(isMac)] ?? part.toUpperCase()).join(isMac ? "" : " + "))
}
