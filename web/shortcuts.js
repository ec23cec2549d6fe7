/** What the keys of `keys.js` do. Loaded with the first key that is pressed, which it still hears. */

import { heard, nameOf } from "./keys.js"

/** @typedef {Awaited<ReturnType<typeof import("./drawing.js").createDrawing>>} Drawing */
/**
 * @typedef {object} Around
 * @property {() => Drawing | null} drawing null while there is nothing to go to
 * @property {ReturnType<typeof import("./chat.js").createChat>} chat
 * @property {Record<"input" | "create" | "settings" | "search" | "opener" | "folder", HTMLElement>} elements
 * @property {() => Promise<void>} help
 */

/**
 * Create a function that hears keys.
 *
 * @param {Around} around
 * @returns {(event: KeyboardEvent) => void}
 */
export function createShortcuts({ drawing, chat, elements, help }) {
  const { input, create, settings, search, opener, folder } = elements
  const isListShown = () => search.checkVisibility({ visibilityProperty: true })
  const press = (/** @type {string} */ selector) => drawing()?.walk.press(selector) ?? false
  const go = (/** @type {"previousElementSibling" | "nextElementSibling"} */ way) => {
    drawing()?.view.finish()
    drawing()?.walk.move(way)
    drawing()?.follower.act("leave")
  }
  const deeds = {
    help,
    write: () => input.focus(),
    stop: () => chat.isLoading && chat.stop(),
    create: () => create.click(),
    search: () => (isListShown() ? search.focus() : opener.click()),
    list: () => (isListShown() ? folder : opener).click(),
    settings: () => settings.click(),
    previous: () => go("previousElementSibling"),
    next: () => go("nextElementSibling"),
    end: () => drawing()?.follower.act("jump"),
    copy: () => press(".foot > .copy"),
    edit: () => press(".foot > .edit"),
    regenerate: () => press(".foot > .change:not(.edit)"),
    back: () => press(".step:first-child"),
    forth: () => press(".step:last-child"),
    facts: () => press(".foot > .details"),
  }
  return (event) => {
    // All of it is to be found.
    if (nameOf(event) === "Mod+f") drawing()?.view.finish()
    heard(event, deeds)
  }
}
