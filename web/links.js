/**
 * Decides which addresses of an answer become links. Every href of the page passes `safeLink`, so a scheme that it
 * does not know cannot be clicked, and the host that a click leads to is always there to read.
 */

const SCHEMES = new Set(["http:", "https:", "mailto:"])

/** @typedef {{ href: string, host: string }} SafeLink */

/**
 * Return the address as the browser reads it with the host to show, or null where a click could do harm.
 *
 * Relative addresses are refused as well: they would lead into this server, which the answer knows nothing about.
 *
 * @param {string} address
 * @returns {SafeLink | null}
 */
export function safeLink(address) {
  let url
  try {
    // The URL parser drops tabs, line feeds and leading controls as the browser does, so "java\nscript:" is seen
    // for what it is: https://url.spec.whatwg.org/#concept-basic-url-parser
    url = new URL(address)
  } catch {
    return null
  }
  if (!SCHEMES.has(url.protocol)) return null
  return { href: url.href, host: url.protocol === "mailto:" ? decodePath(url.pathname) : url.host }
}

/**
 * Return true where the text of a link already begins with its host, so that it need not be shown again.
 *
 * @param {string} text
 * @param {SafeLink} link
 */
export function namesHost(text, link) {
  const bare = text.trim().replace(/^(https?:\/\/|mailto:)/i, "").toLowerCase()
  const host = link.host.toLowerCase()
  return bare.startsWith(host) && /^([/?#]|$)/.test(bare.slice(host.length))
}

// A picture in the answer itself asks nobody for anything. SVG is left out: it is a document.
const INLINE = /^data:image\/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}$/i
const LARGEST_INLINE = 4_000_000

/**
 * Return true for an address that holds an image itself, of a kind and size that can be shown.
 *
 * @param {string} address
 */
export function isInlineImage(address) {
  return address.length < LARGEST_INLINE && INLINE.test(address)
}

/** @param {string} path */
function decodePath(path) {
  try {
    return decodeURIComponent(path)
  } catch {
    return path
  }
}
