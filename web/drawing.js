/** Brings all that draws messages. Loaded when there is the first one to draw, or when the reader begins to write it. */

import { createCodeBlock } from "./code.js"
import { createFormula } from "./formula.js"
import { loadStyle } from "./styles.js"
import { createMarkdown, createPlain } from "./markdown.js"
import { createPatch } from "./patch.js"
import { createPicture } from "./pictures.js"
import { followScroll } from "./scroll.js"
import { createView } from "./view.js"
import { createWalk } from "./walk.js"

/** @typedef {{ list: HTMLElement, scroller: HTMLElement, content: HTMLElement, jump: HTMLElement }} Elements */
/** @typedef {Omit<import("./view.js").Tools, "markdown" | "patch" | "keepPlace"> & { imageHosts: ReadonlySet<string>, noMarkdown: () => void }} Around `noMarkdown` is called where its library is missing */

const MARKED = "./node_modules/marked/lib/marked.esm.js"

/**
 * Create the view that draws into `list`, the follower of its end, and what goes from message to message.
 *
 * @param {Elements} elements
 * @param {Around} around
 */
export async function createDrawing({ list, scroller, content, jump }, { imageHosts, noMarkdown, ...tools }) {
  void loadStyle("print.css", "print")
  const [markdown] = await Promise.all([loadMarkdown(noMarkdown), ...["messages.css", "prose.css", "attached.css"].map((name) => loadStyle(name))])
  const patch = createPatch({ "code-block": createCodeBlock, "tex-formula": createFormula(), "image-card": createPicture(imageHosts) })
  const follower = followScroll(scroller, content, jump)
  const keepPlace = (/** @type {() => void} */ change) => follower.keepPlace(change)
  return { follower, walk: createWalk(scroller, list), view: createView(list, { ...tools, markdown, patch, keepPlace }) }
}

/** The text is readable without marked: the page must not wait for ever, nor fail, where it is missing. */
/** @param {() => void} noMarkdown */
async function loadMarkdown(noMarkdown) {
  try {
    /** @type {typeof import("marked")} */
    const marked = await import(MARKED)
    return createMarkdown(marked)
  } catch {
    noMarkdown()
    return createPlain()
  }
}
