"""The routes of OpenAI's Chat Completions: the agent as a model that OpenAI's clients use.

The official SDKs ask again by themselves where a connection is lost and for the statuses 408, 409, 429 and 500 on,
unless `x-should-retry` says no (openai/_base_client.py, client.js). It does wherever asking again is of no use, and
where something was done already: a tool of ours that ran in an answer which then failed must not run once more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from .. import errors, events
from ..conversations import Caller, Run, digest
from ..wires import openai_request
from ..wires.base import Asked
from ..wires.openai import Encoder, error_to_json, failure, upstream
from ..wires.openai_whole import whole
from . import answers
from .bodies import OPENAI_REQUEST
from .frontend import FrontEnd, aside
from .guard import error_headers
from .routes import Parameter, Route

_AGAIN = frozenset({"", "completed", "paused", "limit"})
# What OpenAI's API would answer to what went wrong behind the server, by the codes of `errors`.
_STATUS = {
    **{"bad_request": 400, "context_overflow": 400, "not_found": 404, "too_large": 413},
    **{"rate_limit": 429, "internal": 500, "overloaded": 503, "timeout": 504},
}
_PARAMETER = re.compile(r"([a-z_]+(?:\[\d+\]|\.\w+)*): ")
_KEY = Parameter(
    "Idempotency-Key", "Names this request: sent again with the same body it is the same answer.", place="header"
)


class OpenAi(FrontEnd):
    schema = OPENAI_REQUEST
    read = staticmethod(openai_request.read)

    @staticmethod
    def form(request: web.Request, error: errors.ChatstreamError) -> web.Response:
        """Return an error as OpenAI's API tells it, `param` being what its message names first."""
        is_upstream = isinstance(error, errors.ProviderError)
        status = _STATUS.get(error.code, 502) if is_upstream else error.status
        named = _PARAMETER.match(error.message)
        param = named[1] if named and named[1] != "body" else None
        body = error_to_json(upstream(error.code) if is_upstream else error.code, error.message, param)
        if isinstance(error, errors.NotFound):
            body["error"]["code"] = error.details.get("code")
        return _problem(body, status, error.retryable, error_headers(error))

    @property
    def routes(self) -> list[Route]:
        def route(method: str, path: str, handler: Any, **more: Any) -> Route:
            return Route(method, path, handler, "openai", form=self.form, **more)

        asked: dict[str, Any] = {"bodies": (OPENAI_REQUEST,), "parameters": (_KEY,), "returns": answers.COMPLETION}
        return [
            route("POST", "/v1/chat/completions", self.complete, answer="stream", also=("json",), **asked),
            route("GET", "/v1/models", self.list_models, returns=answers.OPENAI_MODELS),
            route("GET", r"/v1/models/{model:.+}", self.show_model, returns=answers.OPENAI_MODEL),
            # Whatever else is asked is told in the same words.
            route("*", r"/v1/{path:.*}", self.refuse),
        ]

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Answer one question as a model does, streamed or whole."""
        return await self.ask(request)

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        asked = await self._read(request, body)
        self._find(body.get("model") or "")
        caller, wire = await aside(request, lambda: (_caller(request, body), _wire(body["messages"])))
        run = await self._begin(request, asked, caller, wire)
        own = [tool["name"] for tool in asked.options["tools"] or ()]
        is_streamed = bool(body.get("stream"))
        with_usage = not is_streamed or bool((body.get("stream_options") or {}).get("include_usage"))
        encoder = Encoder(int(run.created_at), body.get("model") or "", own, with_usage)
        if is_streamed:
            return await self._stream(request, run, encoder)
        return await self._whole(run, encoder)

    async def list_models(self, request: web.Request) -> web.Response:
        """List the models that can be used, the default first."""
        return web.json_response({"object": "list", "data": self._usable()})

    async def show_model(self, request: web.Request) -> web.Response:
        """Show a model that can be used."""
        name = request.match_info["model"]
        id = self._find(name)
        for each in self._usable():
            if each["id"] == id:
                return web.json_response(each | {"id": name})
        raise _no_model(f"there is no model {name!r}: GET /v1/models lists those that there are")

    async def refuse(self, request: web.Request) -> web.Response:
        """Refuse a path or a method that is not there."""
        path = request.match_info["path"]
        allowed = "POST" if path == "chat/completions" else "GET" if path.partition("/")[0] == "models" else ""
        if allowed not in ("", request.method):
            raise web.HTTPMethodNotAllowed(request.method, [allowed])
        known = "this server takes POST /v1/chat/completions and GET /v1/models"
        raise errors.NotFound(f"Invalid URL ({request.method} {request.path}): {known}", code="unknown_url")

    def _find(self, name: str) -> str:
        """Return the whole name of a model; raises NotFound where it is known that there is none."""
        try:
            provider, model = self._runs.models.find(name)
        except errors.NotFound as error:
            raise _no_model(error.message) from error
        return f"{provider.name}:{model}"

    def _usable(self) -> list[dict[str, Any]]:
        default, models = self._runs.models.default, self._runs.models.offered()
        models.sort(key=lambda each: (each.provider, each.name) != (default[0].name, default[1]))
        return [
            {"id": f"{each.provider}:{each.name}", "object": "model", "created": 0, "owned_by": each.provider}
            | {"name": each.label}  # what Open WebUI shows
            for each in models
            if not each.reason
        ]

    def _tools(self, own: Sequence[dict[str, Any]] | None) -> list[Any]:
        """Return the server's tools and the caller's, whose names win: what nobody can approve of is not offered."""
        if own is None:
            return []
        names = {tool["name"] for tool in own}
        return [*(tool.name for tool in self._runs.tools if tool.approval == "never" and tool.name not in names), *own]

    async def _paused(self, owner: str, asked: Asked, caller: Caller, wire: Any = None) -> Run | None:
        """Return the run that results are for, as it is to go on: what this request asks of it counts.

        None where that was asked about another history, as where a client has renewed its system prompt since.
        """
        named = next((each.run_id for each in asked.said if each.run_id), "")
        if not named:
            return None
        options = asked.options | {"wire": wire, "tools": self._tools(asked.options["tools"])}
        try:
            run = await self._runs.store.run(owner, named)
        except errors.NotFound:
            return None
        is_ours = not run.conversation_id and run.thread_id.partition(":")[0] in ("", "openai")
        kept = (run.request.get("wire") or {}) if is_ours else {}
        if kept.get("asked") != wire["behind"] or run.model != self._find(options.get("model", "")):
            return None
        return replace(run, request=options | {"messages": run.request.get("messages", [])})

    async def _go_on(self, request: web.Request, asked: Asked, caller: Caller, wire: Any) -> Run | None:
        """Return the run that goes on with results, or went on with this very request; None for the history as sent.

        The history that the server kept has what the client never saw: our tools and signed reasoning.
        """
        try:
            run = await super()._go_on(request, asked, caller, wire)
        except errors.Conflict:
            return None  # other results than before, or too late, or not all
        # What failed or was cut short is no answer: who asks for it again gets another.
        is_same = run is not None and run.digest == caller.digest and run.outcome in _AGAIN
        return run if run and is_same and (not run.outcome or await self._runs.knows(run, 1)) else None

    async def _whole(self, run: Run, encoder: Encoder) -> web.Response:
        """Answer with all of a run once it has ended; a viewer that leaves before ends it."""
        if run.outcome and not await self._runs.knows(run, 1):
            raise errors.NotFound(f"What run {run.id} said is not kept any more.")
        chunks: list[dict[str, Any]] = []
        headers = {"X-Run-Id": run.id}
        said = await self._runs.events(run)
        for event in said:
            chunks += encoder.tell(event)
        last = said[-1]
        if isinstance(last, events.RunFailed | events.RunFinished) and (failed := failure(last)):
            is_untouched = getattr(last, "retryable", True) and not last.messages
            return _problem(chunks[-1], _STATUS.get(failed[0], 502), is_untouched, headers)
        return web.json_response(whole(chunks), headers=headers)


def _caller(request: web.Request, body: dict[str, Any]) -> Caller:
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > 200:
        raise errors.RequestError(f"Idempotency-Key: has {len(key)} characters; this server takes 200 at most")
    return Caller(key and f"openai:{key}", key, digest(body), _AGAIN, unwatched=0)


def _wire(messages: list[dict[str, Any]]) -> dict[str, str]:
    """Return what tells the history of a request, and the one behind which its results belong."""
    said = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    return {"asked": digest(messages), "behind": digest(messages[: said[-1] if said else 0])}


def _no_model(message: str) -> errors.NotFound:
    return errors.NotFound(f"model: {message}", code="model_not_found")


def _problem(body: dict[str, Any], status: int, may_retry: bool, headers: Mapping[str, str]) -> web.Response:
    told = {} if may_retry else {"x-should-retry": "false"}
    return web.json_response(body, status=status, headers={**headers, **told})
