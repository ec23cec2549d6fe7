"""The HTTP border: `aiohttp.web` appears here and in `testing` alone.

    guard    who may ask: host, origin, token; errors as JSON, request ids, the access log
    bodies   what was asked: JSON, checked against a schema
    stream   how events go out: headers at once, heartbeats, one write for what came together
    page     the files of `web/`

`make_app` is the whole server as an aiohttp application, `add_routes` puts it into another one, `serve` runs it.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web

from .. import errors
from ..agent import Settings, execute
from ..config import Config
from ..events import Event
from ..messages import Message, is_answerable, messages_from_json
from ..providers import Models, Provider
from ..tools import Toolbox, builtin_tools, load_tools
from ..wires import native
from .bodies import CHAT_REQUEST, read_body
from .guard import REQUEST_ID, Guard
from .page import Page, find_file
from .stream import EventStream

log = logging.getLogger("chatstream.server")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """What the handlers share: the settings, the models and the tools. Raises ConfigError for a bad one of them."""

    def __init__(self, config: Config, models: Models | None = None, tools: Toolbox | None = None) -> None:
        self.config = config
        self.models = models or Models(config.model)
        provider, model = self.models.default
        if provider.reason:
            raise errors.ConfigError(f"{config.model or f'{provider.name}:{model}'} cannot be used: {provider.reason}")
        self.tools = _toolbox(config) if tools is None else tools
        self.state = "starting"
        self.page = Page()
        self.guard = Guard(config)

    def mount(self, app: web.Application) -> None:
        """Add the routes to `app`, each behind the guard."""
        routes: list[tuple[str, str, Handler, bool]] = [
            ("POST", "/api/chat", self.chat, False),
            ("GET", "/api/models", self.list_models, False),
            ("GET", "/api/tools", self.list_tools, False),
            ("POST", "/api/session", self.start_session, False),
            ("GET", "/healthz", self.healthz, True),
            ("GET", "/readyz", self.readyz, True),
            # But not the others' paths: a wrong method there is to be called one, not a missing page.
            ("*", "/{path:(?!api/|healthz$|readyz$).*}", self.page.file, True),
        ]
        for method, path, handler, is_public in routes:
            guarded = self._guarded(handler, is_public)
            app.router.add_route(method, path, guarded)
            if method == "GET":
                # Whatever answers GET answers HEAD (RFC 9110, 9.3.2); aiohttp leaves the body out.
                app.router.add_route("HEAD", path, guarded)

    def _guarded(self, handler: Handler, is_public: bool) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self.guard(request, handler, is_public=is_public)

        return handle

    async def open(self) -> None:
        """Load what the first question needs; raises ProviderError where the default model does not load."""
        await self.models.default[0].open()
        self.state = "ready"

    async def close(self) -> None:
        await self.models.aclose()

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer one question of a conversation that the caller owns, as a stream of the native wire."""
        body = await read_body(request, CHAT_REQUEST, self.config.max_body)
        messages = messages_from_json(body["messages"])
        if not is_answerable(messages):
            raise errors.RequestError("messages: there is nothing to answer: no message has any text")
        provider, model = self.models.find(body.get("model", ""))
        if provider.reason:
            raise provider.unusable(f"{provider.name}:{model} cannot be used: {provider.reason}.")
        run = self._run(provider, model, messages, body, request[REQUEST_ID])
        return await self._stream(request, run)

    def _run(
        self, provider: Provider, model: str, messages: Sequence[Message], body: dict[str, Any], request_id: str
    ) -> Callable[[Callable[[Sequence[Event]], Awaitable[None]]], Awaitable[None]]:
        """Return the run that a checked request asks for, waiting for where its events shall go."""
        config = self.config
        limit = config.max_output_tokens
        settings = Settings(
            system=config.system,
            # To a schema 8.0 is an integer too; to a provider it is not.
            max_output_tokens=min(int(body.get("maxOutputTokens", limit)), limit),
            temperature=body.get("temperature", config.temperature),
            effort=body.get("effort", config.effort),
            max_turns=config.max_turns,
        )
        tools = self._chosen_tools(body["tools"]) if "tools" in body else self.tools
        # Named after its request, so that what the log says of either is found by the other.
        run_id = request_id.replace("req", "run", 1)
        return lambda emit: execute(provider, model, messages, tools, settings, emit, run_id)

    def _chosen_tools(self, names: Sequence[str]) -> Toolbox:
        try:
            return Toolbox(self.tools.get(name) for name in names)
        except errors.UnknownTool as error:
            raise errors.RequestError(f"tools: {error.message}") from error

    async def _stream(self, request: web.Request, run: Callable[[Any], Awaitable[None]]) -> web.StreamResponse:
        encoder = native.Encoder(request[REQUEST_ID])
        async with EventStream(request, encoder.content_type, self.config.heartbeat) as stream:
            number = 0

            async def emit(batch: Sequence[Event]) -> None:
                nonlocal number
                frames = []
                for event in batch:
                    number += 1
                    frames.append(encoder.encode(number, event))
                if data := b"".join(frames):
                    await stream.write(data)

            await run(emit)
        return stream.response

    async def list_models(self, request: web.Request) -> web.Response:
        provider, model = self.models.default
        models = [info.to_json() for info in self.models.offered()]
        return web.json_response({"default": f"{provider.name}:{model}", "models": models})

    async def list_tools(self, request: web.Request) -> web.Response:
        return web.json_response({"tools": [tool.to_json() for tool in self.tools]})

    async def start_session(self, request: web.Request) -> web.Response:
        """Hand a browser that showed the token a cookie that stands for it."""
        response = web.Response(status=204)
        guard = self.guard
        response.set_cookie(guard.cookie, guard.session, httponly=True, samesite="Strict", secure=request.secure)
        return response

    async def healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": self.state}, status=200 if self.state == "ready" else 503)


