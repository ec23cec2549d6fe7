/** Finds the page's elements and joins the modules: the chat to the view, the form to the chat. */

import { createAnnounce } from "./announce.js"
import { createChat } from "./chat.js"
import { createCodeBlock } from "./code.js"
import { createComposer } from "./composer.js"
import { Conversations } from "./conversations.js"
import { createPatch, make, setText } from "./dom.js"
import { createHighlight } from "./highlight.js"
import { createMarkdown, createPlain } from "./markdown.js"
import { fillPicker, loadModels } from "./models.js"
import { followScroll } from "./scroll.js"
import { openSession, takeToken } from "./session.js"
import { addressOf, createSidebar } from "./sidebar.js"
import { texts } from "./texts.js"
import { createView, oncePerFrame } from "./view.js"

// The marks of other conversations that are being answered are looked at this often.
const RUNNING_MS = 5000
// Beside the page, which an application may have anywhere.
const API = "."
const MARKED = "./lib/marked.js"

const token = takeToken(location, history)

const elements = {
  form: find("composer", HTMLFormElement),
  input: find("input", HTMLTextAreaElement),
  attach: find("attach", HTMLButtonElement),
  files: find("files", HTMLInputElement),
  thumbs: find("thumbs", HTMLUListElement),
  note: find("note", HTMLElement),
  send: find("send", HTMLButtonElement),
  stop: find("stop", HTMLButtonElement),
}
const side = {
  aside: find("sidebar", HTMLElement),
  list: find("list", HTMLElement),
  search: find("search", HTMLInputElement),
  menu: find("menu", HTMLElement),
  confirm: find("confirm", HTMLDialogElement),
  opener: find("menu-button", HTMLButtonElement),
  rest: [...document.querySelectorAll("body > :is(header, main, footer)")].filter((element) => element instanceof HTMLElement),
}
const page = document.body
const models = find("models", HTMLSelectElement)
const chat = createChat({ api: API })
/** The conversation that the address names. */
let addressed = ""

/** @template {HTMLElement} T @param {string} id @param {new () => T} type @returns {T} */
function find(id, type) {
  const element = document.getElementById(id)
  if (!(element instanceof type)) throw new Error(`index.html has no ${type.name} #${id}`)
  return element
}

/** @param {string} text */
function warn(text) {
  find("banners", HTMLElement).append(make("p", { role: "status" }, text))
}

/** The text is readable without marked: the page must not wait for ever, nor fail, where it is missing. */
async function loadMarkdown() {
  try {
    /** @type {typeof import("/lib/marked.js")} */
    const marked = await import(MARKED)
    return createMarkdown(marked)
  } catch {
    warn(texts.markdownOff)
    return createPlain()
  }
}

/** @param {import("./markdown.js").Markdown} markdown */
function start(markdown) {
  const highlight = createHighlight()
  const patch = createPatch({ "code-block": createCodeBlock(highlight) })
  const announce = createAnnounce(find("announcer", HTMLElement))
  const follower = followScroll(find("scroller", HTMLElement), find("content", HTMLElement), find("jump", HTMLButtonElement))

  /** Do what begins an answer, and follow it; false where it cannot be done now. */
  /** @template {unknown[]} Args @param {(...args: Args) => Promise<void>} deed @returns {(...args: Args) => boolean} */
  const answering = (deed) => (...args) => {
    if (chat.isLoading || chat.isOpening) return false
    follower.toEnd()
    announce(texts.typing)
    void deed(...args)
    return true
  }
  const send = answering((/** @type {string} */ text, /** @type {readonly import("./images.js").ImagePart[]} */ images = []) => chat.send(text, images))
  const decide = answering((/** @type {string} */ id, /** @type {"approve" | "deny"} */ decision) => chat.decide(id, decision))
  const draw = createView(find("messages", HTMLElement), { markdown, patch, highlight, announce, decide, deeds: createDeeds(answering) })
  const composer = createComposer(elements, { send, stop: () => void chat.stop() })
  const list = startList(composer)
  const update = oncePerFrame(() => {
    page.classList.toggle("empty", chat.messages.length === 0 && !chat.isOpening)
    page.classList.toggle("loading", chat.isLoading)
    draw(chat.messages)
    composer.update(chat.isLoading, chat.isOpening)
    if (chat.unsent) composer.giveBack(chat.unsent)
    chat.unsent = null
    showProblem()
    list()
  })
  chat.subscribe(() => {
    noteAddress()
    update()
  })
  openAddress()
  addEventListener("hashchange", () => {
    // A token is taken when the page begins.
    if (new URLSearchParams(location.hash.slice(1)).has("token")) return location.reload()
    openAddress()
    follower.toEnd()
  })
  update()
  const examples = Object.entries(texts.examples).flatMap(([kind, all]) => all.map((text) => example(text, kind, send)))
  find("examples", HTMLElement).append(...examples)
  page.classList.add("ready")
  composer.focus()
}

