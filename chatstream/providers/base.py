"""What every provider is, and what the adapters over HTTP share.

    SDK      builds, signs and sends the request, and maps the status of its answer to an exception
    here     bytes of the answer -> frames -> a `Translator`'s deltas, one batch for each read
    adapter  messages -> its API's request; its API's events -> deltas

An adapter never retries and keeps nothing between two requests: the agent sees every attempt.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self
from urllib.parse import SplitResult, urlsplit

import orjson

from .. import errors
from ..deltas import Batch, Delta, FinishReason, OpaqueDelta, ReasoningDelta, TextDelta, ToolCallDelta
from ..messages import Message, user
from ..sse import Decoder, Frame
from ..tools import Tool
from .failures import Told as Told
from .limits import DEFAULT_LIMITS, Chunks, Watch
from .limits import Limits as Limits

Effort = Literal["low", "medium", "high"]
EFFORTS: tuple[Effort, ...] = ("low", "medium", "high")


class Tap(Protocol):
    """Is told what goes over the wire: the `body` that was sent, then each read of the answer, b"" at its end."""

    def sent(self, told: Told, body: dict[str, Any]) -> None: ...

    def read(self, chunk: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request to a model. `effort` and `temperature` are sent where given and where the model takes them.

    `provider_tools` names tools that the provider runs itself (`web_search`). `tap` is told what goes over the wire.
    `limits` says how long it may take. `without` names what the model refused (see `errors.OptionRefused`): some of it
    adapters ask for by themselves.
    """

    model: str
    messages: Sequence[Message]
    system: str = ""
    tools: Sequence[Tool] = ()
    max_output_tokens: int = 4096
    temperature: float | None = None
    effort: Effort | None = None
    provider_tools: Sequence[str] = ()
    tap: Tap | None = None
    limits: Limits = DEFAULT_LIMITS
    without: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What `GET /api/models` says of a model; `reason` says why it cannot be used, empty where it can."""

    provider: str
    name: str
    label: str
    tools: bool = True
    images: bool = False
    reasoning: bool = False
    is_demo: bool = False
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"id": f"{self.provider}:{self.name}", "provider": self.provider, "name": self.name}
        value |= {"label": self.label, "isDemo": self.is_demo, "available": not self.reason}
        value |= {"tools": self.tools, "images": self.images, "reasoning": self.reasoning}
        return value | ({"reason": self.reason} if self.reason else {})


class Provider(ABC):
    """A source of models. `name` is the part before the colon in `provider:model`."""

    name: str
    label: ClassVar[str]
    default_model: str
    # The names of the tools that it can run itself, for `ModelRequest.provider_tools`.
    provider_tools: ClassVar[tuple[str, ...]] = ()
    # What it is to ask one that cannot be used.
    unusable: ClassVar[type[errors.ProviderError]] = errors.ModelNotFound

    @property
    def is_default_known(self) -> bool:
        """Whether `default_model` is one that is there: another server than the API's own has its own models."""
        return True

    @property
    def reason(self) -> str:
        """Why it cannot be used on this machine, with the command or variable that mends it; empty where it can."""
        return ""

    @property
    def secrets(self) -> list[str]:
        """What must never be written down: its keys."""
        return []

    def info(self, model: str) -> ModelInfo:
        """Say what is known of a model without asking anyone."""
        return ModelInfo(self.name, model, f"{model} ({self.label})", reason=self.reason)

    async def open(self) -> None:  # noqa: B027 (not every provider has something to load)
        """Load what the first request needs, so that it need not wait for it."""

    @abstractmethod
    def stream(self, request: ModelRequest) -> AsyncGenerator[list[Delta]]:
        """Yield the deltas of one response, a batch for each read; close the generator to end the request at once.

        A model that cannot call tools is sent none, whatever the request offers.

        Raises ProviderError. A response that ended properly has yielded a `Finish`.
        """

    async def text(self, messages: str | Sequence[Message], *, model: str = "") -> AsyncIterator[str]:
        """Yield the text of one response, as it comes, and let go of all: the smallest use of a model."""
        told = [user(messages)] if isinstance(messages, str) else messages
        request = ModelRequest(model or self.default_model, told)
        async with self, aclosing(self.stream(request)) as batches:
            async for batch in batches:
                for delta in batch:
                    if isinstance(delta, TextDelta):
                        yield delta.text

    async def aclose(self) -> None:  # noqa: B027 (not every provider holds something)
        """Let go of connections and processes; the next request opens them again."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()


class Translator(Protocol):
    """Turns the frames of one response into deltas.

    `told` is who speaks, `batch` what was gathered of this read; `is_complete` says that the end was seen.
    """

    told: Told
    batch: Batch
    is_complete: bool

    def feed(self, frames: list[Frame]) -> list[Delta]: ...


async def translate(chunks: AsyncIterator[bytes], translator: Translator) -> AsyncGenerator[list[Delta]]:
    """Yield a batch of deltas for each chunk that completes at least one of them.

    Raises ProviderError for a response that ended before it was complete, whether the connection was lost or not.
    """
    decoder = Decoder()
    watch = chunks.watch if isinstance(chunks, Chunks) else None
    try:
        async for chunk in chunks:
            if frames := decoder.feed(chunk):
                batch = _feed(translator, frames)
                if watch is not None and (translator.is_complete or not watch.has_said):
                    watch.note(has_said=any(map(_says_something, batch)), is_complete=translator.is_complete)
                if batch:
                    yield batch
        if batch := _feed_rest(translator, decoder.close()):
            yield batch
    except errors.ProviderError as error:
        # What one read brought before its error was said before it.
        if batch := translator.batch.take():
            yield batch
        if not (translator.is_complete and isinstance(error, errors.ProviderTimeout)):
            raise
    except Exception:
        if not translator.is_complete:
            raise
    if not translator.is_complete:
        raise translator.told.lost("the stream ended before it said so")


def _says_something(delta: Delta) -> bool:
    """Return whether a delta is of the answer itself, and not about it."""
    match delta:
        case TextDelta():
            return bool(delta.text)
        case ReasoningDelta():
            return bool(delta.text or delta.signature or delta.redacted)
        case _:
            return isinstance(delta, ToolCallDelta | OpaqueDelta)


def _feed(translator: Translator, frames: list[Frame]) -> list[Delta]:
    """Feed frames; a value of a type that no document promises, wherever it makes trouble, is the provider's error."""
    try:
        return translator.feed(frames)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise errors.ProviderMisread(
            f"{translator.told.label} sent something that its API does not define.", detail=repr(error)
        ) from error


