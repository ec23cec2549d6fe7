"""FastAPI's StreamingResponse and Anthropic's SDK."""

import json
from collections.abc import AsyncIterator

from anthropic import AsyncAnthropic
from anthropic.types import MessageParam
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI()
client = AsyncAnthropic()


class Question(BaseModel):
    messages: list[MessageParam]


@app.post("/api/chat")
async def chat(question: Question) -> StreamingResponse:
    async def frames() -> AsyncIterator[str]:
        events = await client.messages.create(
            model="claude-sonnet-5", max_tokens=4096, messages=question.messages, stream=True
        )
        async for event in events:
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                yield f"data: {json.dumps({'type': 'text', 'content': event.delta.text})}\n\n"
        yield 'data: {"type":"done"}\n\n'

    return StreamingResponse(frames(), media_type="text/event-stream")
