/**
 * An image of an answer that lies elsewhere: a card that names its host, since loading it would tell that host who
 * reads. A click opens it in a tab of its own; where the operator allows the host, it is loaded in place.
 */

import { make } from "./dom.js"
import { texts } from "./texts.js"

/**
 * Create the component for `image-card` trees.
 *
 * @param {ReadonlySet<string>} hosts those whose images may be loaded; it may be filled later
 * @returns {() => import("./patch.js").Component}
 */
export function createPicture(hosts) {
  return () => {
    const place = make("span", { class: "picture-place" })
    return {
      element: place,
      update({ attrs, children }) {
        const isAllowed = hosts.has(attrs.host)
        const link = make("a", { href: attrs.href, target: "_blank", rel: "noopener noreferrer" })
        const card = isAllowed ? make("button", { type: "button" }) : link
        card.className = "image"
        card.append(...children.map(String))
        if (attrs.title) card.title = attrs.title
        card.addEventListener("click", (event) => {
          if (!hosts.has(attrs.host)) return
          event.preventDefault()
          load(place, card, attrs)
        })
        place.replaceChildren(card)
      },
    }
  }
}

/** Put the image into the place of its card. */
/** @param {HTMLElement} place @param {HTMLElement} card @param {Record<string, string>} attrs */
function load(place, card, { href, host, alt }) {
  const image = make("img", { class: "picture", alt: alt || texts.image(host, ""), referrerpolicy: "no-referrer", decoding: "async" })
  card.setAttribute("aria-busy", "true")
  place.querySelector(".note")?.remove()
  image.addEventListener("load", () => {
    const link = make("a", { href, target: "_blank", rel: "noopener noreferrer" }, image)
    place.replaceChildren(link)
    link.focus({ preventScroll: true })
  })
  image.addEventListener("error", () => {
    card.removeAttribute("aria-busy")
    place.append(make("span", { class: "note", role: "status" }, texts.imageFailed(host)))
  })
  image.src = href
}
