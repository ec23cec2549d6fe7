// TanStack AI behind Hono: what its `useChat` asks, and the AG-UI events that it reads.
import { serve } from "@hono/node-server"
import { chat, chatParamsFromRequestBody, toServerSentEventsResponse } from "@tanstack/ai"
import { anthropicText } from "@tanstack/ai-anthropic"
import { Hono } from "hono"

const app = new Hono()

app.post("/ag-ui", async (c) => {
  const { messages, threadId, runId } = await chatParamsFromRequestBody(await c.req.json())
  const abortController = new AbortController()
  const stream = chat({ adapter: anthropicText("claude-sonnet-5"), messages, threadId, runId, abortController })
  return toServerSentEventsResponse(stream, { abortController })
})

serve({ fetch: app.fetch, port: Number(process.env.PORT), hostname: "127.0.0.1" })