def _feed_rest(translator: Translator, frames: list[Frame]) -> list[Delta]:
    """Feed the event that stood at the end without its blank line; where it is not whole, neither is the answer."""
    try:
        return _feed(translator, frames)
    except errors.ProviderBroken as error:
        raise translator.told.lost("the stream ended within an event") from error


def read_json(frame: Frame, label: str) -> Any:
    """Return the value of a frame's data; halves of surrogate pairs and broken UTF-8 become replacement characters.

    What is blank, or a ping in a server's own words, is an object that says nothing. Raises ProviderBroken where
    anything else is not JSON.
    """
    try:
        return orjson.loads(frame.data)
    except ValueError:
        if not frame.data.strip() or frame.event == b"ping":
            return {}
    try:
        value = json.loads(frame.data.decode("utf-8", "replace"))
        return orjson.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise errors.ProviderBroken(
            f"{label} sent something that is not JSON, so the answer could not be read to its end.",
            detail=f"{error}: {frame.data[:300]!r}",
        ) from error


# --- the two official SDKs --------------------------------------------------------------------------------------------


class SdkProvider(Provider):
    """A provider whose requests one of the official SDKs sends. Both SDKs are made alike, so this serves either.

    `api_key` and `base_url` default to the variables in `key_variables` and `base_variable`. The SDK is imported in a
    thread at `open` or at the first request (2 s for anthropic's: measured).
    """

    unusable = errors.ProviderAuth
    sdk: ClassVar[str]
    client_class: ClassVar[str]
    key_variables: ClassVar[tuple[str, ...]]
    base_variable: ClassVar[str]
    # The API's own address, which the SDK knows too, and where below it its models are listed.
    home: ClassVar[str]
    models_path: ClassVar[str]

    def __init__(self, *, api_key: str = "", base_url: str = "", keep_alive: bool = True) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._keep_alive = keep_alive
        self._client: Any = None
        self._module: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def base_url(self) -> str:
        return self._base_url or os.environ.get(self.base_variable, "")

    @property
    def reason(self) -> str:
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            return f"{self.base_variable} must begin with http:// or https://, and is {self.base_url[:100]!r}"
        key = self._api_key or next(filter(None, map(os.environ.get, self.key_variables)), "")
        if not (key.isascii() and key.isprintable()):
            return f"the key in {' or '.join(self.key_variables)} holds a character that no key has, maybe a line break"
        return "" if key or not self.needs_key else f"no key: set {' or '.join(self.key_variables)}"

    @property
    def secrets(self) -> list[str]:
        given = [self._api_key, *map(os.environ.get, self.key_variables), urlsplit(self.base_url).password]
        return [secret for secret in given if secret]

    @property
    def needs_key(self) -> bool:
        return True

    @property
    def shown(self) -> str:
        """Who answers, for people: the host where it is another server than the API's own."""
        return _host(urlsplit(self.base_url)) or self.label

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        if self._client is not None and self._loop is loop:
            return
        if self.reason:
            raise errors.ProviderAuth(f"{self.label} cannot be asked: {self.reason}.")
        # Under the import lock of a thread: two first requests at once import it once.
        self._module = await asyncio.to_thread(importlib.import_module, self.sdk)
        if self._client is None or self._loop is not loop:
            self._client, self._loop = self._make_client(), loop

    def _make_client(self) -> Any:
        httpx2 = importlib.import_module("httpx2")
        # No limit on connections: the 1,001st stream would wait for one of the SDK's 1,000 (measured).
        limits = httpx2.Limits(max_connections=0, keepalive_expiry=15.0)
        # Without a key there is a base URL (see `reason`), whose server wants none; the SDK wants one all the same.
        no_key = "" if any(os.environ.get(name) for name in self.key_variables) else "none"
        options = {"api_key": self._api_key or no_key, "base_url": self.base_url}
        return getattr(self._module, self.client_class)(
            **{name: value for name, value in options.items() if value},
            max_retries=0,
            http_client=self._module.DefaultAioHttpClient(limits=limits),
        )

    def told(self, model: str) -> Told:
        address = urlsplit(self.base_url or self.home)
        models = f"{address.scheme}://{_host(address)}{address.path.rstrip('/')}{self.models_path}"
        return Told(self.shown, model, " or ".join(self.key_variables), models)

    @abstractmethod
    def asking(self, request: ModelRequest) -> tuple[Any, dict[str, Any]]:
        """Return the method of the SDK that sends a request, and its arguments."""

    @abstractmethod
    def translator(self, told: Told) -> Translator:
        """Return what reads the answer."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[Delta]]:
        await self.open()
        told = self.told(request.model)
        method, parameters = self.asking(request)
        async with (
            self.answer(method, parameters, told, request) as chunks,
            aclosing(translate(chunks, self.translator(told))) as batches,
        ):
            async for batch in batches:
                yield batch

    @asynccontextmanager
    async def answer(
        self, method: Any, parameters: dict[str, Any], told: Told, request: ModelRequest
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Send a request by the SDK's `method` and hand out the bytes of its answer; leaving closes the socket."""
        # Both are loaded by the SDK, which raises what they raise.
        aiohttp, httpx2 = importlib.import_module("aiohttp"), importlib.import_module("httpx2")
        headers = {} if self._keep_alive else {"Connection": "close"}
        # Connecting has aiohttp's own limit (`pool` counts the name's look-up in); a limit on reads would set a timer
        # anew for each of them.
        connect = request.limits.connect or None
        timeout = httpx2.Timeout(None, connect=connect, pool=connect)
        watch = Watch(request.limits, told.label)
        answered = False
        if request.tap is not None:
            body = parameters | parameters.get("extra_body", {})
            request.tap.sent(told, {name: value for name, value in body.items() if name != "extra_body"})
        try:
            async with AsyncExitStack() as stack:
                with watch:
                    sent = method(**parameters, extra_headers=headers, timeout=timeout)
                    http = (await stack.enter_async_context(sent)).http_response
                    if (kind := _kind(http)) in ("application/json", "text/html"):
                        raise _not_a_stream(told, kind, await http.aread())
                answered = True
                yield Chunks(_reads(http), watch, None if request.tap is None else request.tap.read)
        except self._module.APIStatusError as error:
            body = error.body if error.body is not None else error.message
            raise told.status_error(error.status_code, body, error.response.headers) from error
        except (self._module.APIConnectionError, httpx2.TransportError, aiohttp.ClientError) as error:
            raise _connection_error(told, error, answered, request.limits) from error
        finally:
            watch.close()

    async def aclose(self) -> None:
        if self._client is not None and self._loop is asyncio.get_running_loop():
            await self._client.close()
        self._client = None


