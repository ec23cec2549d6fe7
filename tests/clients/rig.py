"""Real clients against a real server: a provider that plays the situation which a question names, and node beside it.

A question is `situation: anything`; what the model says to it is in SITUATIONS, a turn for each time it is asked. A
script `tests/clients/NAME.js` drives a client and prints a line of JSON for each situation, `{"situation": ..., ...}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from chatstream import Progress, tool
from chatstream.config import Config
from chatstream.server import Server, make_app
from chatstream.testing import Call, FakeProvider, Recorded, Turn
from chatstream.tools import Toolbox
from tests.prove.proxy import Proxy
from tests.server.conftest import provider_environment
from tests.server.rig import HANG
from tests.situations import add, fail

FOLDER = Path(__file__).parent
MODEL = "openai-chat:fake"
INSTALL = "npm ci --prefix tests/clients (scripts/test does it)"


@tool
async def look_up(city: str, progress: Progress) -> dict[str, Any]:
    """Look a city up."""
    progress(f"looking for {city}")
    return {"city": city, "people": 2_100_000}


@tool(approval="always")
async def delete_file(path: str) -> str:
    """Delete a file."""
    return f"{path} is deleted"


TOOLS = (add, fail, look_up, delete_file)
# What a client declares as its own in the situation "client".
COLOUR = {
    "name": "pick_colour",
    "description": "Ask the user for a colour.",
    "parameters": {"type": "object", "properties": {"of": {"type": "string"}}, "required": ["of"]},
}
_ADD, _FAIL = Call("add", {"a": 1, "b": 2}, "call_add"), Call("fail", {"why": "no"}, "call_fail")
SITUATIONS: dict[str, list[Turn]] = {
    "plain": [Turn(text='A line,\n"quoted" and \N{GRINNING FACE}.')],
    "reasoning": [Turn(reasoning="Let me see.", text="Yes.")],
    "tools": [Turn(text="I add.", tools=[_ADD]), Turn(text="Three.")],
    "thoughtful": [Turn(reasoning="I need a sum.", text="I add.", tools=[_ADD]), Turn(reasoning="So.", text="Three.")],
    "silent": [Turn(tools=[_ADD]), Turn(text="Three.")],
    "object": [Turn(tools=[Call("look_up", {"city": "Paris"}, "call_city")]), Turn(text="Two millions.")],
    "parallel": [Turn(text="Both.", tools=[_ADD, _FAIL]), Turn(text="Three, and no.")],
    "rounds": [
        Turn(text="First.", tools=[_ADD]),
        Turn(text="Second.", tools=[Call("add", {"a": 3, "b": 4}, "call_more")]),
        Turn(text="Ten."),
    ],
    "client": [
        Turn(text="You choose.", tools=[Call("pick_colour", {"of": "sky"}, "call_colour")]),
        Turn(text="Blue it is."),
    ],
    "approval": [
        Turn(text="I delete it.", tools=[Call("delete_file", {"path": "a.txt"}, "call_delete")]),
        Turn(text="I see."),
    ],
    "mixed": [
        Turn(
            text="All at once.",
            tools=[
                _ADD,
                Call("pick_colour", {"of": "sky"}, "call_colour"),
                Call("delete_file", {"path": "a.txt"}, "call_delete"),
            ],
        ),
        Turn(text="All done."),
    ],
    # Goes on when the tool `hold` is let go, which is the test's own.
    "held": [Turn(text="Once upon a time.", tools=[Call("hold", {}, "call_hold")]), Turn(text="The end.")],
    "breaks": [Turn(text="Once upon a time there was a very long story", drop=1200, chunk=4, write="event")],
    "slow": [Turn(text="Once upon a time there was a very long story", chunk=4, write="event", stall=1200)],
    "paced": [Turn(text="One two three four five six seven eight", chunk=4, write="event", delay=0.02)],
}


def play(recorded: Recorded) -> Turn:
    """Return the turn that comes next in the situation which the last question of a request names."""
    said = recorded.body["messages"]
    asked = [(number, _text(message)) for number, message in enumerate(said) if message["role"] == "user"]
    last, text = next((number, text) for number, text in reversed(asked) if text)
    turns = SITUATIONS[text.partition(":")[0]]
    step = sum(message["role"] == "assistant" for message in said[last:])
    return turns[min(step, len(turns) - 1)]


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if part["type"] == "text")


@dataclass
class Stage:
    """A server at `url`, its provider, and a proxy in front of it at `proxy.url` that cuts what it is told to."""

    server: Server
    fake: FakeProvider
    proxy: Proxy
    url: str
    results: dict[str, Any] = field(default_factory=dict)

    def bodies(self, situation: str) -> list[dict[str, Any]]:
        """Return what the provider was sent while that situation was the last question."""
        return [each.body for each in self.fake.requests if _last(each).partition(":")[0] == situation]

    async def drive(self, script: str, *arguments: str, **environment: str) -> dict[str, Any]:
        """Run `tests/clients/SCRIPT.js` and return what it printed, by situation; a script that fails fails the test.

        It finds the server in CHATSTREAM_URL and the proxy in CHATSTREAM_PROXY.
        """
        process = await asyncio.create_subprocess_exec(
            *(_node(), str(FOLDER / f"{script}.js"), *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"CHATSTREAM_URL": self.url, "CHATSTREAM_PROXY": self.proxy.url} | environment,
            cwd=FOLDER,
            limit=2**26,
        )
        try:
            async with asyncio.timeout(2 * HANG):
                out, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, f"{out.decode()}\n{errors.decode()}"
        lines = [json.loads(line) for line in out.decode().splitlines() if line.startswith("{")]
        self.results |= {line["situation"]: line for line in lines}
        return self.results


def _last(recorded: Recorded) -> str:
    said = recorded.body["messages"]
    return next(text for message in reversed(said) if message["role"] == "user" and (text := _text(message)))


def _node() -> str:
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules").is_dir():
        missing = f"the clients are not installed: {INSTALL}"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    return node


@asynccontextmanager
async def stage(
    *, model: str = MODEL, tools: Sequence[Any] = TOOLS, proxied: Sequence[bytes] = (), **settings: Any
) -> AsyncIterator[Stage]:
    """Start a server as `serve` does; the requests whose path begins like one of `proxied` are what the proxy harms."""
    async with FakeProvider(play) as fake:
        kept = {name: os.environ.get(name) for name in provider_environment("")}
        os.environ.update(provider_environment(fake.url))
        server = Server(Config(model=model, **{"linger": 0.3} | settings), tools=Toolbox(tools))
        runner = web.AppRunner(make_app(server), handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        try:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
            await server.open()
            async with Proxy(port, *proxied) as proxy:
                yield Stage(server, fake, proxy, f"http://127.0.0.1:{port}")
        finally:
            await runner.cleanup()
            await server.close()
            for name, value in kept.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def driven(script: str, *arguments: str, **settings: Any) -> Stage:
    """Run a script once against a server of its own, for a fixture of a whole module, and return what came of it."""

    async def drive() -> Stage:
        async with stage(**settings) as each:
            await each.drive(script, *arguments)
            return each

    return asyncio.run(drive())
