// The AI SDK's chat through every situation, a line of JSON for each: `node vercel.js ai` or `ai-6`.
// The class is what useChat wraps; its state is kept here as React's would be.
const version = process.argv[2]
const {
  AbstractChat,
  DefaultChatTransport,
  lastAssistantMessageIsCompleteWithApprovalResponses: isDecided,
  lastAssistantMessageIsCompleteWithToolCalls: isAnswered,
} = await import(version)

const server = process.env.CHATSTREAM_URL
const colour = {
  description: "Ask the user for a colour.",
  parameters: { type: "object", properties: { of: { type: "string" } }, required: ["of"] },
}
const mine = { tools: { pick_colour: colour } }
const pixel =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
let count = 0

class State {
  status = "ready"
  error = undefined
  constructor(messages) {
    this.messages = messages
  }
  pushMessage = (message) => (this.messages = [...this.messages, message])
  popMessage = () => (this.messages = this.messages.slice(0, -1))
  replaceMessage = (at, message) => (this.messages = this.messages.with(at, this.snapshot(message)))
  snapshot = (value) => structuredClone(value)
}

class Chat extends AbstractChat {
  constructor({ messages = [], ...init }) {
    super({ ...init, state: new State(messages) })
  }
}

/** Lets `most` events of the first stream through and then loses the connection, as a browser tells it. */
function cutting(most) {
  let isFirst = true
  return async (...asked) => {
    const response = await fetch(...asked)
    if (!isFirst || !response.ok || most === undefined) return response
    isFirst = false
    const reader = response.body.getReader()
    const read = new TextDecoder()
    let blocks = 0
    let text = ""
    const body = new ReadableStream({
      async pull(controller) {
        const { done, value } = await reader.read()
        if (done) return controller.close()
        text += read.decode(value, { stream: true })
        for (let end; (end = text.indexOf("\n\n") + 2) > 1; text = text.slice(end)) {
          const block = text.slice(0, end)
          const isEvent = block.startsWith("data: ")
          if (isEvent && ++blocks > most) {
            reader.cancel()
            await new Promise((resolve) => setTimeout(resolve))
            return controller.error(new TypeError("network error"))
          }
          controller.enqueue(new TextEncoder().encode(block))
        }
      },
    })
    return new Response(body, response)
  }
}

/** A chat as useChat makes it, with what it was told. */
function open({ api = "/ai-sdk/chat", id = `${version}-${++count}`, cut, body, prepare, ...init } = {}) {
  const seen = { data: [], finished: [], requests: 0 }
  const cutter = cutting(cut)
  const transport = new DefaultChatTransport({
    api: server + api,
    body,
    prepareSendMessagesRequest: prepare,
    fetch: (...asked) => (seen.requests++, cutter(...asked)),
  })
  const onFinish = ({ message, messages, ...how }) => seen.finished.push(how)
  const chat = new Chat({ id, transport, onFinish, onData: (part) => seen.data.push(part), ...init })
  return Object.assign(chat, { seen })
}

/** What a part shows, a string. */
function show(part) {
  const name = part.type === "dynamic-tool" ? part.toolName : part.type.slice(5)
  switch (part.type) {
    case "text":
      return part.text + (part.state === "done" || part.state === undefined ? "" : `[${part.state}]`)
    case "reasoning":
      return `(${part.text})` + (part.state === "done" ? "" : `[${part.state}]`)
    case "step-start":
      return "--"
    case "source-url":
      return `<${part.url} ${part.title}>`
    case "file":
      return part.url.slice(0, 22)
  }
  if (!part.toolCallId) return part.type
  const { input, rawInput, output, errorText, approval, providerExecuted } = part
  const decided = approval ? ` approved=${approval.approved}` : ""
  const result = errorText ?? (output === undefined ? "" : JSON.stringify(output))
  const asked = JSON.stringify(input ?? rawInput)
  return `${name} ${asked} ${part.state}${decided}${providerExecuted ? " elsewhere" : ""} ${result}`.trim()
}

const view = ({ role, parts }) => [role, ...parts.map(show)]

