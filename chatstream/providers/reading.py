"""The read side: the bytes of an answer, handed on in the callback that brings them, until it is over.

    socket -> `transport`'s connection and body -> `Reading`: frames -> a `Translator`'s deltas -> whoever takes them

So a read costs no task switch and sets no timer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import orjson

from .. import errors
from ..deltas import Batch, Delta, Key, OpaqueDelta, ReasoningDelta, TextDelta, ToolCallDelta
from ..sse import Decoder, Frame
from .failures import Told
from .limits import Watch

T = TypeVar("T")

# Is handed the next batch; where it returns something, that is to be waited for before it is handed more.
Take = Callable[[list[Delta]], Awaitable[None] | None]
Feed = Callable[[bytes], Awaitable[None] | None]


# What a value of a type that no document promises, wherever it makes trouble, is noticed by.
_MISREAD = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class Surroundings:
    """What stands around the text of events that differ in nothing else, so that of the next only the text is read.

    Most of an answer is such events: with 16 in a read that saves a third of a delta's cost, alone a tenth (measured).
    They are learned from one that was read whole; where others keep changing, such as OpenAI's `obfuscation`, nothing
    is. `key` is that of the part whose text it is.
    """

    __slots__ = ("_around_data", "_around_event", "_tries", "key")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Read the next events whole."""
        self.key: Key = ""
        self._tries = 8
        self._around_data = self._around_event = _NOTHING

    def text(self, data: bytes) -> str:
        """Return the text in an event's data that is otherwise as what was learned; nothing where it is not."""
        return _between(data, self._around_data)

    def text_of_event(self, event: bytes) -> str:
        """Return the same for a whole event, with its lines and the blank one behind it."""
        return _between(event, self._around_event)

    def learn(self, frame: Frame, event: Any, holder: dict[str, Any], name: str, key: Key) -> None:
        """Learn from a frame and the event in it; `holder` is the object there whose member `name` is the text."""
        if not (self._tries and holder[name]):  # no text is nothing that was said
            return
        self._tries -= 1
        before, found, behind = frame.data.rpartition(orjson.dumps(holder[name]))
        # What was found is its place if another text there is another text in that member, and changes nothing else.
        holder[name] += "+"
        with suppress(ValueError, RecursionError):
            if found and orjson.loads(b"%b%b%b" % (before, orjson.dumps(holder[name]), behind)) == event:
                self.key = key
                self._around_data = _around(before, behind)
                if b"\n" not in frame.data:
                    line = b"" if frame.event == b"message" else b"event: %b\n" % frame.event
                    self._around_event = _around(b"%bdata: %b" % (line, before), behind + b"\n\n")


# What stands before and behind a text, each with its quote, beside which nothing may stand; and where its JSON is.
_Around = tuple[bytes, bytes, int, int]
_NOTHING: _Around = b"\n", b"\n", 0, 0  # where there is no JSON


def _around(before: bytes, behind: bytes) -> _Around:
    return before + b'"', b'"' + behind, len(before), -len(behind)


def _between(data: bytes, around: _Around) -> str:
    """Return the text in its surroundings, nothing where it is none or they are others."""
    before, behind, start, stop = around
    if not (data.startswith(before) and data.endswith(behind)):
        return ""
    try:
        text: str = orjson.loads(data[start:stop])
    except ValueError:
        return ""
    return text


class Translator(Protocol):
    """Turns the frames of one response into deltas.

    `told` is who speaks, `batch` what was gathered of this read; `is_complete` says that the end was seen. It has
    `around` learn from what it reads.
    """

    told: Told
    batch: Batch
    around: Surroundings
    is_complete: bool

    def feed(self, frames: list[Frame]) -> list[Delta]: ...


