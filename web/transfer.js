/**
 * Reads conversations from files: our own export, ChatGPT's `conversations.json` and Open WebUI's export, one or many in
 * a file. The other two are trees of messages as well, so every branch comes along; what is there for their own machinery
 * (system messages, calls of their tools, hidden ones) is left out, and what hangs on it moves up to what is kept.
 *
 * https://help.openai.com/en/articles/7260999-how-do-i-export-my-chatgpt-history-and-data,
 * https://docs.openwebui.com/features/chat-conversations/data-controls/import-export/
 */

import { decodeEntities } from "./entities.js"

/** @typedef {{ type: "text" | "reasoning", text: string } | { type: "image", mediaType: string, data: string }} Part */
/** @typedef {{ id: string, parentId: string, role: string, content: Part[], createdAt: string, model: string }} Entry one without content only holds its place */
/** @typedef {(method: string, path: string, body?: unknown, signal?: AbortSignal) => Promise<import("./api.js").Answer>} Ask */
/** @typedef {{ name: string, text: () => Promise<string> }} Source such as a File */
/** @typedef {{ name: string, title: string, reason: string }} Refused `reason` is a code of the page's texts, or the server's words */
/** @typedef {{ conversations: any[], refused: Refused[], isCut: boolean }} Outcome what was made, what was not and why, and whether it was broken off */

const ROLES = new Set(["user", "assistant"])
// The server takes no longer title.
const MAX_TITLE = 500
// What ChatGPT puts around its references, which lead nowhere outside of it.
const REFERENCE = /\ue200.*?\ue201/gs
// How Open WebUI keeps in a text what was no text.
const DETAILS = /<details type="(\w+)"[^>]*>\s*(?:<summary>.*?<\/summary>)?(.*?)<\/details>\s*/gs
const DATA_URL = /^data:(image\/[a-z]+);base64,(.*)$/s

/**
 * Return the conversations that the JSON of a file holds, each as the server takes it, or as an Error that says why not.
 *
 * @param {any} value
 * @returns {{ title: string, conversation: any, reason: string }[]}
 */
export function readConversations(value) {
  const all = Array.isArray(value) ? value : [value]
  return all.map((one) => {
    const conversation = convert(one)
    const title = String(one?.title ?? one?.chat?.title ?? "")
    return { title, conversation, reason: !conversation ? "unknown" : conversation.messages.length === 0 ? "empty" : "" }
  })
}

/**
 * Make the conversations of files, one after the other; returns what came of it. The first that the server cannot be
 * reached for ends it.
 *
 * @param {Ask} ask
 * @param {readonly Source[]} files
 * @param {(done: number, count: number) => void} progress
 * @param {AbortSignal} signal
 * @returns {Promise<Outcome>}
 */
export async function importFiles(ask, files, progress, signal) {
  /** @type {Outcome} */
  const outcome = { conversations: [], refused: [], isCut: false }
  const found = (await Promise.all(files.map(readFile))).flat()
  for (const [done, { name, title, conversation, reason }] of found.entries()) {
    progress(done, found.length)
    const { value, failure } = reason ? { value: null, failure: null } : await ask("POST", "/api/conversations/import", conversation, signal)
    if (signal.aborted || failure?.status === 0) return { ...outcome, isCut: true }
    if (value) outcome.conversations.push(value)
    else outcome.refused.push({ name, title, reason: reason || failure?.message || "internal" })
  }
  return outcome
}

/** @param {Source} file */
async function readFile(file) {
  try {
    return readConversations(JSON.parse(await file.text())).map((one) => ({ name: file.name, ...one }))
  } catch {
    return [{ name: file.name, title: "", conversation: null, reason: "unreadable" }]
  }
}

/**
 * Return all conversations in one file that `importFiles` takes back, or null where it was broken off or failed.
 *
 * @param {(path: string, signal: AbortSignal) => Promise<Response>} get
 * @param {(done: number, count: number) => void} progress
 * @param {AbortSignal} signal
 * @returns {Promise<Blob | null>}
 */
