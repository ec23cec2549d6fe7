/**
 * The keys of the page: one table binds them and makes the help sheet. A key alone counts only where nobody writes, and
 * can be turned off, because who speaks to the computer says letters without meaning keys (WCAG 2.1.4). No key of the
 * browser's own editing or of assistive technology is taken.
 */

import { recall, remember } from "./storage.js"

/** @typedef {"help" | "write" | "search" | "create" | "stop" | "previous" | "next" | "end" | "copy" | "edit" | "regenerate" | "back" | "forth" | "facts" | "list" | "settings"} Deed */
/** @typedef {{ keys: readonly string[], deed: Deed }} Binding */

/** "Mod" is Ctrl, or Command on a Mac; a letter is written as it is typed. @type {readonly Binding[]} */
export const KEYS = [
  { keys: ["?"], deed: "help" },
  { keys: ["/"], deed: "write" },
  { keys: ["Escape"], deed: "stop" },
  { keys: ["Mod+Shift+o", "n"], deed: "create" },
  { keys: ["Mod+Shift+f", "s"], deed: "search" },
  { keys: ["b"], deed: "list" },
  { keys: ["Mod+,"], deed: "settings" },
  { keys: ["k", "Alt+ArrowUp"], deed: "previous" },
  { keys: ["j", "Alt+ArrowDown"], deed: "next" },
  { keys: ["g"], deed: "end" },
  { keys: ["c"], deed: "copy" },
  { keys: ["e"], deed: "edit" },
  { keys: ["r"], deed: "regenerate" },
  { keys: ["["], deed: "back" },
  { keys: ["]"], deed: "forth" },
  { keys: ["i"], deed: "facts" },
]

const FIELDS = "input, textarea, select, [contenteditable]"
const SETTING = "letters"
// A menu, a dialog or a drawer has keys of its own.
const OVER_IT = "dialog[open], :popover-open:not(#toasts), #sidebar.open"

/**
 * Return a key as the table writes it.
 *
 * @param {Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey" | "shiftKey"> & { getModifierState?: (key: string) => boolean }} event
 */
export function nameOf(event) {
  const { key, ctrlKey, metaKey, altKey, shiftKey } = event
  // AltGr is how many keyboards type a bracket, and is told as Ctrl and Alt.
  const isTyped = event.getModifierState?.("AltGraph") ?? false
  const mod = (ctrlKey || metaKey) && !isTyped ? "Mod+" : ""
  const alt = altKey && !isTyped ? "Alt+" : ""
  // Shift tells letters apart, and belongs to whatever else it types.
  const shift = shiftKey && /^(\p{L}|\w\w+)$/u.test(key) ? "Shift+" : ""
  return mod + alt + shift + (key.length === 1 ? key.toLowerCase() : key)
}

/** Return what a key is to do, in a field or elsewhere, with letters or without. */
/** @param {string} name @param {boolean} isInField @param {boolean} withLetters */
export function deedOf(name, isInField, withLetters) {
  if (name.length === 1 && (isInField || !withLetters)) return null
  if (name.startsWith("Alt+") && isInField) return null
  return KEYS.find(({ keys }) => keys.includes(name))?.deed ?? null
}

/** Whether keys without a modifier count. */
export const letters = {
  get isOn() {
    return recall(SETTING) !== "off"
  },
  set isOn(isOn) {
    remember(SETTING, isOn ? "" : "off")
  },
}

/**
 * Do what a key is bound to; a deed that returns false leaves the key to the browser.
 *
 * @param {KeyboardEvent} event
 * @param {Partial<Record<Deed, () => unknown>>} deeds
 */
export function heard(event, deeds) {
  const { target, isComposing, defaultPrevented, repeat } = event
  if (isComposing || defaultPrevented || document.querySelector(OVER_IT)) return
  const isInField = target instanceof Element && target.closest(FIELDS) !== null
  const deed = deedOf(nameOf(event), isInField, letters.isOn)
  if (!deed || (repeat && deed !== "previous" && deed !== "next")) return
  if (deeds[deed]?.() !== false) event.preventDefault()
}
