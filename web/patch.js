/**
 * Makes the plain trees of `tokens.js` visible. `patch` changes only what differs, so a node that stays keeps the
 * reader's selection. No HTML is parsed: elements are created one by one, text is set as text.
 */

import { setText } from "./dom.js"

/** @typedef {import("./tokens.js").Tree} Tree */
/** @typedef {import("./tokens.js").TreeElement} TreeElement */
/** @typedef {{ element: HTMLElement, update: (tree: TreeElement) => void }} Component */
/** @typedef {Record<string, () => Component>} Components */

/**
 * Create a function that changes the children of `parent` from the trees `before` to the trees `after`.
 *
 * @param {Components} components the tags that are more than an element
 * @returns {(parent: Node, before: Tree[], after: Tree[]) => void}
 */
export function createPatch(components) {
  const patcher = new Patcher(components)
  return (parent, before, after) => patcher.patch(parent, before, after)
}

class Patcher {
  #components
  /** @type {WeakMap<Node, Component>} */
  #made = new WeakMap()

  /** @param {Components} components */
  constructor(components) {
    this.#components = components
  }

  /** @param {Node} parent @param {Tree[]} before @param {Tree[]} after */
  patch(parent, before, after) {
    for (let extra = before.length; extra > after.length; extra--) parent.lastChild?.remove()
    const kept = Math.min(before.length, after.length)
    for (let index = 0; index < kept; index++) {
      if (before[index] !== after[index]) this.#update(parent.childNodes[index], before[index], after[index])
    }
    for (const tree of after.slice(kept)) parent.appendChild(this.#create(tree))
  }

  /** @param {Node} node @param {Tree} before @param {Tree} after */
  #update(node, before, after) {
    if (typeof before === "string" && typeof after === "string") return setText(node, after)
    if (typeof before === "string" || typeof after === "string" || before.tag !== after.tag) {
      return void node.parentNode?.replaceChild(this.#create(after), node)
    }
    const component = this.#made.get(node)
    if (component) return component.update(after)
    updateAttributes(/** @type {Element} */ (node), before.attrs, after.attrs)
    this.patch(node, before.children, after.children)
  }

  /** @param {Tree} tree @returns {Node} */
  #create(tree) {
    if (typeof tree === "string") return new Text(tree)
    if (Object.hasOwn(this.#components, tree.tag)) {
      const component = this.#components[tree.tag]()
      component.update(tree)
      this.#made.set(component.element, component)
      return component.element
    }
    const element = document.createElement(tree.tag)
    for (const [name, value] of Object.entries(tree.attrs)) element.setAttribute(name, value)
    element.append(...tree.children.map((child) => this.#create(child)))
    return element
  }
}

/** @param {Element} element @param {Record<string, string>} before @param {Record<string, string>} after */
function updateAttributes(element, before, after) {
  for (const name of Object.keys(before)) if (!(name in after)) element.removeAttribute(name)
  for (const [name, value] of Object.entries(after)) if (before[name] !== value) element.setAttribute(name, value)
}
