"""A fake provider: an HTTP server on loopback that plays turns, records requests and knows when its client left."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, TypeVar

from aiohttp import web

from ..providers.anthropic import Anthropic
from ..providers.base import SdkProvider
from ..providers.openai import OpenAI
from ..providers.openai_chat import OpenAIChat
from .controls import steps
from .streams import STREAMS, Call, Turn

P = TypeVar("P", bound=SdkProvider)

__all__ = ["Call", "FakeProvider", "Recorded", "Turn"]

KEY = "test-key"
# https://platform.claude.com/docs/en/api/errors; OpenAI's own words for the same differ, and nothing here reads them.
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


@dataclass(slots=True)
class Recorded:
    """One request that came, and how its answer went.

    `sent` counts bytes of the body; `ended` is set when the answer is over, and `left` then says that the client
    closed the connection before it was, `left_at` when that was seen (of `time.monotonic`).
    """

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    sent: int = 0
    left: bool = False
    left_at: float = 0.0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def tools(self) -> list[str]:
        """The names of the tools that the model was offered, whichever API was asked."""
        return [each.get("function", each).get("name", "") for each in self.body.get("tools", ())]

    @property
    def results(self) -> list[str]:
        """What the model was told that its calls came to, in their order, whichever API was asked."""
        said = self.body.get("messages") or self.body.get("input") or []
        blocks = [block for each in said if isinstance(each.get("content"), list) for block in each["content"]]
        answers = [
            each.get("content", each.get("output"))
            for each in [*said, *blocks]
            if each.get("role") == "tool" or each.get("type") in ("tool_result", "function_call_output")
        ]
        return [answer if isinstance(answer, str) else json.dumps(answer) for answer in answers]


class _Misuse(Exception):
    """A request that the test did not provide for."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeProvider:
    """Answers request n with turn n, in the form of the API that was asked.

    A mapping gives each model turns of its own; a function is handed each request and returns its turn. `url` is the
    address without a path; `anthropic()`, `openai()` and `openai_chat()` are providers that talk to it, and
    `environment` holds the variables that point those of a program there. What a test did not provide for (too few
    turns, another model) is answered with an error and noted in `misuse`. A connection may wait `keep_alive` seconds
    for the next request.
    """

    def __init__(
        self,
        turns: Sequence[Turn] | Mapping[str, Sequence[Turn]] | Callable[[Recorded], Turn],
        *,
        keep_alive: float = 75.0,
    ) -> None:
        if not callable(turns):
            for each in turns.values() if isinstance(turns, Mapping) else [turns]:
                _check(each)
        self.turns = turns
        self.requests: list[Recorded] = []
        self.misuse: list[str] = []
        self._played: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        self._url = ""
        self._keep_alive = keep_alive
        self._providers: list[SdkProvider] = []

    @property
    def url(self) -> str:
        if not self._url:
            raise RuntimeError(
                "the fake provider does not listen yet: enter it, `async with FakeProvider(...) as fake`"
            )
        return self._url

    @property
    def environment(self) -> dict[str, str]:
        names = {"ANTHROPIC": self.url, "OPENAI": f"{self.url}/v1"}
        keys = {f"{name}_API_KEY": KEY for name in names}
        return keys | {f"{name}_BASE_URL": address for name, address in names.items()}

    def anthropic(self) -> Anthropic:
        return self._kept(Anthropic(api_key=KEY, base_url=self.url))

    def openai(self) -> OpenAI:
        return self._kept(OpenAI(api_key=KEY, base_url=f"{self.url}/v1"))

    def openai_chat(self) -> OpenAIChat:
        return self._kept(OpenAIChat(api_key=KEY, base_url=f"{self.url}/v1"))

    def _kept(self, provider: P) -> P:
        """Note a provider, to be closed with the server."""
        self._providers.append(provider)
        return provider

    async def __aenter__(self) -> FakeProvider:
        app = web.Application(client_max_size=2**30)
        app.router.add_post(f"/v1/{{api:{'|'.join(STREAMS)}}}", self._answer)
        app.router.add_route("*", "/{path:.*}", self._refuse)
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=0.1,
            keepalive_timeout=self._keep_alive,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for provider in self._providers:
            await provider.aclose()
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        number, api = len(self.requests), request.match_info["api"]
        recorded = Recorded(request.path, {k.lower(): v for k, v in request.headers.items()}, {})
        self.requests.append(recorded)
        try:
            recorded.body = _read(await request.read())
            if callable(self.turns):
                turn = _called(self.turns, recorded)
            else:
                turn = self._next(self.turns, recorded.body["model"])
            if turn.status != 200:
                return _error(api, turn.status, turn.error, turn.retry_after)
            body = turn.raw if turn.raw is not None else STREAMS[api](turn, number)
            return await self._play(request, turn, body, recorded)
        except _Misuse as error:
            self.misuse.append(str(error))
            return _error(api, error.status, str(error))
        except (ConnectionError, asyncio.CancelledError):
            recorded.left, recorded.left_at = True, time.monotonic()
            raise
        finally:
            recorded.ended.set()

    def _next(self, turns: Sequence[Turn] | Mapping[str, Sequence[Turn]], model: str) -> Turn:
        """Return the turn that comes next; one that is first refused some `times` comes again."""
        key = model if isinstance(turns, Mapping) else ""
        if isinstance(turns, Mapping):
            if model not in turns:
                raise _Misuse(404, f"the fake provider has no turns for {model!r}, only for {', '.join(turns)}")
            turns = turns[model]
        number = self._played.get(key, 0)
        if number >= len(turns):
            whose = f" for {key!r}" if key else ""
            raise _Misuse(400, f"the fake provider has {len(turns)} turns{whose}, and this is request {number + 1}")
        turn = turns[number]
        if self._refused.get(key, 0) < turn.times:
            self._refused[key] = self._refused.get(key, 0) + 1
            return turn
        self._played[key] = number + 1
        self._refused[key] = 0
        return replace(turn, status=200, times=0) if turn.times else turn

    async def _refuse(self, request: web.Request) -> web.Response:
        paths = ", ".join(f"/v1/{api}" for api in STREAMS)
        self.misuse.append(f"{request.method} {request.path} was asked; the fake provider answers POST at {paths}")
        return _error("", 404, self.misuse[-1])

    async def _play(self, request: web.Request, turn: Turn, body: bytes, recorded: Recorded) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await asyncio.sleep(turn.first)
        for piece in steps(body, turn):
            if piece is not None:
                await response.write(piece)
                recorded.sent += len(piece)
                await asyncio.sleep(turn.delay)
            elif turn.stall_for is None:
                await asyncio.Event().wait()
            else:
                await asyncio.sleep(turn.stall_for)
        if turn.drop is not None and request.transport is not None:
            # Let what was written out first: an abort throws away what still waits.
            await asyncio.sleep(0.02)
            request.transport.abort()
        return response