class Reading:
    """One answer while it is read: a batch for each read that completes a delta. `tap` is handed each read too."""

    __slots__ = ("_decoder", "_take", "_tap", "_translator", "_watch")

    def __init__(
        self,
        translator: Translator,
        take: Take,
        watch: Watch | None = None,
        tap: Callable[[bytes], None] | None = None,
    ) -> None:
        self._translator = translator
        self._take = take
        self._watch = watch
        self._tap = tap
        self._decoder = Decoder()

    def feed(self, chunk: bytes) -> Awaitable[None] | None:
        """Take the next bytes; returns what to wait for before the next. Raises ProviderError, and what `take` does."""
        if self._tap is not None:
            self._tap(chunk)
        around = self._translator.around
        if (text := around.text_of_event(chunk)) and self._decoder.is_between:  # nearly every read is one such event
            return self._take([TextDelta(around.key, text)])
        frames = self._decoder.feed(chunk)
        return self._hand_on(frames) if frames else None

    def finish(self, failure: Exception | None) -> None:
        """Note that nothing more comes, and by which failure of the connection or the watch, if by one.

        Raises it, or ProviderError, for an answer that is not complete.
        """
        translator = self._translator
        if failure is None:
            if self._tap is not None:
                self._tap(b"")
            try:
                self._hand_on(self._decoder.close())
            except errors.ProviderBroken as error:
                raise translator.told.lost("the stream ended within an event") from error
        if not translator.is_complete:
            raise failure or translator.told.lost("the stream ended before it said so")

    def _hand_on(self, frames: list[Frame]) -> Awaitable[None] | None:
        translator = self._translator
        try:
            batch = translator.feed(frames)
        except Exception as error:
            # What one read brought before its error was said before it.
            if batch := translator.batch.take():
                self._take(batch)
            if not isinstance(error, _MISREAD):
                raise
            told = f"{translator.told.label} sent something that its API does not define."
            raise errors.ProviderMisread(told, detail=repr(error)) from error
        watch = self._watch
        if watch is not None and (translator.is_complete or not watch.has_said):
            watch.note(has_said=any(map(_says_something, batch)), is_complete=translator.is_complete)
        return self._take(batch) if batch else None


def _says_something(delta: Delta) -> bool:
    """Return whether a delta is of the answer itself, and not about it."""
    match delta:
        case TextDelta():
            return bool(delta.text)
        case ReasoningDelta():
            return bool(delta.text or delta.signature or delta.redacted)
        case _:
            return isinstance(delta, ToolCallDelta | OpaqueDelta)


class Source(Protocol):
    """The body of an answer."""

    async def push(self, feed: Feed, watch: Watch) -> Exception | None:
        """Hand `feed` all bytes as they come; returns by which failure they ended early, if by one."""

    async def aclose(self) -> None:
        """Close the connection where more is to come."""


class Awaited:
    """The body of an httpx2 response that does not push it: it came over another transport, or compressed."""

    def __init__(self, http: Any) -> None:
        self._http = http

    async def push(self, feed: Feed, watch: Watch) -> Exception | None:
        return await pull(self._http.aiter_bytes(), feed, watch)

    async def aclose(self) -> None:
        await self._http.aclose()


async def pull(chunks: AsyncIterator[bytes], feed: Feed, watch: Watch) -> Exception | None:
    """As `Source.push`, for bytes that have to be awaited."""
    while True:
        try:
            with watch:
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return None
        except Exception as failure:
            return failure
        if (wait := feed(chunk)) is not None:
            await wait


async def translate(chunks: AsyncIterator[bytes], translator: Translator) -> AsyncGenerator[list[Delta]]:
    """Yield the batches of an answer whose bytes are there, or come without limit; raises what `Reading` does."""
    batches: list[list[Delta]] = []
    reading = Reading(translator, batches.append)
    error: Exception | None = None
    is_over = False
    while not is_over:
        try:
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                is_over = True
                reading.finish(None)
            except Exception as failure:
                is_over = True
                reading.finish(failure)
            else:
                reading.feed(chunk)
        except Exception as raised:
            is_over, error = True, raised
        for batch in batches:
            yield batch
        batches.clear()
    if error is not None:
        raise error


async def pulled(push: Callable[[Callable[[T], Awaitable[None] | None]], Awaitable[None]]) -> AsyncGenerator[T]:
    """Yield what `push` hands on, which waits while nobody asks for more; closing the generator ends it."""
    loop = asyncio.get_running_loop()
    batches: deque[T] = deque()
    news, room = asyncio.Event(), loop.create_future()

    def take(batch: T) -> Awaitable[None]:
        nonlocal room
        batches.append(batch)
        news.set()
        room = loop.create_future()
        return room

    task = asyncio.ensure_future(push(take))
    task.add_done_callback(lambda _: news.set())
    try:
        while not task.done() or batches:
            await news.wait()
            news.clear()
            while batches:
                yield batches.popleft()
            if not room.done():
                room.set_result(None)
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])
