/**
 * Makes MathML of TeX, by Temml. Loaded with it when an answer has the first formula. What Temml makes is not put on the
 * page: it is read as a value, of which only what maths needs is kept, and elements are made of that one by one.
 */

import { loadStyle } from "./styles.js"
import { texts } from "./texts.js"

/** @typedef {{ tag: string, attrs: Record<string, string>, style: Record<string, string>, children: MathTree[] }} MathElement */
/** @typedef {string | MathElement} MathTree */
/** @typedef {typeof import("temml").default} Temml */
/** @typedef {Record<string, any>} Made a node as Temml makes it */

const LOCATION = "./node_modules/temml/dist"
const NAMESPACE = "http://www.w3.org/1998/Math/MathML"

// What a formula may cost: TeX is a language in which little text can ask for much.
const LONGEST = 8000
const DEEPEST = 80
const MOST = 20_000
const OPTIONS = { throwOnError: true, trust: false, maxExpand: 500, maxSize: /** @type {[number, number]} */ ([25, 300]) }

const words = (/** @type {string} */ text) => new Set(text.split(" "))
// https://w3c.github.io/mathml-core/#mathml-elements-and-attributes, as far as they hold no address and no script.
const ELEMENTS = words(
  "math mi mn mo mtext mspace mrow mfrac msqrt mroot mstyle merror mpadded mphantom menclose msub msup msubsup munder mover" +
    " munderover mmultiscripts mprescripts none mtable mtr mtd",
)
const ATTRIBUTES = words(
  "accent accentunder columnalign columnspan depth display displaystyle fence form height largeop linethickness lspace" +
    " mathbackground mathcolor mathsize mathvariant maxsize minsize movablelimits notation rowspacing rowspan rspace" +
    " scriptlevel separator stretchy symmetric voffset width",
)
const STYLES = words(
  "border borderBottom borderLeft borderRight borderTop bottom color display fontStyle fontWeight height justifyContent left" +
    " marginLeft mathDepth padding paddingBottom paddingLeft paddingRight paddingTop position right textAlign transform width",
)
const CLASSES = /^(?:(?:tml|chr|wbk|ff|longdiv|phasor|circle)-[a-z0-9-]+|math(?:cal|scr)|menclose|actuarial|textcircle|upstrike|downstrike|sout|special-fraction)$/
const VALUE = /^(?!.*(?:url|fixed|sticky))[\w#.%+\-() ,]{0,60}$/

/**
 * Return `tex` as a tree of MathML; throws where it is wrong, or asks for too much.
 *
 * @param {Temml} temml
 * @param {string} tex
 * @param {boolean} isBlock
 */
export function toMath(temml, tex, isBlock) {
  if (tex.length > LONGEST) throw new Error("too long")
  const budget = { nodes: MOST }
  const made = temml.__renderToMathMLTree(tex, { ...OPTIONS, displayMode: isBlock, macros: {} })
  const [math] = read(made, budget, 0)
  if (typeof math === "string" || math?.tag !== "math") throw new Error("no formula")
  return math
}

/** @param {Made} node @param {{ nodes: number }} budget @param {number} depth @returns {MathTree[]} */
function read(node, budget, depth) {
  if (--budget.nodes < 0 || depth > DEEPEST) throw new Error("too large")
  if (typeof node.text === "string") return [node.text]
  // A reference to a number that nobody counts here: \ref{a}
  if (typeof node.href === "string") return [{ tag: "mtext", attrs: {}, style: {}, children: [node.href.slice(1)] }]
  const children = (node.children ?? []).flatMap((/** @type {Made} */ child) => read(child, budget, depth + 1))
  if (!ELEMENTS.has(node.type)) return children
  const attrs = kept(node.attributes, ATTRIBUTES)
  const classes = (node.classes ?? []).filter((/** @type {string} */ name) => CLASSES.test(name)).join(" ")
  if (classes) attrs.class = classes
  return [{ tag: node.type, attrs, style: kept(node.style, STYLES), children }]
}

/** @param {Record<string, unknown> | undefined} values @param {Set<string>} names */
function kept(values, names) {
  const entries = Object.entries(values ?? {}).map(([name, value]) => [camel(name), String(value)])
  return Object.fromEntries(entries.filter(([name, value]) => names.has(name) && VALUE.test(value)))
}

/** @param {string} name */
function camel(name) {
  return name.replace(/-([a-z])/g, (_, letter) => letter.toUpperCase())
}

// --- on the page -------------------------------------------------------------------------------------------------------

/**
 * Load Temml; returns the function that puts a formula into an element.
 *
 * @returns {Promise<(place: HTMLElement, tex: string, isBlock: boolean) => void>}
 */
export async function loadMath() {
  const [library] = await Promise.all([import(`${LOCATION}/temml.mjs`), loadStyle(`${LOCATION}/Temml-Local.css`)])
  document.addEventListener("copy", copyTex)
  const widths = new ResizeObserver((changes) => changes.forEach(({ target }) => letScroll(target)))
  return (place, tex, isBlock) => {
    place.replaceChildren(build(toMath(library.default, tex, isBlock)))
    if (isBlock) widths.observe(place)
  }
}

/** What can be scrolled is reached by the keyboard. */
/** @param {Element} place */
function letScroll(place) {
  const isWide = place.scrollWidth > place.clientWidth
  for (const [name, value] of Object.entries({ tabindex: "0", role: "group", "aria-label": texts.formula })) {
    if (isWide) place.setAttribute(name, value)
    else place.removeAttribute(name)
  }
}

/** @param {MathTree} tree @returns {Node} */
function build(tree) {
  if (typeof tree === "string") return new Text(tree)
  const element = document.createElementNS(NAMESPACE, tree.tag)
  for (const [name, value] of Object.entries(tree.attrs)) element.setAttribute(name, value)
  // Not by an attribute: the page's policy forbids those.
  if (element instanceof MathMLElement) Object.assign(element.style, tree.style)
  element.append(...tree.children.map(build))
  return element
}

/** A formula that is copied is its TeX, whole. */
/** @param {ClipboardEvent} event */
function copyTex(event) {
  const selection = getSelection()
  if (!selection || selection.isCollapsed || !event.clipboardData) return
  const range = selection.getRangeAt(0)
  const { commonAncestorContainer: place } = range
  const around = (place instanceof Element ? place : place.parentElement)?.closest(".formula")
  const copied = document.createElement("div")
  copied.className = "offscreen"
  copied.append(around ? around.cloneNode(true) : range.cloneContents())
  const formulas = [...copied.querySelectorAll(".formula[data-tex]")]
  if (formulas.length === 0) return
  for (const one of formulas) {
    one.textContent = one.getAttribute("data-tex")
    one.classList.add("source")
  }
  document.body.append(copied)
  event.clipboardData.setData("text/plain", copied.innerText)
  event.clipboardData.setData("text/html", copied.innerHTML)
  copied.remove()
  event.preventDefault()
}