def _check(turns: object) -> None:
    if not isinstance(turns, Sequence):
        raise TypeError(f"the fake provider plays a list of turns, and not {turns!r}")
    if strange := [turn for turn in turns if not isinstance(turn, Turn)]:
        raise TypeError(f"a turn is Turn(text=...), and not {strange[0]!r}")


def _called(function: Callable[[Recorded], Turn], recorded: Recorded) -> Turn:
    """Return the function's turn; what it raises would otherwise be a failing provider's, which is asked again."""
    try:
        turn = function(recorded)
        _check([turn])
    except Exception as error:
        told = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise _Misuse(400, f"the function that returns the turns failed at this request: {told}") from error
    return turn


def _read(data: bytes) -> dict[str, Any]:
    """Return the body of a request that can be played to."""
    try:
        body = json.loads(data)
    except ValueError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise _Misuse(400, f"the request names no model: {data[:100]!r}")
    if body.get("stream") is not True:
        raise _Misuse(400, 'the fake provider streams its turns: ask with "stream": true')
    return body


def _error(api: str, status: int, message: str, retry_after: float | None = None) -> web.Response:
    """Return an error in the form of the API that was asked."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    error: dict[str, Any] = {"type": _ERROR_TYPES.get(status, "api_error"), "message": message}
    if api == "messages":
        body = {"type": "error", "error": error, "request_id": "req_fake"}
    else:
        body = {"error": error | {"param": None, "code": None}}
    return web.json_response(body, status=status, headers=headers)
