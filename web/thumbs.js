/**
 * What is attached to a question as the reader sees it: images small and all of one size, so that nothing moves when they
 * appear, and text files by name and size. On a click either is shown large.
 */

import { make } from "./dom.js"
import { loadStyle } from "./styles.js"
import { texts } from "./texts.js"

/** @typedef {import("./files.js").Attached} Attached */
/** @typedef {import("./images.js").ImagePart} ImagePart */
/** @typedef {import("./shown.js").TextFile} TextFile */

/** They are shown before any message is. */
export const styled = Promise.all(["messages.css", "attached.css"].map((name) => loadStyle(name)))

/**
 * Show in `list` what is attached, each with a button that removes it where `change` is given.
 *
 * @param {HTMLElement} list
 * @param {Attached} attached
 * @param {(rest: Attached) => void} [change]
 */
export function showThumbs(list, { images, files }, change) {
  list.hidden = images.length + files.length === 0
  list.replaceChildren(
    ...images.map((image, index) => {
      const label = texts.imageNumber(index + 1, images.length)
      return item(label, thumb(image, label), change && (() => change({ images: images.toSpliced(index, 1), files })))
    }),
    ...files.map((file, index) => item(file.name, chip(file), change && (() => change({ images, files: files.toSpliced(index, 1) })))),
  )
}

/** @param {string} label @param {HTMLElement} shown @param {() => void} [remove] */
function item(label, shown, remove) {
  const made = make("li", {}, shown)
  if (!remove) return made
  const button = make("button", { type: "button", class: "remove", "aria-label": texts.remove(label), title: texts.removeTitle }, "\u00d7")
  button.addEventListener("click", remove)
  made.append(button)
  return made
}

/** @param {ImagePart} image @param {string} label */
function thumb(image, label) {
  const button = make("button", { type: "button", class: "thumb", "aria-label": texts.enlarge(label) }, picture(image, label))
  button.addEventListener("click", async () => (await import("./preview.js")).enlarge(picture(image, label), label))
  return button
}

/** @param {TextFile} file */
function chip(file) {
  const { name, text } = file
  const words = make("span", { class: "file-name", dir: "auto" }, name)
  const size = make("span", { class: "file-size" }, texts.size(new Blob([text]).size))
  const button = make("button", { type: "button", class: "chip", title: texts.showFile(name) }, words, " ", size)
  button.addEventListener("click", async () => (await import("./preview.js")).showFile(file))
  return button
}

/** @param {ImagePart} image @param {string} alt */
function picture({ mediaType, data }, alt) {
  return make("img", { src: `data:${mediaType};base64,${data}`, alt, width: "96", height: "96" })
}
