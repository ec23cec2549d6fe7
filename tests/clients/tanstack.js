// TanStack AI's ChatClient through every situation, a line of JSON for each. `cut` in an address tells the proxy of
// test_tanstack.py where to end the streams that pass it.
import { ChatClient, fetchServerSentEvents } from "@tanstack/ai-client"

const server = process.env.CHATSTREAM_URL
const cutter = process.env.CHATSTREAM_CUTTER
const colour = {
  name: "pick_colour",
  description: "Ask the user for a colour.",
  inputSchema: { type: "object", properties: { of: { type: "string" } }, required: ["of"] },
}
const picks = { ...colour, execute: async ({ of }) => ({ of, colour: "blue" }) }
let count = 0

/** A client as useChat makes it; `seen` is told every chunk. */
function open({ path = "/ag-ui", base = server, thread = `thread-${++count}`, seen = () => {}, ...options } = {}) {
  const client = new ChatClient({
    threadId: thread,
    connection: fetchServerSentEvents(base + path, { reconnect: { delayMs: 0 } }),
    onChunk: seen,
    ...options,
  })
  client.attach()
  return client
}

/** What a message shows, a string for each part. */
function view({ role, parts }) {
  return [role, ...parts.map(show)]
}

function show(part) {
  switch (part.type) {
    case "text":
      return part.content
    case "thinking":
      return `(${part.content})`
    case "tool-call": {
      const asked = part.approval ? [`approved=${part.approval.approved}`] : []
      return [part.name, part.arguments, part.state, ...asked, JSON.stringify(part.output) ?? ""].join(" ").trim()
    }
    case "tool-result":
      return `= ${part.content}${part.state === "error" ? ` (error: ${part.error})` : ""}`
    default:
      return part.type
  }
}

function tell(situation, client, more = {}) {
  const messages = client.getMessages()
  const told = { situation, status: client.getStatus(), loading: client.getIsLoading(), messages: messages.map(view) }
  const ids = messages.map((message) => message.id)
  console.log(JSON.stringify({ ...told, ids, error: client.getError()?.message, code: client.getError()?.code, ...more }))
}