function tell(situation, chat, more = {}) {
  const { status, error, messages, seen } = chat
  const last = messages.at(-1)
  const ids = messages.map((message) => message.id)
  const shown = { messages: messages.map(view), metadata: last?.metadata, ids }
  const told = { situation: `${version} ${situation}`, status, error: error?.message, ...shown }
  console.log(JSON.stringify({ ...told, ...seen, ...more }))
}

async function until(condition, what) {
  for (let tries = 0; tries < 4000; tries++) {
    if (condition()) return
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  throw new Error(`never came to pass: ${what}`)
}

const idle = (chat) => chat.status === "ready" || chat.status === "error"
const text = (chat) => JSON.stringify(chat.messages.map(view))
const part = (chat, state) => chat.lastMessage.parts.findLast((each) => each.state === state)

/** A question of a situation, which the provider is to see as this one's. */
const question = (situation, about = "go") => ({ text: `${situation}: ${version} ${about}` })

async function ask(situation, options = {}) {
  const chat = open(options)
  await chat.sendMessage(question(situation))
  return chat
}

const usual = ["plain", "reasoning", "tools", "thoughtful", "silent", "object", "parallel", "rounds", "garbled"]
for (const situation of usual) tell(situation, await ask(situation))

tell("api_chat", await ask("plain", { api: "/api/chat" }))
const claude = { model: "anthropic:fake" }
for (const situation of ["sources", "search"]) tell(situation, await ask(situation, { body: claude }))

// --- three turns, whose history the client itself sends back
for (const [name, body] of [["history"], ["signed", claude]]) {
  const chat = open({ body })
  for (const turn of ["thoughtful", "parallel", "plain"]) await chat.sendMessage(question(turn, name))
  tell(name, chat)
}

{
  const chat = open()
  await chat.sendMessage(question("plain", "regenerate"))
  const before = chat.lastMessage.id
  await chat.regenerate()
  tell("regenerate", chat, { isNew: before !== chat.lastMessage.id })
}

{
  const chat = open()
  await chat.sendMessage({ ...question("plain", "see"), files: [{ type: "file", mediaType: "image/png", url: pixel }] })
  tell("image", chat)
  const refused = open()
  const files = [{ type: "file", mediaType: "image/png", url: "https://a.example/x.png" }]
  await refused.sendMessage({ ...question("plain"), files })
  tell("address", refused)
}

// --- tools of the client
{
  const chat = open({
    body: mine,
    sendAutomaticallyWhen: isAnswered,
    onToolCall({ toolCall }) {
      if (toolCall.toolName === "pick_colour")
        chat.addToolOutput({ tool: "pick_colour", toolCallId: toolCall.toolCallId, output: { colour: "blue" } })
    },
  })
  await chat.sendMessage(question("client", "at once"))
  await until(() => idle(chat) && text(chat).includes("Blue it is."), "client")
  await chat.sendMessage(question("plain", "after client"))
  tell("client", chat)
}
for (const [name, result] of [
  ["client_text", { output: "5" }],
  ["client_error", { state: "output-error", errorText: "no colours here" }],
]) {
  const chat = await ask("client", { body: mine, sendAutomaticallyWhen: isAnswered })
  await chat.addToolOutput({ tool: "pick_colour", toolCallId: "call_colour", ...result })
  await until(() => idle(chat) && text(chat).includes("Blue it is."), name)
  tell(name, chat)
}

// --- approvals
async function decide(chat, approved, reason) {
  await chat.addToolApprovalResponse({ id: part(chat, "approval-requested").approval.id, approved, reason })
}
for (const [name, approved] of [["approval_yes", true], ["approval_no", false]]) {
  const chat = await ask("approval", { sendAutomaticallyWhen: isDecided })
  const asked = chat.messages.map(view)
  await decide(chat, approved, approved ? undefined : "Not today.")
  await until(() => idle(chat) && text(chat).includes("I see."), name)
  await chat.sendMessage(question("plain", `after ${name}`))
  tell(name, chat, { asked })
}
{
  const sendAutomaticallyWhen = (all) => isDecided(all) || isAnswered(all)
  const chat = await ask("mixed", { body: mine, sendAutomaticallyWhen })
  await chat.addToolOutput({ tool: "pick_colour", toolCallId: "call_colour", output: "blue" })
  await decide(chat, true)
  await until(() => idle(chat) && text(chat).includes("All done."), "mixed")
  tell("mixed", chat)
}
{
  const prepare = ({ id, messages, trigger, messageId }) => {
    const told = structuredClone(messages)
    for (const each of told.at(-1).parts) if (each.state === "approval-responded") each.input = { path: "b.txt" }
    return { body: { id, messages: told, trigger, messageId } }
  }
  const chat = await ask("approval", { prepare, sendAutomaticallyWhen: isDecided })
  await decide(chat, true)
  await until(() => chat.status === "error", "tampered")
  tell("tampered", chat)
}

// --- what goes wrong
tell("breaks", await ask("breaks"))
{
  const chat = await ask("breaks")
  await chat.sendMessage(question("plain", "after a failure"))
  tell("after_failure", chat)
}
tell("refused", await ask("plain", { body: { temperature: "hot" } }))
tell("unknown_model", await ask("plain", { body: { model: "scripted:nowhere" } }))
tell("no_history", await ask("plain", { prepare: ({ id, messages }) => ({ body: { id, message: messages.at(-1) } }) }))

// --- stopping
const post = (path) => fetch(server + path, { method: "POST" }).then((response) => response.json())
{
  const chat = open()
  const sending = chat.sendMessage(question("slow", "stop"))
  await until(() => text(chat).includes("Once"), "a first word")
  await chat.stop()
  await sending
  const receipt = await post(`/ai-sdk/chat/${chat.id}/stop`)
  tell("stop", chat, { receipt: receipt.outcome })
}
for (const situation of ["slow", "hangs"]) {
  const chat = open({ id: `${version}/${situation}`, sendAutomaticallyWhen: isAnswered })
  const sending = chat.sendMessage(question(situation, "stopped elsewhere"))
  await until(() => text(chat).includes(situation === "slow" ? "Once" : "input-available"), "the answer to begin")
  const receipt = await post(`/api/chat/${encodeURIComponent(chat.id)}/stop`)
  await sending
  await new Promise((resolve) => setTimeout(resolve, 20))
  tell(`${situation}_stopped`, chat, { receipt: receipt.outcome })
}

// --- coming back
{
  const chat = open()
  await chat.resumeStream()
  tell("nothing_to_resume", chat)
  await chat.sendMessage(question("tools"))
  const before = text(chat)
  await chat.resumeStream()
  tell("seen_twice", chat, { isSame: before === text(chat) })
}
{
  const chat = open({ id: `${version} live`, cut: 6 })
  await chat.sendMessage(question("paced"))
  const cut = text(chat)
  const page = open({ id: `${version} live`, messages: chat.messages.slice(0, 1) })
  await Promise.all([chat.resumeStream(), page.resumeStream()])
  tell("live", chat, { cut, isSame: text(page) === text(chat) })
}

/** Cut an answer behind each of its events and come back to it: as the same page, and as one that was loaded again. */
async function cutAnywhere(name, begin) {
  const whole = await begin(undefined)
  const wrong = []
  let cuts = 0
  for (let most = 1; ; most++) {
    const chat = await begin(most)
    if (chat.status !== "error") break
    cuts++
    const page = open({ id: chat.id, messages: structuredClone(chat.messages) })
    await Promise.all([chat.resumeStream(), page.resumeStream()])
    for (const each of [chat, page])
      if (text(each) !== text(whole) && text(each) !== text(whole).replace("approved=true", "approved=undefined"))
        wrong.push([most, each.error?.message, each.messages.map(view)])
  }
  tell(name, whole, { cuts, wrong: wrong.slice(0, 3) })
}

await cutAnywhere("cut_thoughtful", (cut) => ask("thoughtful", { cut }))
for (const situation of ["approval", "client"])
  await cutAnywhere(`cut_${situation}`, async (cut) => {
    const first = await ask(situation, { body: mine })
    const chat = open({ id: first.id, messages: first.messages, cut, body: mine })
    if (situation === "approval") await decide(chat, true)
    else await chat.addToolOutput({ tool: "pick_colour", toolCallId: "call_colour", output: { colour: "blue" } })
    await chat.sendMessage()
    return chat
  })
