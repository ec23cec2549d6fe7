"""Runs against the fake provider and against scripts, each followed by the grammar."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from chatstream import Message, Retry, Settings, Tool, errors, run, tool, user
from chatstream.events import Event, Grammar
from chatstream.providers import Provider
from chatstream.testing import FakeProvider, Turn

SDKS = ["anthropic", "openai", "openai_chat"]


async def no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


SETTINGS = Settings(retry=Retry(sleep=no_sleep, jitter=lambda: 1.0))


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def fail(why: str) -> str:
    """Fail."""
    raise errors.ToolError(why)


async def follow(
    provider: Provider, messages: Sequence[Message], tools: Iterable[Tool] = (), settings: Settings = SETTINGS
) -> list[Event]:
    """Return the events of a run that obeys the grammar to its end."""
    grammar, said = Grammar(), []
    async with asyncio.timeout(60), provider:
        async for event in run(provider, messages, tools, settings):
            grammar.check(event)
            said.append(event)
    assert grammar.state == "after"
    return said


async def play(sdk: str, turns: Sequence[Turn], **options: Any) -> tuple[list[Event], list[dict[str, Any]]]:
    """Return the events of a run against these turns, and the bodies that were asked."""
    async with FakeProvider(turns) as fake:
        said = await follow(getattr(fake, sdk)(), [user("Hi")], **options)
    return said, [request.body for request in fake.requests]


def of(said: Iterable[Event], kind: type[Any]) -> list[Any]:
    return [event for event in said if isinstance(event, kind)]
