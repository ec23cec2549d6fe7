// Shows the value of each line of a plot under the pointer, in a copy of its legend. All else can be read without it.
"use strict"

/** Return how a place on an axis, 0 to 1, is read. */
function reader({ low, high, log, percent }) {
  return (part) => {
    const value = log ? low * (high / low) ** part : low + part * (high - low)
    const digits = { maximumSignificantDigits: 3 }
    return percent ? `${(value * 100).toLocaleString("en", digits)}%` : value.toLocaleString("en", digits)
  }
}

/** Return the point of a line that is nearest to `left`, of its path of M and L alone. */
function nearest(path, left) {
  let best = null
  for (const [, x, y] of path.matchAll(/[ML]([\d.]+) ([\d.]+)/g)) {
    if (!best || Math.abs(x - left) < Math.abs(best.x - left)) best = { x: Number(x), y: Number(y) }
  }
  return best
}

for (const svg of document.querySelectorAll("svg[data-area]")) {
  const { left, right, top, bottom, x, y } = JSON.parse(svg.dataset.area)
  const [readX, readY] = [reader(x), reader(y)]
  const title = svg.querySelector("title")
  const lines = [...svg.querySelectorAll("[data-name] .line")].map((line) => line.getAttribute("d"))
  const rule = svg.appendChild(document.createElementNS(svg.namespaceURI, "path"))
  rule.setAttribute("class", "rule")
  const figure = svg.parentElement
  const tip = figure.appendChild(figure.querySelector(".legend").cloneNode(true))
  tip.className = "tip"
  tip.hidden = true
  tip.setAttribute("aria-hidden", "true")
  const values = [...tip.children].map((label) => label.appendChild(document.createElement("b")))

  // The browser would show the title over the values.
  svg.addEventListener("pointerenter", () => title.remove())
  svg.addEventListener("pointerleave", () => {
    svg.prepend(title)
    clear()
  })
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect()
    const at = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width
    if (at < left || at > right) return clear()
    rule.setAttribute("d", `M${at} ${top}V${bottom}`)
    tip.hidden = false
    lines.forEach((path, index) => {
      const point = nearest(path, at)
      const [along, up] = [(point.x - left) / (right - left), (bottom - point.y) / (bottom - top)]
      values[index].textContent = `${readY(up)} at ${readX(along)}`
    })
    // Over the legend, which it repeats, and not over the lines.
    tip.style.top = `${box.top - figure.getBoundingClientRect().top - tip.offsetHeight}px`
  })

  function clear() {
    rule.removeAttribute("d")
    tip.hidden = true
  }
}
