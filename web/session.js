/**
 * Trades the token of the address (`/#token=...`) for a cookie that scripts cannot read. The token leaves the address
 * bar first of all, so that it is in no bookmark, history or screenshot.
 */

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
 * Open a session; return true if the server accepted the token.
 *
 * @param {string} token
 */
export async function openSession(token) {
  const headers = { Authorization: `Bearer ${token}` }
  const response = await fetch("api/session", { method: "POST", headers }).catch(() => null)
  return response?.ok ?? false
}
