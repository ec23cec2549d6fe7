"""What every provider is, and what the adapters over HTTP share.

    SDK      builds, signs and sends the request, and maps the status of its answer to an exception
    reading  bytes of the answer -> frames -> a `Translator`'s deltas, one batch for each read
    adapter  messages -> its API's request; its API's events -> deltas

An adapter never retries and keeps nothing between two requests: the agent sees every attempt.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, Protocol, Self
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import orjson

from .. import errors
from ..deltas import Delta, FinishReason, TextDelta
from ..messages import Message, user
from ..sse import Frame
from ..tools import Tool
from .failures import Told as Told
from .limits import DEFAULT_LIMITS, Watch
from .limits import Limits as Limits
from .reading import Awaited, Reading, Source, pulled
from .reading import Surroundings as Surroundings
from .reading import Take as Take
from .reading import Translator as Translator
from .reading import translate as translate

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
    """A source of models. `name` is the part before the colon in `provider:model`.

    One defines `stream`, or `push` where what comes is handed on without a switch of tasks: each makes the other.
    """

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

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[Delta]]:
        """Yield the deltas of one response, a batch for each read; close the generator to end the request at once.

        A model that cannot call tools is sent none, whatever the request offers.

        Raises ProviderError. A response that ended properly has yielded a `Finish`.
        """
        async with aclosing(pulled(partial(self.push, request))) as batches:
            async for batch in batches:
                yield batch

    async def push(self, request: ModelRequest, take: Take) -> None:
        """Hand `take` the batches of one response, and return when it is over; cancelling ends the request at once.

        What `take` returns, if anything, is waited for before the next. Raises as `stream`, and what `take` raises.
        """
        async with aclosing(self.stream(request)) as batches:
            async for batch in batches:
                if (wait := take(batch)) is not None:
                    await wait

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
        if _has_proxy(urlsplit(self.base_url or self.home)):
            # No limit on connections: the 1,001st stream would wait for one of the SDK's 1,000 (measured).
            http: dict[str, Any] = {"limits": httpx2.Limits(max_connections=None)}
        else:
            http = {"transport": importlib.import_module(f"{__package__}.transport").Transport()}
        # Without a key there is a base URL (see `reason`), whose server wants none; the SDK wants one all the same.
        no_key = "" if any(os.environ.get(name) for name in self.key_variables) else "none"
        options = {"api_key": self._api_key or no_key, "base_url": self.base_url}
        return getattr(self._module, self.client_class)(
            **{name: value for name, value in options.items() if value},
            max_retries=0,
            http_client=self._module.DefaultAsyncHttpxClient(**http),
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

    async def push(self, request: ModelRequest, take: Take) -> None:
        await self.open()
        httpx2 = importlib.import_module("httpx2")  # which the SDK has loaded
        told = self.told(request.model)
        watch = Watch(request.limits, told.label)
        reading = Reading(self.translator(told), take, watch, None if request.tap is None else request.tap.read)
        source: Source | None = None
        try:
            source = await self._ask(request, told, watch)
            try:
                failure = await source.push(reading.feed, watch)
            except errors.ProviderTimeout as struck:
                failure = struck
            reading.finish(failure)
        except self._module.APIStatusError as error:
            body = error.body if error.body is not None else error.message
            raise told.status_error(error.status_code, body, error.response.headers) from error
        except (self._module.APIConnectionError, httpx2.TransportError) as error:
            raise _connection_error(told, error, source is not None, request.limits) from error
        finally:
            watch.close()
            if source is not None:
                await source.aclose()

    async def _ask(self, request: ModelRequest, told: Told, watch: Watch) -> Source:
        """Send a request by the SDK, and return the body of its answer alone: all else would be held for its time."""
        httpx2 = importlib.import_module("httpx2")
        method, parameters = self.asking(request)
        headers = {"Accept-Encoding": "identity"} | ({} if self._keep_alive else {"Connection": "close"})
        timeout = httpx2.Timeout(None, connect=request.limits.connect or None)
        if request.tap is not None:
            sent = parameters | parameters.get("extra_body", {})
            request.tap.sent(told, {name: value for name, value in sent.items() if name != "extra_body"})
        with watch:
            response = await method(**parameters, extra_headers=headers, timeout=timeout).__aenter__()
            http = response.http_response
            if (kind := _kind(http)) in ("application/json", "text/html"):
                raise _not_a_stream(told, kind, await http.aread())
        pushed: Source | None = http.extensions.get("body")
        if pushed is None or http.headers.get("content-encoding"):
            return Awaited(http)
        http.stream = pushed  # httpx's own leads back to the response: what is no circle goes at once
        return pushed

    async def aclose(self) -> None:
        if self._client is not None and self._loop is asyncio.get_running_loop():
            await self._client.close()
        self._client = None


def _has_proxy(address: SplitResult) -> bool:
    """Return whether the environment names a proxy for an address, and does not leave its host out (NO_PROXY)."""
    named = getproxies()
    return bool(named.get(address.scheme) or named.get("all")) and not proxy_bypass(address.hostname or "")


def _host(address: SplitResult) -> str:
    """Return the host and port without the name and password that may stand before them."""
    return address.netloc.rpartition("@")[2]


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
