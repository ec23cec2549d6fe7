"""The HTTP border: `aiohttp.web` appears here and in `testing` alone.

    guard          who may ask: host, origin, token; errors as JSON, request ids, the access log
    bodies         what was asked: JSON, checked against a schema
    stream         how events go out: headers at once, heartbeats, one write for what came together
    chat           runs: ask, follow, stop, decide
    conversations  what is stored
    page           the files of `web/`
    replay         a recording in place of the models

`make_app` is the whole server as an aiohttp application, `add_routes` puts it into another one, `serve` runs it.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from .. import errors
from ..config import Config
from ..providers import Models
from ..runs import Runs
from ..tools import Toolbox, builtin_tools, load_tools
from .chat import Chat
from .conversations import Conversations
from .guard import Guard
from .page import Page, find_file

log = logging.getLogger("chatstream.server")

_SHUT = 0.25  # seconds for handlers whose viewers do not read; aiohttp takes them twice

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """What the handlers share: the settings, the models and the tools. Raises ConfigError for a bad one of them.

    `home` is the fragment of the address where the page is to be opened, "" for a new conversation.
    """

    home = ""

    def __init__(self, config: Config, models: Models | None = None, tools: Toolbox | None = None) -> None:
        self.config = config
        self.models = models or Models(config.model)
        provider, model = self.models.default
        if provider.reason:
            raise errors.ConfigError(f"{config.model or f'{provider.name}:{model}'} cannot be used: {provider.reason}")
        self.tools = _toolbox(config) if tools is None else tools
        self.runs = Runs(config, self.models, self.tools)
        self.state = "starting"
        self.page = Page()
        self.guard = Guard(config)

    def mount(self, app: web.Application) -> None:
        """Add the routes to `app`, each behind the guard."""
        chat, conversations = Chat(self.config, self.runs), Conversations(self.config, self.runs)
        routes: list[tuple[str, str, Handler, bool]] = [
            ("POST", "/api/chat", chat.ask, False),
            ("GET", "/api/runs/{id}", chat.show, False),
            ("GET", "/api/runs/{id}/events", chat.follow, False),
            ("POST", "/api/runs/{id}/stop", chat.stop, False),
            ("POST", "/api/runs/{id}/approvals", chat.decide, False),
            ("GET", "/api/conversations", conversations.list, False),
            ("POST", "/api/conversations", conversations.create, False),
            ("GET", "/api/conversations/{id}", conversations.read, False),
            ("PATCH", "/api/conversations/{id}", conversations.change, False),
            ("DELETE", "/api/conversations/{id}", conversations.delete, False),
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
        """Open the data and load what the first question needs.

        Raises ConfigError where the data cannot be used, ProviderError where the default model does not load.
        """
        await self.runs.open()
        await self.models.default[0].open()
        self.state = "ready"

    async def drain(self) -> None:
        """Say that it is no longer ready, and give running answers their time to finish."""
        self.state = "stopping"
        await self.runs.drain(self.config.grace)

    async def close(self) -> None:
        await self.runs.close()
        await self.models.aclose()

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

    async def drain(app: web.Application) -> None:
        await server.drain()

    app.cleanup_ctx.append(life)
    app.on_shutdown.append(drain)
    return server


async def serve(server: Server) -> None:
    """Serve until SIGINT or SIGTERM; raises ConfigError where it cannot start."""
    config = server.config
    provider, model = server.models.default
    runner = web.AppRunner(make_app(server), handler_cancellation=True, access_log=None, shutdown_timeout=_SHUT)
    await runner.setup()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, on_signal)
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
            _announce(config, runner.addresses[0][1], f"{provider.name}:{model}", server.home)
            # What was imported stays, and timers that were cancelled look like much new: the collector need not walk
            # either again and again (pauses of 190 ms at 350 streams: measured).
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 100)
            # The thread that writes the log gets the interpreter's lock from a busy loop within 1 ms instead of 5, each
            # time that it needs it.
            sys.setswitchinterval(0.001)
        else:
            opening.cancel()
        await stopping
        log.info("stopping; a second signal does not wait for answers")
        draining = asyncio.ensure_future(server.drain())
        hurrying = asyncio.ensure_future(hurry.wait())
        await asyncio.wait([draining, hurrying], return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
    finally:
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(name)
        await server.runs.drain(0)
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


def _announce(config: Config, port: int, model: str, home: str) -> None:
    host = {"0.0.0.0": "localhost", "::": "localhost"}.get(config.host, config.host)
    host = f"[{host}]" if ":" in host else host
    fragment = "&".join(filter(None, [config.token and f"token={quote(config.token, safe='')}", home]))
    place = f"/#{fragment}" if fragment else ""
    print(f"chatstream is ready: http://{host}:{port}{place}\n{model} answers; Ctrl-C ends it", flush=True)
