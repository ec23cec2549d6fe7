/**
 * Keeps the page above a phone's keyboard. Most browsers make the page smaller for it, as its viewport asks them to
 * (`interactive-widget`); Safari lays the keyboard over the page and moves it up, so that its end is out of view.
 */

/** Set `--view` of the page, from which its parts take their measure, to what is in view where that is less than the window. */
/** @param {Pick<VisualViewport, "height" | "scale" | "addEventListener">} viewport @param {HTMLElement} page */
export function followKeyboard(viewport, page) {
  const fit = () => {
    // A reader who zooms in sees less too, and wants it.
    const height = Math.round(viewport.height * viewport.scale)
    const isCovered = innerHeight - height > 1
    if (!isCovered) return void page.style.removeProperty("--view")
    page.style.setProperty("--view", `${height}px`)
    scrollTo(0, 0)
  }
  viewport.addEventListener("resize", fit)
  viewport.addEventListener("scroll", fit)
}
