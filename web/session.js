/**
 * Where the server is, and how it knows the reader. Mostly it is beside the page; the token of the address
 * (`/#token=...`) is then traded for a cookie that scripts cannot read. A page that anything else serves finds its
 * server in its own address (`?server=http://host:port`), and shows the token with each request.
 *
 * The token leaves the address bar first of all, so that it is in no bookmark, history or screenshot.
 */

import { recall, remember } from "./storage.js"

/** @typedef {{ api: string, fetch: typeof globalThis.fetch, name: string }} Server what every request goes through; tabs with the same `name` are let in alike, "" where the page is */
/** @typedef {Server & { isElsewhere: boolean, accepted: Promise<boolean> }} Session `accepted` tells whether the token was */

// Beside the page, which an application may have anywhere.
const HOME = "."

/**
 * Take the token out of the address, which keeps the rest; return it, or "" where there is none.
 *
 * @param {Location} location
 * @param {History} history
 */
export function takeToken(location, history) {
  const rest = new URLSearchParams(location.hash.slice(1))
  const token = rest.get("token") ?? ""
  rest.delete("token")
  if (token) history.replaceState(null, "", location.pathname + location.search + (String(rest) && `#${rest}`))
  return token
}

/**
 * Return the address of the server that the page's own names, or null where what it names is none.
 *
 * @param {Pick<Location, "href">} location
 */
export function findServer({ href }) {
  const page = new URL(href)
  const named = page.searchParams.get("server")
  if (named === null) return HOME
  const url = URL.canParse(named) ? new URL(named) : null
  if (!url || !["http:", "https:"].includes(url.protocol) || url.href !== url.origin + url.pathname) return null
  const api = url.href.replace(/\/+$/, "")
  return api === new URL(".", page).href.replace(/\/+$/, "") ? HOME : api
}

/**
 * Open the way to the server at `api`. Where a cookie is wanted first, what is asked waits for it.
 *
 * @param {string} api
 * @param {string} token
 * @param {typeof globalThis.fetch} [fetch]
 * @returns {Session}
 */
export function openSession(api, token, fetch = (...args) => globalThis.fetch(...args)) {
  return api === HOME ? atHome(token, fetch) : elsewhere(api, token, fetch)
}

/** @param {string} token @param {typeof globalThis.fetch} fetch @returns {Session} */
function atHome(token, fetch) {
  const headers = { Authorization: `Bearer ${token}` }
  const traded = token && fetch(`${HOME}/api/session`, { method: "POST", headers })
  const accepted = Promise.resolve(traded).then((response) => !response || response.ok, () => false)
  return { api: HOME, name: "", isElsewhere: false, accepted, fetch: (...args) => accepted.then(() => fetch(...args)) }
}

/** @param {string} api @param {string} token @param {typeof globalThis.fetch} fetch @returns {Session} */
function elsewhere(api, token, fetch) {
  // For a reload, and for this server alone.
  const name = `token ${api}`
  if (token) remember(name, token, "sessionStorage")
  const shown = token || recall(name, "sessionStorage")
  return {
    api,
    name: `${api} ${shown}`,
    isElsewhere: true,
    accepted: Promise.resolve(true),
    fetch: (input, init) => {
      const headers = new Headers(init?.headers)
      if (shown) headers.set("Authorization", `Bearer ${shown}`)
      return fetch(input, { ...init, headers, credentials: "omit" })
    },
  }
}
