/**
 * Makes of a file what a model can be sent: an image, or the text that it holds. What a file is its bytes say, not its
 * name. A text is UTF-8, or UTF-16 with a byte order mark, and has no NUL.
 */

import { MAX_IMAGES, readImage, typeOf } from "./images.js"
import { texts } from "./texts.js"

/** @typedef {import("./images.js").ImagePart} ImagePart */
/** @typedef {import("./shown.js").TextFile} TextFile */
/** @typedef {{ images: readonly ImagePart[], files: readonly TextFile[] }} Attached */

// A model reads about four bytes as a token: this is a quarter of what a large one can keep in mind.
const MAX_TEXT = 256 * 1024
const MAX_TEXTS = 1024 * 1024
const MAX_FILES = 20
// The server takes 32 MiB in one request.
const MAX_DATA = 30_000_000
// How many bytes show what a file is.
const BEGINNING = 4096

/** What a refused file is called, by what it begins with. @type {[RegExp, string][]} */
const OTHERS = [
  [/^%PDF-/, "PDF"],
  [/^PK\x03\x04/, "ZIP"],
  [/^....ftyp(heic|heix|mif1)/s, "HEIC"],
  [/^(BM|II\*\0|MM\0\*)/, "BMP/TIFF"],
]

/**
 * Return what is attached with a file, or why it cannot be.
 *
 * @param {File} file
 * @param {Attached} attached
 * @param {string} blindness why the model takes no images, "" where it does
 * @returns {Promise<Attached | string>}
 */
export async function attach(file, { images, files }, blindness) {
  const beginning = new Uint8Array(await file.slice(0, BEGINNING).arrayBuffer())
  if (typeOf(beginning)) {
    if (blindness) return blindness
    if (images.length >= MAX_IMAGES) return texts.tooManyImages(MAX_IMAGES)
    const image = await readImage(file)
    if (typeof image === "string") return image
    const size = [...images, image].reduce((sum, { data }) => sum + data.length, 0)
    return size > MAX_DATA ? texts.tooMuch : { images: [...images, image], files }
  }
  if (files.length >= MAX_FILES) return texts.tooManyFiles(MAX_FILES)
  const text = await readText(file, beginning)
  if (typeof text === "string") return text
  const size = [...files, text].reduce((sum, each) => sum + each.text.length, 0)
  return size > MAX_TEXTS ? texts.tooMuchText(MAX_TEXTS) : { images, files: [...files, text] }
}

/** @param {File} file @param {Uint8Array} beginning @returns {Promise<TextFile | string>} */
async function readText(file, beginning) {
  const refusal = texts.notTaken(file.name, kindOf(beginning) || file.type)
  if (kindOf(beginning) || (!encodingOf(beginning).startsWith("utf-16") && beginning.includes(0))) return refusal
  if (file.size > MAX_TEXT) return texts.largeFile(file.name, file.size, MAX_TEXT)
  const text = decode(new Uint8Array(await file.arrayBuffer()))
  return text === null ? refusal : { name: file.name, text }
}

/** Return the text of bytes, null where they are none. */
/** @param {Uint8Array} bytes */
export function decode(bytes) {
  try {
    const text = new TextDecoder(encodingOf(bytes), { fatal: true }).decode(bytes)
    return text.includes("\0") ? null : text
  } catch {
    return null
  }
}

/** @param {Uint8Array} bytes */
function encodingOf([first, second]) {
  if (first === 0xff && second === 0xfe) return "utf-16le"
  return first === 0xfe && second === 0xff ? "utf-16be" : "utf-8"
}

/** @param {Uint8Array} bytes */
function kindOf(bytes) {
  const beginning = String.fromCharCode(...bytes.subarray(0, 16))
  return OTHERS.find(([pattern]) => pattern.test(beginning))?.[1] ?? ""
}
