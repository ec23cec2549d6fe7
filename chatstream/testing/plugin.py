"""The fixture `fake_provider` for the tests of what is built on chatstream. Put into a test module or `conftest.py`

    pytest_plugins = ["chatstream.testing.plugin"]

It needs pytest-asyncio (pytest-aiohttp brings it).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from .provider import FakeProvider


@pytest_asyncio.fixture
async def fake_provider(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Callable[..., Coroutine[Any, Any, FakeProvider]]]:
    """Start a fake provider: `fake = await fake_provider([Turn(text="Hello")])`.

    Models that are named, `anthropic:...` or `openai:...`, are asked there too, with no key. The test fails when it
    ends if the provider was asked what it had no turn for.
    """
    fakes: list[FakeProvider] = []
    async with AsyncExitStack() as stack:

        async def start(*arguments: Any, **options: Any) -> FakeProvider:
            fake = await stack.enter_async_context(FakeProvider(*arguments, **options))
            for name, value in fake.environment.items():
                monkeypatch.setenv(name, value)
            fakes.append(fake)
            return fake

        yield start
    if misuse := [each for fake in fakes for each in fake.misuse]:
        pytest.fail("\n".join(misuse), pytrace=False)
