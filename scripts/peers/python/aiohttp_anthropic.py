"""aiohttp and Anthropic's SDK, as one would write it first."""

import json
import os

from aiohttp import web
from anthropic import AsyncAnthropic

client = AsyncAnthropic()


async def chat(request: web.Request) -> web.StreamResponse:
    messages = (await request.json())["messages"]
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    events = await client.messages.create(model="claude-sonnet-5", max_tokens=4096, messages=messages, stream=True)
    async for event in events:
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            frame = json.dumps({"type": "text", "content": event.delta.text})
            await response.write(f"data: {frame}\n\n".encode())
    await response.write(b'data: {"type":"done"}\n\n')
    return response


app = web.Application()
app.router.add_post("/api/chat", chat)
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), handler_cancellation=True, print=None)
