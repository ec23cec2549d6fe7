// Hono's streamSSE and Anthropic's SDK: the baseline of the table.
import Anthropic from "@anthropic-ai/sdk"
import { serve } from "@hono/node-server"
import { Hono } from "hono"
import { streamSSE } from "hono/streaming"

const anthropic = new Anthropic()
const app = new Hono()

app.post("/api/chat", async (c) => {
  const { messages } = await c.req.json()
  return streamSSE(c, async (stream) => {
    const events = await anthropic.messages.create({
      model: "claude-sonnet-5",
      max_tokens: 4096,
      messages,
      stream: true,
    })
    stream.onAbort(() => events.controller.abort())
    for await (const event of events) {
      if (event.type === "content_block_delta" && event.delta.type === "text_delta") {
        await stream.writeSSE({ data: JSON.stringify({ type: "text", content: event.delta.text }) })
      }
    }
    await stream.writeSSE({ data: JSON.stringify({ type: "done" }) })
  })
})

serve({ fetch: app.fetch, port: Number(process.env.PORT), hostname: "127.0.0.1" })
