/** What this browser keeps for the page. One that keeps nothing for this site throws at the mention of its storage. */

// The page may share its origin with others. theme.js reads two of these names before anything else is loaded.
const PREFIX = "chatstream."

/** @typedef {"localStorage" | "sessionStorage"} Place the second is the tab's, and ends with it */

/** @param {string} key @param {Place} [place] @returns {string | null} */
export function recall(key, place = "localStorage") {
  try {
    return globalThis[place].getItem(PREFIX + key)
  } catch {
    return null
  }
}

/** Remember a choice that `theme.js` sets, here as in other tabs. */
/** @param {string} key @param {string} value */
export function choose(key, value) {
  remember(key, value)
  dispatchEvent(new StorageEvent("storage", { key: PREFIX + key, newValue: value }))
}

/** @param {string} key @param {string} value "" to forget it @param {Place} [place] */
export function remember(key, value, place = "localStorage") {
  try {
    if (value) globalThis[place].setItem(PREFIX + key, value)
    else globalThis[place].removeItem(PREFIX + key)
  } catch {
    return
  }
}
