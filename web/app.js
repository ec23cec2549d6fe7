/**
 * Finds the page's elements and joins the modules: the chat to the view, the form to the chat. What each module is for,
 * and in which order to read them, is told in the README, "How it is made".
 */

import { createAnnounce } from "./announce.js"
import { createChat } from "./chat.js"
import { createComposer } from "./composer.js"
import { Conversations } from "./conversations.js"
import { createDrafts, createQueues } from "./drafts.js"
import { make, oncePerFrame, say } from "./dom.js"
import { coalesce, createHub } from "./hub.js"
import { lazy } from "./lazy.js"
import { fillPicker, loadModels } from "./models.js"
import { findServer, openSession, takeToken } from "./session.js"
import { addressOf, createSidebar } from "./sidebar.js"
import { texts } from "./texts-first.js"
import { fillWords } from "./words.js"

// What this browser does its tabs tell each other; whether others' answers have ended is looked at this often.
const RUNNING_MS = 30_000

// What could not be loaded is tried again this much later.
const AGAIN_MS = 2000

const token = takeToken(location, history)
const api = findServer(location)
fillWords(document)
if (api === null) {
  warn(texts.badServer(new URLSearchParams(location.search).get("server")))
  throw new Error("the page's address names no server")
}
const server = openSession(api, token)

const elements = {
  form: find("composer", HTMLFormElement),
  input: find("input", HTMLTextAreaElement),
  attach: find("attach", HTMLButtonElement),
  files: find("files", HTMLInputElement),
  thumbs: find("thumbs", HTMLUListElement),
  queue: find("queue", HTMLUListElement),
  note: find("note", HTMLElement),
  send: find("send", HTMLButtonElement),
  stop: find("stop", HTMLButtonElement),
}
const side = {
  aside: find("sidebar", HTMLElement),
  list: find("list", HTMLElement),
  search: find("search", HTMLInputElement),
  opener: find("menu-button", HTMLButtonElement),
  folder: find("fold", HTMLButtonElement),
  more: find("more", HTMLButtonElement),
  rest: [...document.querySelectorAll("body > :is(header, main, footer)")].filter((element) => element instanceof HTMLElement),
}
const page = document.body
const models = find("models", HTMLSelectElement)
const address = new URL(api, location.href).href
const drafts = createDrafts(address)
const queues = createQueues(address)
const name = server.name || address
const hub = createHub({ ...server, name, locks: navigator.locks ?? null, openChannel: (name) => new BroadcastChannel(name) })
const chat = createChat({ ...server, hub, queues })
/** Why the model takes no images, "" where it does. */
let blindness = ""
/** Whose images may be loaded. @type {Set<string>} */
const imageHosts = new Set()
/** The conversation that the address names. */
let addressed = ""
/** What says that there is no list of models, to be looked for again. @type {HTMLElement | null} */
let noModels = null
/** What draws messages, from the first on. @type {import("./shortcuts.js").Drawing | null} */
let drawing = null
/** What was begun before that: an answer is told from one that was there already by having been seen unfinished. @type {typeof chat.messages} */
let begun = []
const announce = createAnnounce(find("announcer", HTMLElement))

/** @template {HTMLElement} T @param {string} id @param {new () => T} type @returns {T} */
function find(id, type) {
  const element = document.getElementById(id)
  if (!(element instanceof type)) throw new Error(`index.html has no ${type.name} #${id}`)
  return element
}

/** @param {string} text */
function warn(text) {
  const banner = make("p", { role: "status" }, text)
  find("banners", HTMLElement).append(banner)
  return banner
}

/** Do what begins an answer, and follow it; false where it cannot be done now. */
/** @template {unknown[]} Args @param {(...args: Args) => Promise<void>} deed @returns {(...args: Args) => boolean} */
function answering(deed) {
  return (...args) => {
    if (chat.isLoading || chat.isOpening) return false
    drawing?.follower.act("jump")
    announce(texts.typing)
    void deed(...args)
    return true
  }
}