export async function exportAll(get, progress, signal) {
  /** @type {Blob[]} */
  const files = []
  try {
    const ids = await listIds(get, signal)
    for (const [done, id] of ids.entries()) {
      progress(done, ids.length)
      const response = await get(`/api/conversations/${encodeURIComponent(id)}?format=json`, signal)
      // One that was deleted meanwhile is not missed.
      if (response.ok) files.push(await response.blob())
      else if (response.status !== 404) return null
    }
  } catch {
    return null
  }
  return new Blob(["[", ...files.flatMap((file, index) => (index === 0 ? [file] : [",\n", file])), "]\n"], { type: "application/json" })
}

/** @param {(path: string, signal: AbortSignal) => Promise<Response>} get @param {AbortSignal} signal @returns {Promise<string[]>} */
async function listIds(get, signal) {
  const ids = []
  let before = ""
  do {
    const response = await get(`/api/conversations?limit=200${before && `&before=${encodeURIComponent(before)}`}`, signal)
    if (!response.ok) throw new Error(`HTTP ${response.status}`)
    const { conversations, next } = await response.json()
    ids.push(...conversations.map((/** @type {{ id: string }} */ { id }) => id))
    before = next ?? ""
  } while (before)
  return ids
}

/** @param {any} value @returns {any} null where it is none that is known */
function convert(value) {
  if (isObject(value?.mapping)) return fromChatGpt(value)
  const chat = value?.chat ?? value
  if (isObject(chat?.history?.messages)) return fromOpenWebUi(value, chat)
  return Array.isArray(value?.messages) ? value : null
}

/** @param {any} value */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value)
}

// --- ChatGPT ---------------------------------------------------------------------------------------------------------

/** @param {any} value */
function fromChatGpt({ title, create_time, update_time, mapping, current_node }) {
  const entries = Object.entries(mapping).map(([id, { parent, message }]) => ({
    id,
    parentId: parent ?? "",
    role: message?.author?.role ?? "",
    content: message ? contentOfChatGpt(message) : [],
    createdAt: timeOf(message?.create_time),
    model: message?.metadata?.model_slug ?? "",
  }))
  return conversationOf({ title, createdAt: timeOf(create_time), updatedAt: timeOf(update_time) }, entries, current_node)
}

/** @param {any} message @returns {Part[]} */
function contentOfChatGpt({ content, metadata, recipient = "all" }) {
  if (metadata?.is_visually_hidden_from_conversation || recipient !== "all") return []
  const { content_type: kind, parts = [], thoughts = [], text = "" } = content ?? {}
  if (kind === "thoughts") return reasoning(thoughts.map((/** @type {any} */ thought) => [thought.summary && `**${thought.summary}**`, thought.content].filter(Boolean).join("\n\n")).join("\n\n"))
  if (kind !== "text" && kind !== "multimodal_text" && kind !== "code") return []
  const written = parts.map((/** @type {any} */ part) => (typeof part === "string" ? part : part?.content_type === "image_asset_pointer" ? "*(an image)*" : (part?.text ?? "")))
  return plain([...written, text].filter(Boolean).join("\n\n").replaceAll(REFERENCE, ""))
}

// --- Open WebUI ------------------------------------------------------------------------------------------------------

/** @param {any} value @param {any} chat */
function fromOpenWebUi(value, chat) {
  const entries = Object.entries(chat.history.messages).map(([id, message]) => ({
    id,
    parentId: message.parentId ?? "",
    role: message.role ?? "",
    content: contentOfOpenWebUi(message),
    createdAt: timeOf(message.timestamp),
    model: message.model ?? "",
  }))
  const about = { title: value.title ?? chat.title, createdAt: timeOf(value.created_at ?? chat.timestamp), updatedAt: timeOf(value.updated_at) }
  const system = chat.params?.system ?? chat.system
  return conversationOf({ ...about, ...(system && { system }), ...(value.pinned && { pinned: true }) }, entries, chat.history.currentId)
}

