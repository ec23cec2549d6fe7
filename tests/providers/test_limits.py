"""Time limits: when each strikes, by a clock of the test's own, and that each does over the real SDKs and sockets."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from chatstream import errors, events, user
from chatstream.events import Outcome
from chatstream.messages import Message
from chatstream.providers import Limits, ModelRequest, Provider
from chatstream.providers.anthropic import Anthropic
from chatstream.providers.base import Told
from chatstream.providers.limits import Watch
from chatstream.providers.openai import OpenAI
from chatstream.providers.openai_chat import OpenAIChat
from chatstream.providers.openai_chunks import ChatTranslator
from chatstream.providers.reading import Reading, pull
from chatstream.testing import FakeProvider, Turn
from chatstream.testing.streams import STREAMS
from tests.runs import SDKS, SETTINGS, follow, of

T = TypeVar("T")

HEAD = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
TEXT = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'
END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
PING = b": still here\n\n"


class _Selector(selectors.DefaultSelector):
    """Passes the time that is to be waited at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class Clock(asyncio.SelectorEventLoop):
    """A loop in which nothing takes time but sleeping, and that takes none."""

    def __init__(self) -> None:
        self._own = _Selector()
        self.timers = 0
        super().__init__(self._own)

    def time(self) -> float:
        return self._own.now

    def call_at(self, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
        self.timers += 1
        return super().call_at(*arguments, **options)


def at_once(work: Coroutine[Any, Any, T]) -> tuple[T, Clock]:
    loop = Clock()
    try:
        return loop.run_until_complete(work), loop
    finally:
        loop.close()


async def read(steps: Sequence[tuple[float, bytes]], limits: Limits, slow: float = 0.0) -> str:
    """Read what comes after so many seconds each, and take `slow` seconds for each batch; say how that ended."""
    watch = Watch(limits, "Fake")

    async def chunks() -> AsyncIterator[bytes]:
        for seconds, chunk in steps:
            await asyncio.sleep(seconds)
            yield chunk

    reading = Reading(ChatTranslator(Told("Fake", "m")), lambda _: asyncio.sleep(slow), watch)
    try:
        reading.finish(await pull(chunks(), reading.feed, watch))
    except errors.ProviderTimeout as error:
        task = asyncio.current_task()
        assert task is not None and not task.cancelling(), "what the watch cancelled it takes back"
        return f"{type(error).__name__}: {error.message}"
    finally:
        watch.close()
    return "complete"


FIRST, BETWEEN, TOTAL = "--first-token-timeout", "--chunk-timeout", "--total-timeout"
USUAL, NONE = Limits(), Limits(0, 0, 0, 0)
# What comes after how many seconds, what the reader takes for each batch, the limits; how it ends, and after how long.
CASES: dict[str, tuple[list[tuple[float, bytes]], float, Limits, str, float]] = {
    "silence from the beginning": ([(400, TEXT)], 0, USUAL, FIRST, 300),
    "pings and no word": ([(50, PING)] * 20, 0, USUAL, FIRST, 300),
    "a head and no word": ([(1, HEAD), (400, TEXT)], 0, USUAL, FIRST, 300),
    "a word just in time": ([(299, TEXT), (170, TEXT), (1, END)], 0, USUAL, "complete", 470),
    "silence in the middle": ([(10, TEXT), (100, TEXT), (200, TEXT)], 0, USUAL, BETWEEN, 290),
    "pings in the middle": ([(10, TEXT), *[(100, PING)] * 5, (100, END)], 0, USUAL, "complete", 610),
    "an answer without end": ([(100, TEXT)] * 30, 0, USUAL, TOTAL, 1800),
    "pings without end": ([(1, TEXT), *[(100, PING)] * 30], 0, USUAL, TOTAL, 1800),
    "a slow reader": ([(10, TEXT), (10, TEXT), (10, END)], 500, USUAL, "complete", 1530),
    "a slow reader before the first word": ([(10, USAGE), (280, TEXT), (1, END)], 500, USUAL, "complete", 1791),
    "a slow reader of a slow answer": ([(10, USAGE), (295, TEXT)], 500, USUAL, FIRST, 800),
    "a server that does not hang up": ([(10, TEXT), (1, END), (9999, PING)], 0, USUAL, "complete", 21),
    "usage after the end": ([(10, TEXT), (1, END), (5, USAGE)], 0, USUAL, "complete", 16),
    "no limits": ([(5000, TEXT), (5000, TEXT), (1, END)], 0, NONE, "complete", 10001),
    "a total only": ([(5000, TEXT)], 0, Limits(total=60, first=0, between=0), TOTAL, 60),
    "silence only": ([(5000, TEXT), (50, TEXT)], 0, Limits(0, 0, 30, 0), BETWEEN, 5030),
    "a total shorter than the rest": ([(5, TEXT), (100, TEXT)], 0, Limits(total=20), TOTAL, 20),
}


@pytest.mark.parametrize(("steps", "slow", "limits", "ending", "seconds"), CASES.values(), ids=CASES)
def test_each_limit_strikes_when_it_is_over_and_says_which_option_sets_it(
    steps: list[tuple[float, bytes]], slow: float, limits: Limits, ending: str, seconds: float
) -> None:
    said, clock = at_once(read(steps, limits, slow))
    assert ending in said
    assert clock.time() == pytest.approx(seconds)
    assert said.startswith("AnswerTooLong") == (ending == TOTAL)


def test_reads_set_no_timers() -> None:
    async def pings() -> AsyncIterator[bytes]:
        for _ in range(1000):
            await asyncio.sleep(0)
            yield PING

    async def work() -> None:
        await pull(pings(), lambda _: None, Watch(USUAL, "Fake"))

    _, clock = at_once(work())
    assert clock.timers == 1


def test_a_cancelling_from_outside_is_no_timeout_even_at_the_same_moment() -> None:
    async def cancelled_after(seconds: float) -> bool:
        task = asyncio.ensure_future(read([(999, TEXT)], USUAL))
        asyncio.get_running_loop().call_later(seconds, task.cancel)
        await asyncio.wait([task])
        return task.cancelled()

    for seconds in (50.0, 300.0):
        assert at_once(cancelled_after(seconds))[0]


# --- over real sockets ------------------------------------------------------------------------------------------------

PATHS = {"anthropic": "messages", "openai": "responses", "openai_chat": "chat/completions"}


def provider_of(sdk: str, fake: FakeProvider) -> Provider:
    provider: Provider = getattr(fake, sdk)()
    return provider


async def ask(provider: Provider, limits: Limits) -> None:
    async with aclosing(provider.stream(ModelRequest("m", [user("Hi")], limits=limits))) as batches:
        async for _ in batches:
            pass


def begun(sdk: str) -> Turn:
    """Return a turn that says something and then no more."""
    stream = STREAMS[PATHS[sdk]](Turn(text="Hello there"), 0)
    return Turn(text="Hello there", stall=stream.index(b"\n\n", stream.index(b"Hello th")) + 2)


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("limit", [FIRST, BETWEEN, TOTAL])
async def test_a_limit_ends_a_real_request_and_closes_its_socket(sdk: str, limit: str) -> None:
    turn, limits = {
        FIRST: (Turn(first=60, text="Hello"), Limits(first=0.2)),
        BETWEEN: (begun(sdk), Limits(between=0.2)),
        TOTAL: (Turn(text="x" * 4000, chunk=1, write="event", delay=0.01), Limits(total=0.3)),
    }[limit]
    async with asyncio.timeout(30), FakeProvider([turn]) as fake:
        with pytest.raises(errors.ProviderTimeout, match=limit) as raised:
            await ask(provider_of(sdk, fake), limits)
        await fake.requests[0].ended.wait()
        assert fake.requests[0].left
    assert raised.value.retryable is (limit != TOTAL)


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """Take connections on a port of loopback, and say nothing."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for writer in writers:
            writer.close()
        server.close()


@pytest.mark.parametrize("kind", [Anthropic, OpenAI, OpenAIChat])
@pytest.mark.parametrize(
    ("scheme", "limit"),
    [("https", "--connect-timeout"), ("http", FIRST)],
    ids=["a handshake that is not answered", "a request that is not answered"],
)
async def test_a_server_that_says_nothing_at_all_is_given_up(kind: type[Any], scheme: str, limit: str) -> None:
    async with asyncio.timeout(30), silent_server() as port:
        provider = kind(api_key="key", base_url=f"{scheme}://127.0.0.1:{port}/v1")
        limits = Limits(connect=0.2, first=0) if scheme == "https" else Limits(connect=20, first=0.2)
        with pytest.raises(errors.ProviderTimeout, match=limit):
            await ask(provider, limits)
        await provider.aclose()


async def test_each_wait_may_be_another_tasks() -> None:
    async with asyncio.timeout(30), FakeProvider([begun("anthropic")]) as fake:
        request = ModelRequest("m", [user("Hi")], limits=Limits(between=0.2))
        async with aclosing(fake.anthropic().stream(request)) as batches:
            with pytest.raises(errors.ProviderTimeout):
                while True:
                    await asyncio.create_task(anext(batches))


async def test_an_answer_that_does_not_begin_is_asked_for_again() -> None:
    def turn(_: object) -> Turn:
        return Turn(first=60) if len(fake.requests) == 1 else Turn(text="Hi")

    settings = replace(SETTINGS, limits=Limits(first=0.5))
    async with FakeProvider(turn) as fake:
        said = await follow(fake.anthropic(), [user("Hi")], settings=settings)
    assert said[-1].outcome is Outcome.COMPLETED  # type: ignore[union-attr]
    assert FIRST in of(said, events.Notice)[0].message
    assert of(said, events.RunFinished)[0].messages[0].text == "Hi"


async def test_an_answer_that_took_too_long_is_not_asked_for_again() -> None:
    settings = replace(SETTINGS, limits=Limits(total=0.2))
    history: list[Message] = [user("Hi")]
    async with FakeProvider([Turn(first=60)]) as fake:
        said = await follow(fake.openai_chat(), history, settings=settings)
    (failed,) = of(said, events.RunFailed)
    assert (failed.code, failed.retryable, len(fake.requests)) == ("timeout", False, 1)
    assert TOTAL in failed.message