function start() {
  const deeds = createDeeds()
  const load = lazy(async () => {
    await loadDrawing(deeds)
    update()
  })
  // A server that is away may be back soon, and nothing else tells when.
  const draw = () => void load().catch(() => setTimeout(update, AGAIN_MS))
  const composer = createComposer(elements, { ...deeds, chat, drafts, announce, editLast })
  const list = startList(composer)
  const update = oncePerFrame(() => {
    page.classList.toggle("empty", chat.messages.length === 0 && !chat.isOpening)
    page.classList.toggle("loading", chat.isLoading)
    if (chat.messages.length > 0 || chat.isOpening) draw()
    drawing?.view.draw(chat.messages)
    if (chat.isLoading) drawing?.follower.tellNews()
    composer.update()
    if (chat.unsent) composer.giveBack(chat.unsent)
    chat.unsent = null
    showProblem()
    list()
  })
  chat.subscribe(() => {
    if (!drawing && chat.isLoading && begun.length === 0) begun = chat.messages
    noteAddress()
    update()
  })
  // Whoever is about to write moves something first, and then it is there even if the server goes away.
  for (const sign of ["pointermove", "pointerdown", "input"]) addEventListener(sign, draw, { once: true })
  startKeys()
  addEventListener("storage", (event) => {
    drafts.hear(event)
    if (queues.hear(event)) update()
  })
  void startKeyboard()
  followAddress()
  update()
  showExamples(deeds.send)
  page.classList.add("ready")
  composer.focus()
}

/** Listen to the keys. Microtasks run before a browser does what it does by itself, so what is loaded can prevent that. */
function startKeys() {
  const help = async () => (await import("./help.js")).showHelp()
  const named = { ...side, input: elements.input, create: find("clear", HTMLButtonElement), settings: find("settings", HTMLButtonElement) }
  const shortcuts = lazy(async () => (await import("./shortcuts.js")).createShortcuts({ drawing: () => drawing, chat, help, elements: named }))
  find("help-button", HTMLButtonElement).addEventListener("click", () => void help())
  document.addEventListener("keydown", (event) => void shortcuts().then((hear) => hear(event), () => {}))
  addEventListener("beforeprint", () => drawing?.view.finish())
}

/** Bring what draws messages. */
/** @param {ReturnType<typeof createDeeds>} deeds */
async function loadDrawing(deeds) {
  const { createDrawing } = await import("./drawing.js")
  const places = { list: find("messages", HTMLElement), scroller: find("scroller", HTMLElement), content: find("content", HTMLElement), jump: find("jump", HTMLButtonElement) }
  const noMarkdown = () => warn(texts.markdownOff)
  drawing = await createDrawing(places, { announce, decide: deeds.decide, deeds, imageHosts, noMarkdown })
  drawing.view.draw(begun)
  begun = []
}

async function startKeyboard() {
  // Only what is touched has a keyboard that covers the page.
  if (navigator.maxTouchPoints === 0) return
  const { followKeyboard } = await import("./keyboard.js")
  if (visualViewport) followKeyboard(visualViewport, page)
}

/** What the reader can do. */
function createDeeds() {
  return {
    send: answering((/** @type {Parameters<typeof chat.send>} */ ...question) => chat.send(...question)),
    sendQueued: answering((/** @type {string} */ id) => chat.sendQueued(id)),
    decide: answering((/** @type {string} */ id, /** @type {"approve" | "deny"} */ decision) => chat.decide(id, decision)),
    retry: answering(() => chat.retry()),
    continue: answering(() => chat.continue()),
    regenerate: answering((/** @type {string} */ id) => chat.regenerate(id)),
    edit: answering((/** @type {Parameters<typeof chat.edit>} */ ...question) => chat.edit(...question)),
    blindness: () => blindness,
    selectBranch: (/** @type {string} */ id, /** @type {number} */ index) => void chat.selectBranch(id, index),
  }
}

/** Open the editor of the last question that was asked. */
function editLast() {
  const last = [...document.querySelectorAll(".user .edit")].at(-1)
  if (last instanceof HTMLElement && last.checkVisibility()) last.click()
}

/** Join the list at the side to the chat; returns what keeps the two in step. */
/** @param {ReturnType<typeof createComposer>} composer */
function startList(composer) {
  const conversations = new Conversations(() => drawList(), { ...server, tell: (conversationId) => hub.tell({ conversationId }) })
  const refresh = coalesce(() => conversations.refresh())
  const forget = (/** @type {string} */ id) => [drafts, queues].forEach((shelf) => shelf.drop(id))
  const around = { chat, server, announce, conversations, forget, open: go, shown: () => chat.conversationId, settings: () => settings.click() }
  const sidebar = createSidebar(side, conversations, around)
  const settings = find("settings", HTMLButtonElement)
  settings.addEventListener("click", async () => (await import("./settings.js")).openSettings(around))
  let shown = ""
  let timer = 0
  /** @param {string} id */
  function go(id) {
    if (id !== addressed) history.pushState(null, "", id ? addressOf(id) : location.pathname + location.search)
    openAddress()
  }
  function drawList() {
    const item = conversations.items.find(({ id }) => id === chat.conversationId)
    const title = item?.title || chat.title
    sidebar.update(chat.conversationId, chat.isLoading)
    // A question that is images alone gives none.
    say(find("title", HTMLElement), title || (chat.messages.length > 0 && !chat.isLoading ? texts.untitled : ""))
    document.title = title ? `${title} \u2013 ${texts.title}` : texts.title
    clearTimeout(timer)
    const isWaiting = conversations.items.some(({ id, isRunning }) => isRunning && id !== chat.conversationId)
    if (isWaiting && !document.hidden) timer = setTimeout(() => void conversations.refresh(), RUNNING_MS)
  }
  find("clear", HTMLButtonElement).addEventListener("click", () => {
    go("")
    composer.focus()
  })
  hub.onNews((news, isOwn) => {
    if (!isOwn) chat.hear(news)
    if (!isOwn || news.hasEnded) void refresh()
  })
  onWake(() => {
    chat.wake()
    void refresh()
    if (noModels) void showModels()
  })
  void conversations.refresh()
  return () => {
    const last = chat.messages.at(-1)
    // The server gives a conversation its title when it begins to answer.
    const state = `${chat.conversationId} ${chat.isLoading} ${last?.role === "assistant" && last.transcript.runId}`
    if (state !== shown) void conversations.refresh()
    if (state !== shown) drawList()
    shown = state
  }
}

