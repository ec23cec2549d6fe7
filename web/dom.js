/** Makes elements, without any HTML: one by one, text as text. A text that only grew has its new end added to its node. */

/**
 * Create an element with attributes and children.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} [attrs]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, attrs = {}, ...children) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attrs)) made.setAttribute(name, value)
  made.append(...children)
  return made
}

/**
 * Set the text of `node`, by adding to it where it only grew.
 *
 * @param {Node} node an element that holds text alone, or a text node
 * @param {string} text
 */
export function setText(node, text) {
  const target = node instanceof Text ? node : (node.firstChild ?? node.appendChild(new Text()))
  const old = target.nodeValue ?? ""
  if (old === text) return
  if (target instanceof Text && text.startsWith(old)) target.appendData(text.slice(old.length))
  else target.nodeValue = text
}

/** Show words in their place, which is hidden while there are none. */
/** @param {HTMLElement} place @param {string} words */
export function say(place, words) {
  place.hidden = words === ""
  setText(place, words)
}

/**
 * Return a function that calls `draw` at the next frame, however often it is called before that.
 *
 * @param {() => void} draw
 */
export function oncePerFrame(draw) {
  let isAsked = false
  return () => {
    if (isAsked) return
    isAsked = true
    requestAnimationFrame(() => {
      isAsked = false
      draw()
    })
  }
}