def _toolbox(config: Config) -> Toolbox:
    docs = config.docs or find_file("README.md") or Path(__file__).parent
    own = [tool for name in config.tools for tool in load_tools(name)]
    return Toolbox([*builtin_tools(docs), *own])


def make_app(server: Server) -> web.Application:
    """Return the whole server as an application of its own."""

    @web.middleware
    async def unrouted(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.http_exception is None:
            return await handler(request)
        return await server.guard(request, handler, is_public=False)

    app = web.Application(middlewares=[unrouted])
    server.mount(app)
    return app


def add_routes(
    app: web.Application, config: Config | None = None, models: Models | None = None, tools: Toolbox | None = None
) -> Server:
    """Put the server's routes into `app`, whose own routes stay as they are; add them first, for the page takes `/`.

    Run the application with `handler_cancellation=True`: without it a viewer that leaves while the model is silent is
    noticed only at the next heartbeat.
    """
    server = Server(config or Config(), models, tools)
    server.mount(app)

    async def life(app: web.Application) -> AsyncIterator[None]:
        await server.open()
        yield
        await server.close()

    app.cleanup_ctx.append(life)
    return server


async def serve(config: Config) -> None:
    """Serve until SIGINT or SIGTERM; raises ConfigError where it cannot start."""
    server = Server(config)
    provider, model = server.models.default
    runner = web.AppRunner(make_app(server), handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    try:
        # A large backlog: a burst of clients waits its turn instead of being refused.
        site = web.TCPSite(runner, config.host, config.port, backlog=4096)
        await _listen(site, config)
        log.info("loading %s:%s", provider.name, model)
        opening = asyncio.ensure_future(_open(server))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait([opening, stopping], return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()
            _announce(config, runner.addresses[0][1], f"{provider.name}:{model}")
            # What was imported stays, and timers that were cancelled look like much new: the collector need not walk
            # either again and again (pauses of 190 ms at 350 streams: measured).
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 100)
        else:
            opening.cancel()
        await stopping
        server.state = "stopping"
        log.info("stopping")
    finally:
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(name)
        await runner.cleanup()
        await server.close()


async def _listen(site: web.TCPSite, config: Config) -> None:
    try:
        await site.start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise errors.ConfigError(f"port {config.port} is in use: choose another one with --port") from error
        raise errors.ConfigError(f"cannot listen on {config.host}:{config.port}: {error.strerror}") from error


async def _open(server: Server) -> None:
    try:
        await server.open()
    except errors.ProviderError as error:
        raise errors.ConfigError(error.message) from error


def _announce(config: Config, port: int, model: str) -> None:
    host = {"0.0.0.0": "localhost", "::": "localhost"}.get(config.host, config.host)
    host = f"[{host}]" if ":" in host else host
    token = f"/#token={quote(config.token, safe='')}" if config.token else ""
    print(f"chatstream is ready: http://{host}:{port}{token}\n{model} answers; Ctrl-C ends it", flush=True)
