/**
 * Asks the server and tells how it went: a failure is a value here, never an exception. `status` is 0 where the server
 * was not reached, and only then is it certain that asking again is all that helps.
 */

/**
 * @typedef {object} Failure
 * @property {string} code
 * @property {string} message
 * @property {boolean} retryable
 * @property {string} [requestId]
 * @property {number} status of the HTTP answer, 0 where there was none
 * @property {number} [retryAfterMs]
 * @property {any} [details]
 */
/** @typedef {(ms: number, signal: AbortSignal) => Promise<void>} Sleep resolves early when `signal` is aborted */
/** @typedef {{ value: any, failure: null } | { value: null, failure: Failure }} Answer */

const DELAYS_MS = [1000, 2000, 4000]

/**
 * Create a function that sends JSON and reads JSON.
 *
 * @param {string} api the server's address, "" for the page's own
 * @param {typeof globalThis.fetch} fetch
 */
export function createAsk(api, fetch) {
  /** @param {string} method @param {string} path @param {unknown} [body] @param {AbortSignal} [signal] @returns {Promise<Answer>} */
  return async (method, path, body, signal) => {
    const json = body === undefined ? {} : { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }
    try {
      const response = await fetch(`${api}${path}`, { method, signal, ...json })
      if (!response.ok) return { value: null, failure: await failureOf(response) }
      return { value: response.status === 204 ? {} : await response.json(), failure: null }
    } catch (error) {
      return { value: null, failure: lostConnection(error) }
    }
  }
}

/** @param {Response} response @returns {Promise<Failure>} */
export async function failureOf(response) {
  const { status, headers } = response
  const body = await response.json().catch(() => null)
  const { code, message, requestId, details } = body?.error ?? { code: "internal", message: `HTTP ${status}` }
  const retryAfter = Number(headers.get("Retry-After") ?? Number.NaN)
  const canRetry = (status === 429 || status === 503) && retryAfter >= 0
  return {
    code: String(code ?? "internal"),
    message: String(message ?? ""),
    retryable: canRetry,
    status,
    ...(requestId && { requestId: String(requestId) }),
    ...(canRetry && { retryAfterMs: retryAfter * 1000 }),
    ...(details && { details }),
  }
}

/** @param {unknown} [cause] @returns {Failure} */
export function lostConnection(cause) {
  // fetch and the reader of its body report every loss as a TypeError, an abort as an AbortError; JSON that was cut
  // off is a SyntaxError.
  const isLoss = cause instanceof Error && ["AbortError", "SyntaxError"].includes(cause.name)
  if (cause === undefined || isLoss || cause instanceof TypeError) return { code: "network", message: "", retryable: true, status: 0 }
  return { code: "internal", message: String(cause), retryable: false, status: -1 }
}

/** Waits before another try: 1, 2, 4 s and then 4 s each time, or until it is woken. */
export class Patience {
  failures = 0
  #sleep
  #alarm = new AbortController()

  /** @param {Sleep} sleep */
  constructor(sleep) {
    this.#sleep = sleep
  }

  /** Return how long the next wait will be. */
  next(atLeastMs = 0) {
    return Math.max(DELAYS_MS[Math.min(this.failures++, DELAYS_MS.length - 1)], atLeastMs)
  }

  /** @param {number} ms */
  async wait(ms) {
    this.#alarm = new AbortController()
    await this.#sleep(ms, this.#alarm.signal)
  }

  /** End the wait. */
  wake() {
    this.#alarm.abort()
  }
}

/** @type {Sleep} */
export function sleepFor(ms, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer)
      signal.removeEventListener("abort", end)
      resolve()
    }
    const timer = setTimeout(end, ms)
    signal.addEventListener("abort", end)
  })
}

/** Return an id that nobody else will mint. crypto.randomUUID is missing where a page is not served securely. */
export function mintId() {
  if (crypto.randomUUID) return crypto.randomUUID()
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("")
}
