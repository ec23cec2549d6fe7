// Vercel's AI SDK on node:http: what `useChat` asks, and the stream that it reads.
import { anthropic } from "@ai-sdk/anthropic"
import { convertToModelMessages, streamText } from "ai"
import { createServer } from "node:http"

createServer(async (request, response) => {
  let body = ""
  for await (const piece of request) body += piece
  const { messages } = JSON.parse(body)
  const abort = new AbortController()
  response.on("close", () => abort.abort())
  const result = streamText({
    model: anthropic("claude-sonnet-5"),
    messages: await convertToModelMessages(messages),
    maxOutputTokens: 4096,
    abortSignal: abort.signal,
  })
  result.pipeUIMessageStreamToResponse(response)
}).listen(Number(process.env.PORT), "127.0.0.1")
