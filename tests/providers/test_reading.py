"""The read side over real sockets: pushed in the callback that brings them, held back on demand, and never lost."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest

from chatstream import errors, user
from chatstream.deltas import Delta, TextDelta
from chatstream.providers import ModelRequest
from chatstream.providers.openai_chat import OpenAIChat
from chatstream.testing import FakeProvider, Turn
from chatstream.testing.streams import STREAMS

CHAT = "chat/completions"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
REQUEST = ModelRequest("m", [user("Hi")])


def stream(text: str) -> bytes:
    return STREAMS[CHAT](Turn(text=text), 0)


def text_of(batches: list[list[Delta]]) -> str:
    return "".join(delta.text for batch in batches for delta in batch if isinstance(delta, TextDelta))


@asynccontextmanager
async def serving(body: bytes, *headers: bytes) -> AsyncIterator[tuple[OpenAIChat, list[bytes]]]:
    """Answer every request with the same bytes; yields a provider that asks there, and from where it was asked."""
    asked: list[bytes] = []
    answering: set[asyncio.Task[object] | None] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.current_task())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                asked.append(str(writer.get_extra_info("peername")[1]).encode())
                writer.write(b"\r\n".join([HEAD.rstrip(), *headers, b"", b""]) + body)
                await writer.drain()
                if not headers:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with asyncio.timeout(30), server:
        port = server.sockets[0].getsockname()[1]
        async with OpenAIChat(api_key="key", base_url=f"http://127.0.0.1:{port}/v1") as provider:
            yield provider, asked
        await asyncio.gather(*filter(None, answering))


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


SAID = "Of many words. " * 40
BODIES = {
    "in chunks": (chunked(stream(SAID), 100), [b"Transfer-Encoding: chunked"]),
    "with its length": (stream(SAID), [b"Content-Length: %d" % len(stream(SAID))]),
    "until it is closed": (stream(SAID), []),
    "compressed": (gz := gzip.compress(stream(SAID)), [b"Content-Encoding: gzip", b"Content-Length: %d" % len(gz)]),
}


@pytest.mark.parametrize(("body", "headers"), BODIES.values(), ids=BODIES)
async def test_an_answer_is_whole_however_http_ends_it_and_its_connection_is_used_again(
    body: bytes, headers: list[bytes]
) -> None:
    async with serving(body, *headers) as (provider, asked):
        for _ in range(3):
            batches: list[list[Delta]] = []
            await provider.push(REQUEST, batches.append)
            assert text_of(batches) == SAID
    assert len(asked) == 3 and len(set(asked)) == (1 if headers else 3)


async def test_a_connection_that_is_free_again_is_not_held_by_who_still_works_on_its_last_answer() -> None:
    body, headers = BODIES["in chunks"]
    async with serving(body, *headers) as (provider, asked):
        slow: list[list[Delta]] = []
        read, done = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            await done.wait()

        def take(batch: list[Delta]) -> Awaitable[None] | None:
            slow.append(batch)
            if text_of(slow) != SAID:
                return None
            read.set()
            return wait()

        first = asyncio.create_task(provider.push(REQUEST, take))
        await read.wait()
        batches: list[list[Delta]] = []
        await provider.push(REQUEST, batches.append)
        assert text_of(batches) == SAID and not first.done()
        done.set()
        await first
    assert len(asked) == 2


async def test_the_provider_is_read_no_faster_than_what_it_says_is_taken() -> None:
    text = "word " * 2_000_000
    async with asyncio.timeout(60), FakeProvider([Turn(text=text, chunk=5000, write=65536)]) as fake:
        going_on = asyncio.Event()
        batches: list[list[Delta]] = []

        def take(batch: list[Delta]) -> asyncio.Future[bool] | None:
            batches.append(batch)
            return None if going_on.is_set() else asyncio.ensure_future(going_on.wait())

        reading = asyncio.create_task(fake.openai_chat().push(REQUEST, take))  # type: ignore[arg-type]
        sent = -1
        while not fake.requests or not batches or fake.requests[0].sent > sent:
            sent = fake.requests[0].sent if fake.requests else -1
            await asyncio.sleep(0.1)
        assert len(batches) == 1 and sent < len(text) * 0.9, "the sockets between them are full"
        going_on.set()
        await reading
    assert text_of(batches) == text


async def test_what_the_taker_raises_ends_the_request_and_is_raised_as_it_was() -> None:
    async with asyncio.timeout(30), FakeProvider([Turn(text="word " * 1000, write="event", delay=0.001)]) as fake:

        def take(batch: list[Delta]) -> None:
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await fake.anthropic().push(REQUEST, take)
        await fake.requests[0].ended.wait()
        assert fake.requests[0].left


async def test_what_came_before_a_connection_was_lost_is_handed_on() -> None:
    whole = stream(SAID)
    async with (
        asyncio.timeout(30),
        FakeProvider([Turn(text=SAID, drop=len(whole) // 2, delay=0.01, write=200)]) as fake,
    ):
        batches: list[list[Delta]] = []
        with pytest.raises(errors.ProviderUnreachable):
            await fake.openai_chat().push(REQUEST, batches.append)
    assert SAID.startswith(text_of(batches)) and len(text_of(batches)) > len(SAID) // 4