def _host(address: SplitResult) -> str:
    """Return the host and port without the name and password that may stand before them."""
    return address.netloc.rpartition("@")[2]


def _reads(http: Any) -> Callable[[], Awaitable[bytes]]:
    """Return what reads the bytes of an httpx2 response as they arrive, for a faster read side to take its place.

    The SDK's transport keeps aiohttp's response, whose reader gives all that has come at once; through the layers above
    it a read costs about 15 us more (measured). Where it is not found there, or the body is compressed, they are used.
    """
    answer: Any = getattr(getattr(http.stream, "_stream", None), "_aiohttp_response", None)
    is_coded = answer is None or http.headers.get("content-encoding")
    read: Callable[[], Awaitable[bytes]] = (http.aiter_bytes() if is_coded else answer.content.iter_any()).__anext__
    return read


def _connection_error(told: Told, error: Exception, answered: bool, limits: Limits) -> errors.ProviderError:
    """Return what went wrong below HTTP; the first cause says whether it was a time limit.

    The exception itself does not: openai 3.54 calls a refused connection a timeout too (seen).
    """
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
        if isinstance(cause, TimeoutError):
            break
    detail = f"{error!r} from {cause!r}"
    if answered:
        return told.lost(detail)
    if isinstance(cause, TimeoutError) and limits.connect:
        text = f"{told.label} could not be reached within {limits.connect:g} s (--connect-timeout)."
        return errors.ProviderTimeout(text, detail=detail)
    return errors.ProviderUnreachable(f"{told.label} could not be reached.", detail=detail)


