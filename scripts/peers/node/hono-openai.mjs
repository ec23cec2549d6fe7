// Hono's streamSSE and OpenAI's SDK, Chat Completions.
import { serve } from "@hono/node-server"
import { Hono } from "hono"
import { streamSSE } from "hono/streaming"
import OpenAI from "openai"

const openai = new OpenAI()
const app = new Hono()

app.post("/api/chat", async (c) => {
  const { messages } = await c.req.json()
  return streamSSE(c, async (stream) => {
    const chunks = await openai.chat.completions.create({
      model: "gpt-6.1-terra",
      messages,
      stream: true,
      stream_options: { include_usage: true },
    })
    stream.onAbort(() => chunks.controller.abort())
    for await (const chunk of chunks) {
      const text = chunk.choices[0]?.delta?.content
      if (text) await stream.writeSSE({ data: JSON.stringify({ type: "text", content: text }) })
    }
    await stream.writeSSE({ data: JSON.stringify({ type: "done" }) })
  })
})

serve({ fetch: app.fetch, port: Number(process.env.PORT), hostname: "127.0.0.1" })
