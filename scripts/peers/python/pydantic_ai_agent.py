"""A pydantic-ai agent behind Starlette and sse-starlette.

Its own default gathers text for 100 ms before it is passed on; without that, as here, each piece goes out as it comes.
"""

import json
from collections.abc import AsyncIterator

from pydantic_ai import Agent
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

agent = Agent("anthropic:claude-sonnet-5")


async def chat(request: Request) -> EventSourceResponse:
    messages = (await request.json())["messages"]

    async def frames() -> AsyncIterator[dict[str, str]]:
        async with agent.run_stream(messages[-1]["content"]) as result:
            async for text in result.stream_text(delta=True, debounce_by=None):
                yield {"data": json.dumps({"type": "text", "content": text})}
        yield {"data": '{"type":"done"}'}

    return EventSourceResponse(frames())


app = Starlette(routes=[Route("/api/chat", chat, methods=["POST"])])