def _kind(http: Any) -> str:
    return str(http.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _not_a_stream(told: Told, kind: str, body: bytes) -> errors.ProviderError:
    """Return the error for an answer of status 200 that is one JSON object: some servers say errors that way.

    Where it is none, asking again would bring the same, and a whole answer that nobody sees is paid for each time.
    """
    detail = body[:2000].decode(errors="replace")
    if kind == "text/html":
        text = f"{told.label} answered with a web page, not as an API. Check the address, which often ends in /v1."
        return errors.ProviderMisread(text, detail=detail)
    try:
        value = orjson.loads(body)
    except ValueError:
        value = None
    if isinstance(value, dict) and "error" in value:
        return told.stream_error(value["error"])
    return errors.ProviderMisread(f"{told.label} did not stream its answer.", detail=detail)


def finish_reason(table: Mapping[str, FinishReason], raw: object) -> FinishReason:
    """Return what a provider's word means; a word that nobody documented is OTHER."""
    return table.get(str(raw), FinishReason.OTHER)


def own_tools(request: ModelRequest, known: Collection[str], label: str) -> list[str]:
    """Return the names of the provider's own tools that a request wants; raises ProviderRefused for an unknown one."""
    if unknown := [name for name in request.provider_tools if name not in known]:
        names = ", ".join(known)
        raise errors.ProviderRefused(f"{label} runs no tool {unknown[0]!r} itself: the known ones are {names}.")
    return list(dict.fromkeys(request.provider_tools))
