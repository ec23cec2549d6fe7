// The page's own client, without a page: sends a question for each line of stdin, by way of a proxy that harms the
// streams, and says what the reader saw then, and what a reader sees who opens the conversation later.
//
//     node viewer.js PROXY SERVER     addresses; a line in is a question, a line out {"live", "loaded"}

import { createInterface } from "node:readline"

import { createChat } from "../../web/chat.js"

const [proxy, server] = process.argv.slice(2)

/** Waits are a hundred times shorter: what is proved here is not about time. */
function sleep(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms / 100)
    signal.addEventListener("abort", () => {
      clearTimeout(timer)
      resolve()
    })
  })
}

/** What is seen of a chat, without what differs each time: ids and times. */
function seen(chat) {
  return chat.messages.map((message) => {
    if (message.role === "user") return message.text
    const { parts, status, outcome, finishReason, usage, error } = message.transcript
    return { parts: parts.map(lasting), status, outcome, finishReason, usage, error }
  })
}

function lasting({ startedAt, endedAt, durationMs, inputText, ...part }) {
  return part
}

for await (const question of createInterface({ input: process.stdin })) {
  const chat = createChat({ api: proxy, sleep })
  await chat.send(question)
  const loaded = createChat({ api: server, sleep })
  await loaded.open(chat.conversationId)
  console.log(JSON.stringify({ live: seen(chat), loaded: seen(loaded) }))
}
