/**
 * Makes the plain trees of `tokens.js` visible. `patch` changes only what differs, so a node that stays keeps the
 * reader's selection, and a text that only grew has its new end added to the same text node. No HTML is parsed:
 * elements are created one by one, text is set as text.
 */

/** @typedef {import("./tokens.js").Tree} Tree */
/** @typedef {import("./tokens.js").TreeElement} TreeElement */
/** @typedef {{ element: HTMLElement, update: (tree: TreeElement) => void }} Component */
/** @typedef {Record<string, () => Component>} Components */

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
