/**
 * Sets what the reader has chosen and must be so before the first paint: the theme, and whether the list is folded
 * away. A script and no module, because a module runs too late for that. Of a change it is told as other tabs are, by
 * a `storage` event.
 */

{
  const root = document.documentElement
  /** @type {Record<string, string>} */
  const grounds = { light: "#fbfaf8", dark: "#17181a" }
  const metas = /** @type {NodeListOf<HTMLMetaElement>} */ (document.querySelectorAll("meta[name=theme-color]"))

  /** @type {Record<string, (value: string) => void>} */
  const choices = {
    "chatstream.theme"(value) {
      const theme = value in grounds ? value : ""
      root.dataset.theme = theme || "system"
      document.querySelector("meta[name=color-scheme]")?.setAttribute("content", theme || "light dark")
      for (const meta of metas) meta.content = grounds[theme || (meta.media.includes("dark") ? "dark" : "light")]
    },
    "chatstream.list"(value) {
      root.dataset.list = value === "folded" ? "folded" : "open"
    },
  }

  for (const [key, choose] of Object.entries(choices)) {
    try {
      choose(localStorage.getItem(key) ?? "")
    } catch {
      choose("")
    }
  }
  addEventListener("storage", ({ key, newValue }) => {
    for (const name of key === null ? Object.keys(choices) : [key]) choices[name]?.(newValue ?? "")
  })
}
