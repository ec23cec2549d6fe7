/** Shows the questions that wait to be sent: each can be edited or removed, and the first one sent where it is held. */

import { make } from "./dom.js"
import { showThumbs } from "./thumbs.js"
import { texts } from "./texts.js"

/** @typedef {import("./chat.js").Queued} Queued */

/**
 * @param {HTMLElement} list
 * @param {Record<"edit" | "remove" | "send", (id: string) => void>} deeds
 * @returns {(queued: readonly Queued[], isHeld: boolean) => void}
 */
export function createQueue(list, deeds) {
  return (queued, isHeld) => {
    list.hidden = queued.length === 0
    list.replaceChildren(...queued.map((question, index) => item(question, isHeld && index === 0)))
  }

  /** @param {Queued} question @param {boolean} canSend */
  function item(question, canSend) {
    const { id, text, images, files, isHeld } = question
    const words = make("p", {}, make("span", { class: "queue-mark" }, texts.queueNext), " ", make("span", { class: "queue-text", dir: "auto" }, text))
    const thumbs = make("ul", { class: "thumbs", "aria-label": texts.attached })
    showThumbs(thumbs, { images, files })
    const send = canSend ? [button(texts.sendNow, "send-now", text, () => deeds.send(id))] : []
    const edit = button(texts.edit, "quiet", text, () => deeds.edit(id))
    const remove = button(texts.removeTitle, "quiet", text, () => deeds.remove(id))
    const lost = isHeld ? [make("p", { class: "queue-lost" }, texts.queueLost)] : []
    return make("li", {}, make("div", { class: "queue-said" }, words, thumbs, ...lost), make("div", { class: "queue-deeds" }, ...send, edit, remove))
  }

  /** @param {string} label @param {string} kind @param {string} of @param {() => void} act */
  function button(label, kind, of, act) {
    const made = make("button", { type: "button", class: kind, "aria-label": texts.queueLabel(label, of) }, label)
    made.addEventListener("click", act)
    return made
  }
}
