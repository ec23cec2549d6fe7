/** Loads a style sheet of our own when what it is for is loaded, once. */

/** @type {Map<string, Promise<void>>} */
const styles = new Map()

/** Load a style sheet; without it the page still works, only plainer. */
/** @param {string} name @param {string} [media] */
export function loadStyle(name, media = "all") {
  const loading = styles.get(name) ?? load(name, media)
  styles.set(name, loading)
  return loading
}

/** @param {string} name @param {string} media @returns {Promise<void>} */
function load(name, media) {
  const link = document.createElement("link")
  link.rel = "stylesheet"
  link.media = media
  link.href = new URL(name, import.meta.url).href
  // What is for paper comes last, whenever it was loaded.
  document.head.insertBefore(link, document.querySelector("link[media=print]"))
  return new Promise((resolve) => {
    link.addEventListener("load", () => resolve())
    link.addEventListener("error", () => {
      // It may come the next time.
      styles.delete(name)
      link.remove()
      resolve()
    })
  })
}