async function until(condition, what) {
  for (let tries = 0; tries < 4000; tries++) {
    if (condition()) return
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  throw new Error(`never came to pass: ${what}`)
}

const text = (client) => JSON.stringify(client.getMessages().map(view))
const idle = (client) => until(() => !client.getIsLoading() && client.getStatus() !== "submitted", "idle")

async function ask(situation, options = {}) {
  const client = open(options)
  await client.sendMessage(`${situation}: go`)
  return client
}

for (const situation of ["plain", "reasoning", "tools", "thoughtful", "silent", "object", "parallel"]) {
  const finished = []
  const seen = (chunk) => chunk.type === "RUN_FINISHED" && finished.push([chunk.finishReason, chunk.usage])
  tell(situation, await ask(situation, { seen }), { finished })
}

{
  const client = await ask("plain", { path: "/api/chat" })
  tell("any path", client)
}

for (const model of ["openai-chat:fake", "anthropic:fake"]) {
  const client = open({ body: { model } })
  for (const question of ["thoughtful: 1", "parallel: 2", "silent: 3", "plain: 4"])
    await client.sendMessage(`${question} ${model}`)
  tell(`history ${model}`, client)
}

{
  const client = await ask("search", { body: { model: "anthropic:fake" } })
  await client.sendMessage("plain: after the search")
  tell("search", client)
}

tell("client", await ask("client", { tools: [picks] }))
{
  const blind = { ...colour, execute: () => Promise.reject(new Error("no eyes")) }
  tell("client fails", await ask("client", { tools: [blind] }))
}
{
  const client = await ask("client", { tools: [colour] })
  const call = client.getMessages().at(-1).parts.find((part) => part.type === "tool-call")
  await client.addToolResult({ toolCallId: call.id, tool: "pick_colour", output: "green" })
  tell("client by hand", client)
}

for (const [answer, resolve] of Object.entries({
  "yes by interrupt": (client) => client.getInterrupts()[0].resolveInterrupt({ approved: true }),
  "no by interrupt": (client) => client.getInterrupts()[0].resolveInterrupt({ approved: false }),
  "cancelled by interrupt": (client) => client.getInterrupts()[0].cancel(),
  "yes by approval": (client) => client.addToolApprovalResponse({ id: approvalId(client), approved: true }),
  "no by approval": (client) => client.addToolApprovalResponse({ id: approvalId(client), approved: false }),
})) {
  const client = await ask("approval")
  tell(`paused, ${answer}`, client)
  resolve(client)
  await until(() => client.getInterrupts().length === 0 && !client.getIsLoading(), answer)
  tell(answer, client)
  await client.sendMessage(`plain: after ${answer}`)
}

function approvalId(client) {
  const parts = client.getMessages().flatMap((message) => message.parts)
  return parts.find((part) => part.type === "tool-call" && part.state === "approval-requested").approval.id
}

{
  const client = await ask("mixed", { tools: [picks] })
  tell("mixed, paused", client)
  client.addToolApprovalResponse({ id: approvalId(client), approved: true })
  await until(() => text(client).includes("All done."), "mixed")
  await idle(client)
  tell("mixed", client)
}

{
  const client = await ask("breaks")
  tell("breaks", client)
  await client.sendMessage("plain: again")
  tell("after breaks", client)
}

tell("refused", await ask("plain", { body: { temperature: 9 } }))

{
  const client = open()
  const asking = client.sendMessage("slow: go")
  await until(() => text(client).includes("Once"), "the first words")
  client.stop()
  await asking
  tell("stop", client)
  await client.sendMessage("plain: after the stop")
  tell("after the stop", client)
}

{
  const client = open({ thread: "stopped-elsewhere" })
  const asking = client.sendMessage("slow: stopped elsewhere")
  await until(() => text(client).includes("Once"), "the first words")
  const response = await fetch(`${server}/ag-ui/stopped-elsewhere/stop`, { method: "POST" })
  await asking
  tell("stop elsewhere", client, { receipt: await response.json() })
}

{
  let events = 0
  const whole = await ask("thoughtful", { base: cutter, seen: () => events++ })
  const wrong = []
  async function cutAt(at) {
    const client = open({ base: cutter, path: `/ag-ui?cut=${at}` })
    await client.sendMessage(`thoughtful: cut at ${at}`)
    const isWhole = text(client) === text(whole).replace("go", `cut at ${at}`) && client.getStatus() === "ready"
    if (!isWhole) wrong.push({ at, messages: client.getMessages().map(view), error: client.getError()?.message })
  }
  const cuts = [...Array.from({ length: events - 1 }, (_, number) => number + 1), "each", "each-torn"]
  await Promise.all(cuts.map(cutAt))
  tell("cut", whole, { cuts, wrong })
}

{
  const client = await ask("approval", { base: cutter, path: "/ag-ui?cut=each" })
  client.addToolApprovalResponse({ id: approvalId(client), approved: true })
  await until(() => text(client).includes("I see.") && !client.getIsLoading(), "approved")
  tell("cut approval", client)
}

/** A page that is loaded again: another client on the same thread, as it is when it has nothing more to do. */
async function reload(thread, ready, options = {}) {
  const client = open({ thread, persistence: true, ...options })
  await until(() => ready(client), "reloaded")
  await idle(client)
  return client
}

{
  const thread = "reloaded-when-done"
  const client = open({ thread })
  for (const question of ["thoughtful: 1", "parallel: 2", "plain: 3"]) await client.sendMessage(question)
  const again = await reload(thread, (each) => each.getMessages().length > 0, { path: "/api/chat" })
  tell("before the reload", client)
  tell("reload when done", again)
  await again.sendMessage("plain: after the reload")
}

async function reloadInMidAnswer(place, word, kept) {
  const thread = `reloaded ${place} ${kept}`
  const persistence = kept === "server" || storage()
  const client = open({ thread, persistence })
  client.sendMessage(`steps: ${thread}`)
  await until(() => text(client).includes(word), word)
  client.dispose()
  const again = await reload(thread, (each) => text(each).includes("they are."), { persistence })
  tell(thread, again)
  await again.sendMessage(`plain: on, ${thread}`)
}

await Promise.all([
  reloadInMidAnswer("in the first step", "Fir", "server"),
  reloadInMidAnswer("in the first step", "Fir", "browser"),
  reloadInMidAnswer("in a later step", "Seco", "server"),
  reloadInMidAnswer("in a later step", "Seco", "browser"),
])

/** Storage as a browser has it: what is kept is text. */
function storage() {
  const kept = new Map()
  return {
    getItem: (key) => JSON.parse(kept.get(key) ?? "null"),
    setItem: (key, value) => void kept.set(key, JSON.stringify(value)),
    removeItem: (key) => void kept.delete(key),
  }
}

for (const kind of ["server", "browser"]) {
  const thread = `approved after a reload, ${kind}`
  const persistence = kind === "server" || storage()
  ;(await ask("approval", { thread, persistence })).dispose()
  const again = await reload(thread, (each) => each.getInterrupts().length > 0, { persistence })
  tell(`open ${thread}`, again)
  again.addToolApprovalResponse({ id: approvalId(again), approved: true })
  await until(() => text(again).includes("I see.") && !again.getIsLoading(), thread)
  tell(thread, again)
  again.dispose()
  const third = await reload(thread, (each) => text(each).includes("I see."), { persistence })
  tell(`third ${thread}`, third)
}

{
  const thread = "reloaded while an approved call runs"
  const client = await ask("patient", { thread, persistence: true })
  client.addToolApprovalResponse({ id: approvalId(client), approved: true })
  await until(() => text(client).includes("Slo"), "the first words behind the call")
  client.dispose()
  tell(thread, await reload(thread, (each) => text(each).includes("it is done.")))
}

{
  const thread = "a client's tool after a reload"
  ;(await ask("client", { thread, tools: [colour] })).dispose()
  tell(thread, await reload(thread, (each) => text(each).includes("Blue it is."), { tools: [picks] }))
}

{
  const initialMessages = [{ id: "m", role: "user", parts: [{ type: "text", content: "mine" }] }]
  const client = open({ thread: "nobody-knows", persistence: true, initialMessages })
  await new Promise((resolve) => setTimeout(resolve, 50))
  tell("unknown thread", client)
}
process.exit(0)