/** @param {any} message @returns {Part[]} */
function contentOfOpenWebUi({ content, files = [] }) {
  const text = typeof content === "string" ? content : ""
  const thoughts = [...text.matchAll(DETAILS)].filter(([, kind]) => kind === "reasoning").map(([, , inner]) => decodeEntities(inner.trim()).replaceAll(/^> ?/gm, ""))
  const images = files.flatMap((/** @type {any} */ { type, url }) => {
    const [, mediaType, data] = (type === "image" && DATA_URL.exec(url)) || []
    return data ? [{ type: "image", mediaType, data }] : []
  })
  return [...reasoning(thoughts.join("\n\n")), ...images, ...plain(text.replaceAll(DETAILS, ""))]
}

// --- our own form ----------------------------------------------------------------------------------------------------

/**
 * Make a tree of those entries that say something; what hung on another one hangs on the nearest that is kept above it.
 * Answers in a row are one run. What is not below a root, in a file that was tampered with, is left out.
 *
 * @param {{ title?: unknown, createdAt: string, updatedAt: string }} about
 * @param {Entry[]} entries
 * @param {unknown} leafId
 */
function conversationOf({ title, createdAt, updatedAt, ...more }, entries, leafId) {
  const above = keptAbove(entries)
  /** @type {Map<string, Entry[]>} */
  const below = new Map()
  for (const entry of entries.filter(isKept)) {
    const parentId = above(entry.parentId)
    below.set(parentId, [...(below.get(parentId) ?? []), entry])
  }
  /** @type {Map<string, any>} */
  const placed = new Map()
  const runs = []
  const queue = [...(below.get("") ?? [])]
  for (const { id, parentId, role, content, model, createdAt: time } of queue) {
    const children = below.get(id) ?? []
    queue.push(...children)
    const parent = placed.get(above(parentId))
    const message = { id, parentId: parent?.id ?? null, role, content, runId: null, createdAt: time || parent?.createdAt || createdAt || undefined }
    if (role === "assistant") {
      const isNext = parent?.runId && below.get(parent.id)?.[0].id === id
      message.runId = isNext ? parent.runId : `run-${id}`
      if (!isNext) runs.push({ id: message.runId, messageId: id, parentId: message.parentId, model, outcome: "completed", createdAt: message.createdAt })
    }
    placed.set(id, message)
  }
  const messages = [...placed.values()]
  const newest = updatedAt || messages.map((message) => message.createdAt ?? "").sort().at(-1)
  const told = { ...(Boolean(title) && { title: String(title).slice(0, MAX_TITLE) }), ...(createdAt && { createdAt }), ...(newest && { updatedAt: newest }) }
  return { ...told, ...more, leafId: above(String(leafId)) || messages.at(-1)?.id, messages, runs }
}

/** Return what names the nearest entry that is kept, the one asked for or one above it, "" where there is none. */
/** @param {Entry[]} entries @returns {(id: string) => string} */
function keptAbove(entries) {
  const byId = new Map(entries.map((entry) => [entry.id, entry]))
  return (id) => {
    const seen = new Set()
    let entry = byId.get(id)
    while (entry && !isKept(entry)) {
      seen.add(entry)
      const next = byId.get(entry.parentId)
      entry = next && !seen.has(next) ? next : undefined
    }
    return entry?.id ?? ""
  }
}

/** @param {Entry} entry */
function isKept({ role, content }) {
  return ROLES.has(role) && content.length > 0
}

/** @param {string} text @returns {Part[]} */
function plain(text) {
  return text.trim() ? [{ type: "text", text: text.trim() }] : []
}

/** @param {string} text @returns {Part[]} */
function reasoning(text) {
  return text.trim() ? [{ type: "reasoning", text: text.trim() }] : []
}

/** @param {unknown} time in seconds, or by newer versions in parts of them */
function timeOf(time) {
  if (typeof time !== "number" || !(time > 0)) return ""
  const ms = time < 1e11 ? time * 1000 : time < 1e14 ? time : time / 1e6
  return new Date(ms).toISOString()
}
