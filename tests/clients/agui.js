// AG-UI's HttpAgent through every situation, a line of JSON for each. The argument names the version: the package that
// is 1.0.0, or the one that is 0.0.59, which CopilotKit and assistant-ui use.
const { HttpAgent } = await import(process.argv[2])
const server = process.env.CHATSTREAM_URL
const colour = {
  name: "pick_colour",
  description: "Ask the user for a colour.",
  parameters: { type: "object", properties: { of: { type: "string" } }, required: ["of"] },
}
const warnings = []
console.warn = (...said) => warnings.push(said.map(String).join(" "))
console.error = () => {} // of a request that failed; the promise says it too

/** A conversation: `ask` says something and tells how that went, `go` runs without saying anything. */
function open({ path = "/ag-ui", ...options } = {}) {
  const agent = new HttpAgent({ url: server + path })
  let count = 0

  async function go(more = {}) {
    const told = { types: [], custom: [], errors: [], interrupts: [], pending: [] }
    const subscriber = {
      onEvent: ({ event }) => {
        told.types.push(event.type)
        more.seen?.(event, agent)
        if (event.type === "CUSTOM") told.custom.push([event.name, event.value])
      },
      onRunFinishedEvent: ({ event, outcome, interrupts, pendingToolCallIds }) => {
        told.interrupts = interrupts ?? []
        told.pending = pendingToolCallIds ?? []
        told.outcome = outcome
        told.usage = event.usage
        told.metadata = event.metadata
      },
      onRunErrorEvent: ({ event }) => told.errors.push([event.code, event.message]),
    }
    try {
      await agent.runAgent({ ...options, ...more.input }, subscriber)
    } catch (error) {
      told.failed = { message: error.message, status: error.status, payload: error.payload }
    }
    return { ...told, messages: agent.messages.map(view) }
  }

  function ask(text, more) {
    agent.messages.push({ id: `user-${agent.threadId}-${++count}`, role: "user", content: text })
    return go(more)
  }
  return { agent, ask, go }
}

/** What a message shows; reasoning without what only the provider reads, calls as their id, name and arguments. */
function view({ role, content, toolCalls = [], toolCallId, encryptedValue }) {
  const calls = toolCalls.map((call) => `${call.id} ${call.function.name} ${call.function.arguments}`)
  return [role, ...(toolCallId ? [toolCallId] : []), content ?? "", ...calls, ...(encryptedValue ? ["signed"] : [])]
}

function tell(situation, told) {
  console.log(JSON.stringify({ situation, ...told }))
}

const answer = (agent, toolCallId, content) =>
  agent.messages.push({ id: `answer-${toolCallId}`, role: "tool", toolCallId, content })

async function plainly(situation) {
  const { agent, ask } = open()
  const first = await ask(`${situation}: one`)
  const second = await ask("plain: two")
  const third = await ask("plain: three")
  tell(situation, { ...first, turns: [first, second, third], ids: agent.messages.map((message) => message.id) })
}

async function signed() {
  const { ask } = open({ forwardedProps: { model: "anthropic:fake" } })
  await ask("thoughtful: signed")
  tell("signed", await ask("plain: after"))
}

async function elsewhere() {
  const { ask } = open({ path: "/api/chat", context: [{ description: "The page", value: "a list of files" }] })
  tell("elsewhere", await ask("plain: elsewhere"))
}

async function client() {
  const { agent, ask, go } = open({ tools: [colour] })
  const asked = await ask("client: sky")
  answer(agent, "call_colour", "blue")
  const answered = await go()
  tell("client", { asked, answered, later: await ask("plain: later") })
}

async function approval(situation, resume) {
  const { ask, go } = open()
  const asked = await ask(`approval: ${situation}`)
  const entry = { interruptId: asked.interrupts[0].id, ...resume }
  const decided = await go({ input: { resume: [entry] } })
  tell(situation, { asked, decided, later: await ask("plain: later") })
}

async function mixed() {
  const { ask, go } = open({ tools: [colour] })
  const asked = await ask("mixed: all")
  const resume = asked.interrupts.map(({ id, metadata }) => ({
    interruptId: id,
    status: "resolved",
    payload: metadata.kind === "approval" ? { approved: true } : { colour: "blue" },
  }))
  tell("mixed", { asked, decided: await go({ input: { resume } }), later: await ask("plain: later") })
}

async function breaks() {
  const { ask } = open()
  const broken = await ask("breaks: off")
  tell("breaks", { ...broken, later: await ask("plain: later") })
}

async function refused() {
  const { ask } = open({ forwardedProps: { model: "scripted:nowhere" } })
  tell("refused", await ask("plain: refused"))
}

async function aborted() {
  const { ask } = open()
  let left = false
  const seen = (event, agent) => {
    if (event.type === "TEXT_MESSAGE_CONTENT" && !left) {
      left = true
      agent.abortRun()
    }
  }
  tell("aborted", await ask("slow: aborted", { seen }))
}

async function stopped() {
  const { agent, ask } = open()
  let receipt
  const seen = (event) => {
    if (event.type === "TEXT_MESSAGE_CONTENT" && !receipt)
      receipt = fetch(`${server}/ag-ui/${agent.threadId}/stop`, { method: "POST" }).then((response) => response.json())
  }
  const told = await ask("slow: stopped", { seen })
  tell("stopped", { ...told, receipt: await receipt, later: await ask("plain: later") })
}

const situations = ["plain", "reasoning", "tools", "thoughtful", "silent", "object", "parallel", "rounds"]
await Promise.all([
  ...situations.map(plainly),
  signed(),
  elsewhere(),
  client(),
  approval("approved", { status: "resolved", payload: { approved: true } }),
  approval("denied", { status: "resolved", payload: { approved: false } }),
  approval("cancelled", { status: "cancelled" }),
  mixed(),
  breaks(),
  refused(),
  aborted(),
  stopped(),
])
tell("console", { warnings })
