"""The HTTP border: `aiohttp.web` appears here and in `testing` alone.

    guard          who may ask: host, origin, token; errors as JSON, request ids, the access log
    bodies         what was asked: JSON, checked against a schema
    stream         how events go out: headers at once, heartbeats, one write for what came together
    chat           runs: ask, follow one or several, stop, decide
    frontend       what the routes of other front ends share: agui (with tanstack), vercel, openai
    routes         what a route is
    answers        what is answered: the schemas of JSON and of frames
    openapi        the document that tells of the routes
    conversations  what is stored
    page           the files of `web/`
    reports        what broke the page's policy, for the log
    replay         a recording in place of the models

`make_app` is the whole server as an aiohttp application, `add_routes` puts it into another one, `serve` runs it.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Collection
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from .. import errors
from ..config import Config
from ..providers import Models
from ..runs import Runs
from ..tools import Toolbox, builtin_tools, load_tools
from . import answers
from .agui import AgUi
from .chat import Chat
from .conversations import Conversations
from .guard import Guard, Handler
from .openai import OpenAi
from .openapi import describe
from .page import Page, find_file
from .reports import Reports
from .routes import PARTS, Route
from .tanstack import Reload
from .vercel import AiSdk

log = logging.getLogger("chatstream.server")

_PREFIX = re.compile(r"(/(?!\.{1,2}(/|$))[\w.~-]+)*", re.ASCII)
_BACKLOG, _TAKES = 4096, 8  # connections that wait, and those that are taken in one turn of the loop
_SHUT = 0.25  # seconds for handlers whose viewers do not read; aiohttp takes them twice


class Server:
    """What the handlers share: the settings, the models and the tools. Raises ConfigError for a bad one of them.

    It has `parts` of PARTS. `home` is the fragment of the address where the page is to be opened, "" for a new
    conversation.
    """

    home = ""

    def __init__(
        self,
        config: Config,
        models: Models | None = None,
        tools: Toolbox | None = None,
        parts: Collection[str] = PARTS,
    ) -> None:
        self.config = config
        self._parts = _known(parts)
        self.models = models or Models(config.model)
        provider, model = self.models.default
        if provider.reason:
            raise errors.ConfigError(f"{config.model or f'{provider.name}:{model}'} cannot be used: {provider.reason}")
        self.tools = _toolbox(config) if tools is None else tools
        self.runs = Runs(config, self.models, self.tools)
        self.state = "starting"
        self._has_data = asyncio.Event()
        self.page = Page()
        self.guard = Guard(config)

    @cached_property
    def routes(self) -> list[Route]:
        """The routes of the parts that it has."""
        agui, vercel, openai = (kind(self.config, self.runs) for kind in (AgUi, AiSdk, OpenAi))
        chat = Chat(self.config, self.runs, {each.schema: each for each in (agui, vercel)})
        routes = [
            *chat.routes,
            *Conversations(self.config, self.runs).routes,
            Route("GET", "/api/models", self.list_models, returns=answers.MODELS),
            Route("GET", "/api/tools", self.list_tools, returns=answers.TOOLS),
            Route("GET", "/api/openapi.json", self.show_openapi),
            Route("POST", "/api/session", self.start_session, answer="empty"),
            Route("GET", "/healthz", self.healthz, is_public=True, returns=answers.STATE),
            Route("GET", "/readyz", self.readyz, is_public=True, returns=answers.STATE, statuses=(200, 503)),
            *agui.routes,
            *Reload(self.config, self.runs).routes,
            *vercel.routes,
            *openai.routes,
            Route("POST", "/api/csp-reports", Reports().take, "page", is_public=True, answer="empty"),
            # But not the others' paths: a wrong method there is to be called one, not a missing page.
            Route(
                *("*", r"/{path:(?!api/|ag-ui$|ai-sdk/|v1/|healthz$|readyz$).*}", self.page.file),
                *("page", True),
                answer="file",
            ),
        ]
        return [route for route in routes if route.part in self._parts]

    def mount(self, app: web.Application, prefix: str = "") -> None:
        """Add the routes to `app`, each behind the guard; raises ConfigError for a prefix that is none."""
        if not _PREFIX.fullmatch(prefix):
            raise errors.ConfigError(f"prefix begins with a slash and ends with none, such as '/chat': not {prefix!r}")
        for route in self.routes:
            guarded = self._guarded(route)
            for method in route.methods:
                app.router.add_route(method, prefix + route.path, guarded)
        if self.config.cors_origins:
            # So that preflights come to the guard, which answers them.
            for path in dict.fromkeys(route.path for route in self.routes if route.method != "*"):
                methods = {method for route in self.routes if route.path == path for method in route.methods}
                refused = self._guarded(Route("OPTIONS", path, _refuse_options(methods)))
                app.router.add_route("OPTIONS", prefix + path, refused)
        if prefix and "page" in self._parts:
            app.router.add_get(prefix, self._guarded(Route("GET", "", _add_slash, is_public=True)))

    def _guarded(self, route: Route) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            if not route.is_public:
                await self._has_data.wait()  # it comes within moments, and the port was open before
            return await self.guard(request, route.handler, is_public=route.is_public, form=route.form)

        return handle

    async def open(self) -> None:
        """Open the data and load what the first question needs.

        Raises ConfigError where the data cannot be used, ProviderError where the default model does not load.
        """
        await self.runs.open()
        self._has_data.set()
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
        """List the models, the default one among them, and what each can do; the page learns its image hosts too."""
        provider, model = self.models.default
        models = [info.to_json() for info in self.models.offered()]
        told = {"default": f"{provider.name}:{model}", "models": models, "imageHosts": self.config.image_hosts}
        return web.json_response(told)

    async def list_tools(self, request: web.Request) -> web.Response:
        """List the server's tools."""
        return web.json_response({"tools": [tool.to_json() for tool in self.tools]})

    async def show_openapi(self, request: web.Request) -> web.Response:
        """Return this document."""
        prefix = quote(request.path.removesuffix("/api/openapi.json"))
        return web.json_response(describe(self.routes, prefix, has_token=bool(self.config.token)))

    async def start_session(self, request: web.Request) -> web.Response:
        """Hand a browser that showed the token a cookie that stands for it."""
        if self.guard.is_elsewhere(request):
            raise errors.Forbidden(
                "the cookie is for this server's own page: send the token as 'Authorization: Bearer TOKEN'"
            )
        response = web.Response(status=204)
        guard = self.guard
        response.set_cookie(guard.cookie, guard.session, httponly=True, samesite="Strict", secure=request.secure)
        return response

    async def healthz(self, request: web.Request) -> web.Response:
        """Tell that the server lives."""
        return web.json_response({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:
        """Tell whether the server is ready to answer: with status 503 while it loads or stops."""
        return web.json_response({"status": self.state}, status=200 if self.state == "ready" else 503)


def _known(parts: Collection[str]) -> Collection[str]:
    if not parts:
        raise errors.ConfigError(f"parts: name at least one of {', '.join(PARTS)}")
    if unknown := [part for part in parts if part not in PARTS]:
        raise errors.ConfigError(f"parts: there is no {unknown[0]!r}; expected some of {', '.join(PARTS)}")
    if "page" in parts and "api" not in parts:
        raise errors.ConfigError("parts: the page asks by the part 'api', so it needs that too")
    return parts


def _refuse_options(methods: Collection[str]) -> Handler:
    async def refuse(request: web.Request) -> web.StreamResponse:
        raise web.HTTPMethodNotAllowed(request.method, methods)

    return refuse


async def _add_slash(request: web.Request) -> web.StreamResponse:
    # Beside this path, not below it: the page's files are named from where it stands.
    return web.Response(status=302, headers={"Location": f"{request.rel_url.raw_name}/"})


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
    app: web.Application,
    config: Config | None = None,
    models: Models | None = None,
    tools: Toolbox | None = None,
    prefix: str = "",
    parts: Collection[str] = PARTS,
) -> Server:
    """Put some parts of the server, or all, into `app`, each route behind `prefix`, such as `/chat`.

    Its own routes stay as they are; without a prefix add them first, for the page takes `/`. Raises ConfigError for a
    bad setting, a part that is unknown and a prefix that is none.

    Run the application with `handler_cancellation=True`: without it a viewer that leaves while the model is silent is
    noticed only at the next heartbeat.
    """
    server = Server(config or Config(), models, tools, parts)
    server.mount(app, prefix)

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
    listening: list[asyncio.Server] = []
    try:
        listening += await _listen(runner, config)
        log.info("loading %s:%s", provider.name, model)
        opening = asyncio.ensure_future(_open(server))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait([opening, stopping], return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()
            _announce(config, listening[0].sockets[0].getsockname()[1], f"{provider.name}:{model}", server.home)
            # What was imported stays, and timers that were cancelled look like much new: the collector need not walk
            # either again and again (pauses of 190 ms at 350 streams). With 1,000 streams a short walk takes 10 ms so
            # (25 with 50,000 objects), and a longer one, which is rare, 100 (all measured).
            gc.freeze()
            gc.set_threshold(20_000, 50, 100)
            gc.enable()
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
        for each in listening:
            each.close()
        await server.runs.drain(0)
        await runner.cleanup()
        await server.close()


async def _listen(runner: web.AppRunner, config: Config) -> list[asyncio.Server]:
    """Listen on each socket several times: uvloop takes one connection in a turn, and a busy turn may last 50 ms."""
    loop, handle = asyncio.get_running_loop(), runner.server
    assert handle is not None
    try:
        # A large backlog: a burst of clients waits its turn instead of being refused.
        first = await loop.create_server(handle, config.host, config.port, backlog=_BACKLOG)
        sockets = [
            socket.fromfd(each.fileno(), each.family, each.type) for each in first.sockets for _ in range(_TAKES - 1)
        ]
        return [first, *[await loop.create_server(handle, sock=each, backlog=_BACKLOG) for each in sockets]]
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
