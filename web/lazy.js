/** Loads what the first look does not need when it is wanted: the first load stays small. Style sheets: `styles.js`. */

/**
 * Create a function that makes something once, at its first call; one that failed is tried again at the next.
 *
 *     const help = lazy(async () => (await import("./help.js")).createHelp(texts))
 *     button.addEventListener("click", async () => (await help()).show())
 *
 * @template T
 * @param {() => Promise<T>} make
 * @returns {() => Promise<T>}
 */
export function lazy(make) {
  /** @type {Promise<T> | null} */
  let made = null
  return () => {
    made ??= make().catch((error) => {
      made = null
      throw error
    })
    return made
  }
}
