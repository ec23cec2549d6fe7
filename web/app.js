/** Finds the page's elements and joins the modules: the chat to the view, the form to the chat. */

import { createAnnounce } from "./announce.js"
import { createChat } from "./chat.js"
import { createCodeBlock } from "./code.js"
import { createComposer } from "./composer.js"
import { createPatch, make } from "./dom.js"
import { createHighlight } from "./highlight.js"
import { createMarkdown, createPlain } from "./markdown.js"
import { fillPicker, loadModels } from "./models.js"
import { followScroll } from "./scroll.js"
import { openSession, takeToken } from "./session.js"
import { texts } from "./texts.js"
import { createView, oncePerFrame } from "./view.js"

const token = takeToken(location, history)

const elements = {
  form: find("composer", HTMLFormElement),
  input: find("input", HTMLTextAreaElement),
  send: find("send", HTMLButtonElement),
  stop: find("stop", HTMLButtonElement),
}
const page = document.body
const models = find("models", HTMLSelectElement)
const chat = createChat()

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
    return createMarkdown(await import("/lib/marked.js"))
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

  /** @param {string} text */
  function send(text) {
    follower.toEnd()
    announce(texts.typing)
    void chat.send(text)
  }

  const draw = createView(find("messages", HTMLElement), { markdown, patch, highlight, announce, retry: () => void chat.retry() })
  const composer = createComposer(elements, { send, stop: () => chat.stop() })
  const update = oncePerFrame(() => {
    page.classList.toggle("empty", chat.messages.length === 0)
    draw(chat.messages)
    composer.update(chat.isLoading)
  })
  chat.subscribe(update)
  find("clear", HTMLButtonElement).addEventListener("click", () => {
    chat.clear()
    composer.focus()
  })
  for (const [kind, examples] of Object.entries(texts.examples)) {
    find("examples", HTMLElement).append(...examples.map((text) => example(text, kind, send)))
  }
  page.classList.add("ready")
  composer.focus()
}

/** @param {string} text @param {string} kind @param {(text: string) => void} send */
function example(text, kind, send) {
  const button = make("button", { type: "button" }, text)
  button.addEventListener("click", () => send(text))
  return make("li", { class: kind }, button)
}

async function showModels() {
  if (token && !(await openSession(token))) warn(texts.tokenRefused)
  const { list, needsToken } = await loadModels()
  if (!list) return warn(needsToken ? texts.auth : texts.noModels)
  fillPicker(models, list, (model) => {
    chat.model = model.id
    find("demo", HTMLElement).hidden = !model.isDemo
    page.classList.toggle("has-tools", model.tools)
  })
}

find("greeting", HTMLElement).textContent = texts.greeting
find("demo", HTMLElement).textContent = texts.demo
elements.input.placeholder = texts.placeholder
void showModels()
start(await loadMarkdown())
