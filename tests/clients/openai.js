// OpenAI's SDK through every situation, a line of JSON for each: `KIND situation`, the kind being how it was asked.
import OpenAI from "openai"

const base = `${process.env.CHATSTREAM_URL}/v1`
const client = new OpenAI({ baseURL: base, apiKey: "anything" })
const chat = client.chat.completions
const model = "openai-chat:fake"
const colour = {
  type: "function",
  function: {
    name: "pick_colour",
    description: "Ask the user for a colour.",
    parameters: { type: "object", properties: { of: { type: "string" } }, required: ["of"] },
  },
}
const user = (content) => ({ role: "user", content })
const tell = (situation, value) => console.log(JSON.stringify({ situation, ...value }))

/** Return an answer that was asked for as a whole. */
async function whole(body) {
  const { choices, usage, id, object } = await chat.create({ model, ...body })
  return { message: choices[0].message, reason: choices[0].finish_reason, usage, id, object }
}

/** Return what the chunks of an answer add up to, as those do who read them by hand. */
async function streamed(body) {
  const message = { role: "assistant", content: null, refusal: null }
  const answer = { message, reason: null, usage: null, id: "", object: "" }
  const stream = await chat.create({ model, ...body, stream: true, stream_options: { include_usage: true } })
  for await (const { choices, usage, id, object } of stream) {
    Object.assign(answer, { id, object, usage: usage ?? null })
    for (const { delta, finish_reason } of choices) {
      answer.reason = finish_reason ?? answer.reason
      for (const name of ["content", "reasoning_content"])
        if (delta[name]) message[name] = (message[name] ?? "") + delta[name]
      for (const { index, function: { arguments: piece, ...named }, ...call } of delta.tool_calls ?? []) {
        message.tool_calls ??= []
        message.tool_calls[index] ??= { ...call, function: { ...named, arguments: "" } }
        message.tool_calls[index].function.arguments += piece
      }
    }
  }
  return answer
}

/** Return an answer as the SDK's own helper adds it up. */
async function helped(body) {
  const stream = chat.stream({ model, ...body, stream_options: { include_usage: true } })
  let text = ""
  stream.on("content", (piece) => (text += piece))
  const { choices, usage, id, object } = await stream.finalChatCompletion()
  return { message: choices[0].message, reason: choices[0].finish_reason, usage, id, object, text }
}

const kinds = { whole, streamed, helped }

/** Ask until there are no calls left, and hand in what they came to. */
async function loop(ask, text, given) {
  const messages = [user(text)]
  const answers = []
  for (;;) {
    const answer = await ask({ messages, tools: [colour] })
    answers.push(answer)
    messages.push(answer.message)
    if (answer.reason !== "tool_calls") return { answers, messages }
    for (const { id, function: { arguments: args } } of answer.message.tool_calls)
      messages.push({ role: "tool", tool_call_id: id, content: given(JSON.parse(args)) })
  }
}

const failure = (error) => ({
  error: error.constructor.name,
  isApi: error instanceof OpenAI.APIError,
  ...{ status: error.status ?? null, code: error.code, type: error.type, param: error.param, message: error.message },
})
const failing = (work) => work().then((value) => ({ error: null, value }), failure)

for (const [kind, ask] of Object.entries(kinds)) {
  for (const situation of ["plain", "reasoning", "tools", "silent", "parallel", "rounds"])
    tell(`${kind} ${situation}`, await ask({ messages: [user(`${situation}: go`)] }))
  for (const situation of ["client", "twice", "both"])
    tell(`${kind} ${situation}`, await loop(ask, `${situation}: go`, ({ of }) => `${of} is blue`))
  for (const situation of ["refused", "breaks"])
    tell(`${kind} ${situation}`, await failing(() => ask({ messages: [user(`${situation}: ${kind}`)] })))
  tell(`${kind} unknown`, await failing(() => ask({ model: "scripted:none", messages: [user("plain: go")] })))

  const messages = []
  for (const text of ["tools: one", "plain: two", "reasoning: three"]) {
    messages.push(user(text))
    messages.push((await ask({ messages })).message)
  }
  tell(`${kind} turns`, { messages })
}

// Stopping is leaving: the stream is left in the middle, or the request is aborted.
async function stopped(situation, leave) {
  const { data: stream, response } = await chat.create({ model, messages: [user("slow: go")], stream: true }).withResponse()
  const run = `${process.env.CHATSTREAM_URL}/api/runs/${response.headers.get("x-run-id")}`
  let text = ""
  for await (const { choices } of stream) {
    text += choices[0].delta.content ?? ""
    if (text && leave(stream)) break
  }
  for (;;) {
    const { state, outcome } = await (await fetch(run)).json()
    if (state === "ended") return tell(situation, { text, outcome })
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
await stopped("break", () => true)
await stopped("abort", (stream) => stream.controller.abort())

// The SDK runs tools itself.
for (const stream of [false, true]) {
  const seen = []
  const tool = {
    ...colour,
    function: { ...colour.function, parse: JSON.parse, function: ({ of }) => (seen.push(of), { of, colour: "blue" }) },
  }
  const runner = chat.runTools({ model, stream, messages: [user("twice: go")], tools: [tool] })
  const content = await runner.finalContent()
  tell(`runTools ${stream}`, { seen, content, roles: runner.messages.map((message) => message.role) })
}

const models = []
for await (const each of client.models.list()) models.push(each)
tell("models", { models, one: await client.models.retrieve(model), none: await failing(() => client.models.retrieve("x")) })

const locked = (apiKey) => new OpenAI({ baseURL: `${process.env.CHATSTREAM_LOCKED}/v1`, apiKey }).models.list()
tell("key", { wrong: await failing(() => locked("wrong")), right: (await locked("a-token")).data.length })
