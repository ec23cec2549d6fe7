/**
 * Makes of a file an image that a model can be sent: a part with its bytes in base64. One that is too large is drawn
 * smaller, a photo that carries more than its picture (which way is up, where it was taken) is drawn upright and without
 * it; all others stay byte for byte, so a GIF that is small enough still moves.
 */

import { texts } from "./texts.js"

/** @typedef {{ type: "image", mediaType: string, data: string }} ImagePart */

/** By what their bytes begin with; a file's name may say something else. @type {Record<string, RegExp>} */
const TYPES = {
  "image/png": /^\x89PNG\r\n\x1a\n/,
  "image/jpeg": /^\xff\xd8\xff/,
  "image/webp": /^RIFF[^]{4}WEBP/,
  "image/gif": /^GIF8[79]a/,
}

// The server's limits; see server/images.py for where they are from.
export const MAX_IMAGES = 20
const MAX_BYTES = 3_932_160

// A model looks at no more, and where there are many images no API takes more.
const MAX_SIDE = 2000

/**
 * Return the part for a file, or why there can be none.
 *
 * @param {Blob & { name?: string }} file
 * @returns {Promise<ImagePart | string>}
 */
export async function readImage(file) {
  const name = file.name ?? ""
  const bytes = new Uint8Array(await file.arrayBuffer())
  const mediaType = typeOf(bytes)
  if (!mediaType) return texts.brokenImage(name)
  const bitmap = await createImageBitmap(new Blob([bytes], { type: mediaType })).catch(() => null)
  if (!bitmap) return texts.brokenImage(name)
  const side = Math.max(bitmap.width, bitmap.height)
  const isFit = side <= MAX_SIDE && bytes.length <= MAX_BYTES && !hasExif(bytes)
  const drawn = isFit ? { mediaType, bytes } : await draw(bitmap, mediaType, Math.min(1, MAX_SIDE / side))
  bitmap.close()
  return drawn ? { type: "image", mediaType: drawn.mediaType, data: toBase64(drawn.bytes) } : texts.largeImage(name)
}

/** Return the media type that bytes begin like, "" where it is none that is taken. */
/** @param {Uint8Array} bytes */
export function typeOf(bytes) {
  const beginning = String.fromCharCode(...bytes.subarray(0, 12))
  return Object.keys(TYPES).find((type) => TYPES[type].test(beginning)) ?? ""
}

/** @param {Uint8Array} bytes */
export function hasExif(bytes) {
  const beginning = String.fromCharCode(...bytes.subarray(0, 4096))
  // A WebP has it at its end, and a flag for it at its beginning, beside that of one that moves.
  return /Exif\0|eXIf/.test(beginning) || (beginning.startsWith("VP8X", 12) && (bytes[20] & 10) === 8)
}

/** @param {Uint8Array} bytes */
export function toBase64(bytes) {
  let text = ""
  // A call takes only so many arguments.
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768))
  return btoa(text)
}

/** Draw an image smaller, until it is small enough. What may be seen through stays so while that is small enough. */
/** @param {ImageBitmap} bitmap @param {string} mediaType @param {number} scale */
async function draw(bitmap, mediaType, scale) {
  const types = mediaType === "image/jpeg" ? ["image/jpeg"] : ["image/png", "image/jpeg"]
  for (let size = scale; size > scale / 8; size /= 2) {
    const canvas = new OffscreenCanvas(Math.max(1, Math.round(bitmap.width * size)), Math.max(1, Math.round(bitmap.height * size)))
    const context = canvas.getContext("2d")
    if (!context) return null
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height)
    for (const type of types) {
      if (type === "image/jpeg") {
        // What JPEG cannot leave open would be black.
        context.globalCompositeOperation = "destination-over"
        context.fillStyle = "white"
        context.fillRect(0, 0, canvas.width, canvas.height)
      }
      const blob = await canvas.convertToBlob({ type, quality: 0.85 })
      if (blob.size <= MAX_BYTES && blob.type === type) return { mediaType: type, bytes: new Uint8Array(await blob.arrayBuffer()) }
    }
  }
  return null
}
