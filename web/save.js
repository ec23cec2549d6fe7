/** Gives the reader a file. Loaded when one is asked for. */

import { make } from "./dom.js"

// A browser may ask where to put it before it reads it.
const KEPT_MS = 60_000

/**
 * Save a file.
 *
 * @param {string} name
 * @param {Blob} blob
 */
export function saveFile(name, blob) {
  const href = URL.createObjectURL(blob)
  make("a", { href, download: name }).click()
  setTimeout(() => URL.revokeObjectURL(href), KEPT_MS)
}

/** Return `title` as a part of a file's name. */
/** @param {string} title */
export function fileName(title) {
  return title.replace(/[^\p{L}\p{M}\p{N}_-]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 100) || "conversation"
}
