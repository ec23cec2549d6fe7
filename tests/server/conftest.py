"""A server that runs as `serve` runs it, in this process or as a program of its own, and providers on loopback."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from chatstream.config import Config
from chatstream.server import Server, make_app
from chatstream.testing import FakeProvider, Recorded, Turn
from chatstream.tools import Toolbox

from .rig import HANG, ROOT, Client, Gate, Running


@pytest.fixture(autouse=True)
def nothing_is_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test that left an error in a log, asyncio's own included; one that wants it there clears `caplog`."""
    caplog.set_level(logging.INFO)
    yield
    logged = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert logged == []


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def write_script(tmp_path: Path) -> Callable[..., str]:
    """Write turns to a file and return the name of the model that plays them, without pauses."""

    def write(*turns: dict[str, Any]) -> str:
        path = tmp_path / "script.json"
        path.write_text(json.dumps([{"delay": 0} | turn for turn in turns]))
        return f"scripted:{path}"

    return write


@pytest.fixture
async def run_app(stack: AsyncExitStack) -> Callable[[web.Application], Any]:
    """Run an application as `serve` does and return its port (aiohttp's TestServer differs: `handler_cancellation`)."""

    async def run(app: web.Application) -> int:
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    return run


@pytest.fixture
async def start(stack: AsyncExitStack, run_app: Callable[[web.Application], Any]) -> Callable[..., Any]:
    """Start a server and return it with its clients: `await start("scripted:demo", heartbeat=0.1)`.

    It keeps what it knows in memory, and ends a stateless run when its last viewer leaves.
    """

    async def start(model: str = "scripted:demo", *, tools: Sequence[Any] | None = None, **settings: Any) -> Running:
        config = Config(model=model, **{"linger": 0} | settings)
        server = Server(config, tools=None if tools is None else Toolbox(tools))
        running = Running(await run_app(make_app(server)), server)
        stack.push_async_callback(server.close)
        stack.push_async_callback(running.session.close)
        access = logging.getLogger("chatstream.access")
        access.addHandler(running.access)
        stack.callback(access.removeHandler, running.access)
        await server.open()
        return running

    return start


@pytest.fixture
async def fake(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Start a provider that plays turns, or what a function says to each request, and point both SDKs at it."""

    async def fake(*turns: Turn | Callable[[Recorded], Turn]) -> FakeProvider:
        played: Any = turns[0] if callable(turns[0]) else turns
        provider = await stack.enter_async_context(FakeProvider(played))
        for name, value in provider_environment(provider.url).items():
            monkeypatch.setenv(name, value)
        return provider

    return fake


KEYS = {"ANTHROPIC_API_KEY": "sk-ant-secret-1234", "OPENAI_API_KEY": "sk-secret-5678"}


def provider_environment(url: str) -> dict[str, str]:
    return KEYS | {"ANTHROPIC_BASE_URL": url, "OPENAI_BASE_URL": f"{url}/v1"}


class Program(Client):
    """`python -m chatstream` as a process of its own, which is ready. `ready` is the lines that say so."""

    def __init__(self, process: asyncio.subprocess.Process, ready: str) -> None:
        self.ready = ready
        address = ready.partition("http://")[2].split()[0].partition("/")[0]
        super().__init__(int(address.rpartition(":")[2]))
        self.process = process

    async def end(self, signal: int) -> tuple[int, str]:
        """Send a signal and return the status of the program and what it wrote to stderr."""
        self.process.send_signal(signal)
        return await self.ended()

    async def ended(self) -> tuple[int, str]:
        async with asyncio.timeout(HANG):
            _, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()


@pytest.fixture
async def launch(stack: AsyncExitStack, tmp_path: Path) -> Callable[..., Any]:
    """Start the program with options and variables; it does not see the checkout it is run from but by its path.

    It has a home of its own, where it keeps its data.
    """

    async def launch(*options: str, **environment: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chatstream", *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_DATA_HOME": str(tmp_path / "home")} | environment,
        )

        async def end() -> None:
            if process.returncode is None:
                process.kill()
            await process.communicate()

        stack.push_async_callback(end)
        return process

    return launch


@pytest.fixture
async def program(stack: AsyncExitStack, launch: Callable[..., Any]) -> Callable[..., Any]:
    """Start the program on a free port and wait until it is ready."""

    async def program(*options: str, **environment: str) -> Program:
        process = await launch("--port", "0", *options, **environment)
        ready = (await process.stdout.readline()).decode()
        if not ready.startswith("chatstream is ready: "):
            raise AssertionError(ready + (await process.stderr.read()).decode())
        program = Program(process, ready + (await process.stdout.readline()).decode())
        stack.push_async_callback(program.session.close)
        return program

    return program