/** What the reader can do with messages. */
/** @param {(deed: (...args: any[]) => Promise<void>) => (...args: any[]) => boolean} answering */
function createDeeds(answering) {
  return {
    retry: answering(() => chat.retry()),
    continue: answering(() => chat.continue()),
    regenerate: answering((id) => chat.regenerate(id)),
    edit: answering((id, text, images) => chat.edit(id, text, images)),
    selectBranch: (/** @type {string} */ id, /** @type {number} */ index) => void chat.selectBranch(id, index),
  }
}

/** Join the list at the side to the chat; returns what keeps the two in step. */
/** @param {ReturnType<typeof createComposer>} composer */
function startList(composer) {
  const conversations = new Conversations(() => drawList(), { api: API })
  const sidebar = createSidebar(side, conversations, (id) => id === chat.conversationId && go(""))
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
    say("title", title || (chat.messages.length > 0 && !chat.isLoading ? texts.untitled : ""))
    document.title = title ? `${title} \u2013 ${texts.title}` : texts.title
    clearTimeout(timer)
    const isWaiting = conversations.items.some(({ id, isRunning }) => isRunning && id !== chat.conversationId)
    if (isWaiting && !document.hidden) timer = setTimeout(() => void conversations.refresh(), RUNNING_MS)
  }
  find("clear", HTMLButtonElement).addEventListener("click", () => {
    go("")
    composer.focus()
  })
  onWake(() => {
    chat.wake()
    void conversations.refresh()
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
  say("offline", navigator.onLine ? (isAway || isLost ? texts.reconnecting : "") : texts.offline)
  say("problem", words)
}

/** @param {string} id @param {string} words */
function say(id, words) {
  const element = find(id, HTMLElement)
  element.hidden = words === ""
  setText(element, words)
}

/** @param {string} text @param {string} kind @param {(text: string) => void} send */
function example(text, kind, send) {
  const button = make("button", { type: "button" }, text)
  button.addEventListener("click", () => send(text))
  return make("li", { class: kind }, button)
}

async function showModels() {
  const { list, needsToken } = await loadModels()
  if (!list) return warn(needsToken ? texts.auth : texts.noModels)
  fillPicker(models, list, (model) => {
    chat.model = model.id
    find("demo", HTMLElement).hidden = !model.isDemo
    page.classList.toggle("has-tools", model.tools)
    elements.attach.title = model.images ? texts.attach : texts.noSight(model.label)
    elements.attach.setAttribute("aria-disabled", String(!model.images))
  })
}

find("greeting", HTMLElement).textContent = texts.greeting
find("demo", HTMLElement).textContent = texts.demo
elements.input.placeholder = texts.placeholder
elements.attach.title = texts.attach
// Nothing else can be asked for before the session is open.
if (token && !(await openSession(token))) warn(texts.tokenRefused)
void showModels()
start(await loadMarkdown())