/** Give a conversation that has just been made its address, at once: a reload must find it. */
function noteAddress() {
  if (chat.conversationId === addressed) return
  addressed = chat.conversationId
  history.replaceState(null, "", addressed ? addressOf(addressed) : location.pathname + location.search)
}

function followAddress() {
  openAddress()
  addEventListener("hashchange", () => {
    // A token is taken when the page begins.
    if (new URLSearchParams(location.hash.slice(1)).has("token")) return location.reload()
    openAddress()
    drawing?.follower.act("jump")
  })
}

function openAddress() {
  const id = new URLSearchParams(location.hash.slice(1)).get("c") ?? ""
  addressed = id
  if (id === chat.conversationId && id) return
  if (id) void chat.open(id)
  else chat.clear()
}

/** The tab may have been frozen, or the network away: both end connections without a word. */
/** @param {() => void} wake */
function onWake(wake) {
  // A page that is frozen or kept for the way back must hold nothing that others wait for.
  for (const end of ["pagehide", "freeze"]) addEventListener(end, () => hub.leave(), true)
  for (const begin of ["pageshow", "resume"]) addEventListener(begin, () => hub.join(), true)
  document.addEventListener("resume", wake)
  addEventListener("online", wake)
  for (const change of ["online", "offline"]) addEventListener(change, showProblem)
  addEventListener("pageshow", (event) => event.persisted && wake())
  addEventListener("focus", wake)
  document.addEventListener("visibilitychange", () => document.hidden || wake())
}

function showProblem() {
  const { problem } = chat
  const isAway = problem?.status === 0 && problem.code === "network"
  const last = chat.messages.at(-1)
  const isLost = last?.role === "assistant" && last.transcript.retry?.code === "network"
  const isGone = problem?.status === 404
  const words = problem && !isAway ? (!isGone && problem.message) || `${texts.errors[problem.code] ?? texts.errors.internal}.` : ""
  say(find("offline", HTMLElement), navigator.onLine ? (isAway || isLost ? texts.reconnecting : "") : texts.offline)
  say(find("problem", HTMLElement), words)
}

/** @param {(text: string) => void} send */
function showExamples(send) {
  for (const [kind, all] of Object.entries(texts.examples)) {
    for (const text of all) {
      const button = make("button", { type: "button" }, text)
      button.addEventListener("click", () => send(text))
      find("examples", HTMLElement).append(make("li", { class: kind }, button))
    }
  }
}

async function showModels() {
  const { list, status } = await loadModels(server)
  noModels?.remove()
  noModels = list ? null : warn(whyNoModels(status))
  if (!list) return
  for (const host of list.imageHosts) imageHosts.add(host)
  fillPicker(models, list, chat, (model, lost) => {
    blindness = model.images ? "" : texts.noSight(model.label)
    say(find("lost-model", HTMLElement), lost ? texts.lostModel(lost, model.label) : "")
    find("demo", HTMLElement).hidden = !model.isDemo
    page.classList.toggle("has-tools", model.tools)
    elements.attach.title = blindness ? texts.attachFiles : texts.attach
  })
}

/** @param {number} status */
function whyNoModels(status) {
  const { api, isElsewhere } = server
  if (status === 401) return isElsewhere ? texts.authElsewhere(api) : texts.auth
  return isElsewhere && status === 0 ? texts.closedServer(api, location.origin) : texts.noModels
}

elements.input.placeholder = texts.placeholder
elements.attach.title = texts.attach
if (server.isElsewhere) say(find("place", HTMLElement), texts.place(new URL(api).host))
void server.accepted.then((isAccepted) => isAccepted || warn(texts.tokenRefused))
void showModels()
start()
