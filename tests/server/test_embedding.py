"""Any of its parts stands in an application of the user's, behind a prefix, beside what is there."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urljoin

import pytest
from aiohttp import web

from chatstream.config import Config
from chatstream.errors import ConfigError
from chatstream.server import Server, add_routes
from chatstream.server.routes import PARTS
from chatstream.testing import Call, Turn
from chatstream.tools import Toolbox, tool

from .rig import ROOT, Answer, Client, numbered, problem, question, texts

# A path that each part answers with no more than that, and how.
KNOCKS = {
    "api": ("GET", "/api/models", 200),
    "ag-ui": ("GET", "/ag-ui", 400),
    "ai-sdk": ("GET", "/ai-sdk/chat/nothing/stream", 204),
    "openai": ("GET", "/v1/models", 200),
    "page": ("GET", "/app.js", 200),
}
EXAMPLE = next(
    each for each in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S) if "prefix" in each
)

RunAt = Callable[[web.Application], Any]


@pytest.fixture
async def run(stack: AsyncExitStack, run_app: Callable[[web.Application], Any]) -> RunAt:
    async def run(app: web.Application) -> Client:
        client = Client(await run_app(app))
        stack.push_async_callback(client.session.close)
        return client

    return run


@tool
def mine() -> str:
    "Be mine."
    return "mine"


def frames(answer: Answer) -> list[dict[str, Any]]:
    """Return what the lines hold that begin with `data: `, but for one that ends a stream."""
    assert answer.status == 200, answer
    lines = [line[6:] for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


# --- the README -------------------------------------------------------------------------------------------------------


async def test_the_example_of_the_readme_chats_by_both_wires_and_keeps_its_own_page(run: RunAt, fake: Any) -> None:
    turns = [Turn(tools=[Call("stock", {"item": "bolt"})]), Turn(text="Seven.")]
    provider = await fake(*turns, *turns)
    named: dict[str, Any] = {"__name__": "shop"}
    exec(EXAMPLE, named)
    client = await run(named["app"])

    assert b"The shop" in (await client.send("GET", "/")).body
    said = {"id": "m1", "role": "user"}
    ag_ui = {"threadId": "t1", "runId": "r1", "state": {}, "tools": [], "context": [], "forwardedProps": {}}
    told = frames(await client.request("POST", "/chat/ag-ui", ag_ui | {"messages": [said | {"content": "Bolts?"}]}))
    assert [each["content"] for each in told if each["type"] == "TOOL_CALL_RESULT"] == ["There are 7 pieces of bolt."]
    assert "".join(each["delta"] for each in told if each["type"] == "TEXT_MESSAGE_CONTENT") == "Seven."
    assert provider.requests[0].body["system"] == "You help the customers of a shop."
    assert provider.requests[0].tools == ["stock"]

    ai_sdk = {"id": "c1", "trigger": "submit-message"}
    message = said | {"parts": [{"type": "text", "text": "Bolts?"}]}
    told = frames(await client.request("POST", "/chat/ai-sdk/chat", ai_sdk | {"messages": [message]}))
    outputs = [each["output"] for each in told if each["type"] == "tool-output-available"]
    assert outputs == ["There are 7 pieces of bolt."]
    assert "".join(each["delta"] for each in told if each["type"] == "text-delta") == "Seven."
    assert provider.requests[3].results == ["There are 7 pieces of bolt."]
    for path in ("/chat/api/chat", "/chat/v1/models", "/chat/", "/chat", "/ag-ui"):
        assert (await client.send("GET", path)).status == 404


# --- parts and prefixes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [part for part in PARTS if part != "page"])
async def test_a_part_stands_alone(part: str, run: RunAt) -> None:
    app = web.Application()
    add_routes(app, Config(model="scripted:demo"), prefix="/a/b", parts=[part])
    client = await run(app)

    for known, (method, path, status) in KNOCKS.items():
        assert (await client.send(method, f"/a/b{path}")).status == (status if known == part else 404), known
        assert (await client.send(method, path)).status == 404


async def test_all_parts_are_there_without_a_word_and_the_page_beside_what_is_mine(run: RunAt) -> None:
    async def own(request: web.Request) -> web.Response:
        return web.Response(text="mine")

    app = web.Application()
    app.router.add_get("/own", own)
    add_routes(app, Config(model="scripted:demo"))
    client = await run(app)

    for method, path, status in KNOCKS.values():
        assert (await client.send(method, path)).status == status
    assert (await client.send("GET", "/own")).body == b"mine"


@pytest.mark.parametrize(
    "prefix", ["chat", "/chat/", "/", "//chat", "/a//b", "/{x}", "/a b", "/../x", "/.", "/ä", "/a?b"]
)
def test_a_prefix_that_is_none_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match="such as '/chat'"):
        add_routes(web.Application(), Config(model="scripted:demo"), prefix=prefix)


@pytest.mark.parametrize(
    ("parts", "said"),
    [(["api", "agui"], "'agui'; expected some of api, ag-ui"), (["page"], "needs"), ([], "at least one")],
)
def test_parts_that_do_not_make_sense_are_refused(parts: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        add_routes(web.Application(), Config(model="scripted:demo"), parts=parts)


async def test_it_stands_twice_in_one_application_each_with_its_own(run: RunAt, write_script: Any) -> None:
    app = web.Application()
    script = write_script({"text": "Hello"})
    add_routes(app, Config(model=script), tools=Toolbox([]), prefix="/one")
    add_routes(app, Config(model="scripted:demo", token="the-token-of-two"), tools=Toolbox([mine]), prefix="/two")
    client = await run(app)

    assert (await client.get("/one/api/tools"))["tools"] == []
    problem(await client.send("GET", "/two/api/tools"), 401, "auth")
    shown = ("Authorization", "Bearer the-token-of-two")
    (told,) = (await client.send("GET", "/two/api/tools", [shown])).json["tools"]
    assert told["name"] == "mine"
    answer = await client.request("POST", "/one/api/chat", question())
    assert texts(frame for _, frame in numbered(answer.body) if frame) == "Hello"
    run_id = answer.headers["X-Run-Id"]
    assert (await client.get(f"/one/api/runs/{run_id}"))["outcome"] == "completed"
    problem(await client.send("GET", f"/two/api/runs/{run_id}", [shown]), 404, "not_found")
    for prefix in ("/one", "/two"):
        assert (await client.get(f"{prefix}/readyz")) == {"status": "ready"}


async def test_one_server_stands_behind_two_prefixes(run: RunAt) -> None:
    app = web.Application()
    server = Server(Config(model="scripted:demo"))
    server.mount(app, "/one")
    server.mount(app, "/two")

    async def life(app: web.Application) -> AsyncIterator[None]:
        await server.open()
        yield
        await server.close()

    app.cleanup_ctx.append(life)
    client = await run(app)

    made = await client.request("POST", "/one/api/conversations", {})
    assert (await client.get(f"/two/api/conversations/{made.json['id']}"))["id"] == made.json["id"]


# --- the page ---------------------------------------------------------------------------------------------------------


async def test_the_page_is_found_with_and_without_its_slash(run: RunAt) -> None:
    inner, outer = web.Application(), web.Application()
    add_routes(inner, Config(model="scripted:demo"), prefix="/chat")
    outer.add_subapp("/deep", inner)
    client = await run(outer)

    led = await client.send("GET", "/deep/chat")
    assert led.status == 302
    assert urljoin("/deep/chat", led.headers["Location"]) == "/deep/chat/"
    page = await client.send("GET", "/deep/chat/")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


async def test_the_page_names_everything_from_where_it_stands(run: RunAt) -> None:
    app = web.Application()
    add_routes(app, Config(model="scripted:demo"), prefix="/chat")
    client = await run(app)
    seen, waiting = set[str](), ["/chat/"]
    while waiting:
        path = waiting.pop()
        answer = await client.send("GET", path)
        assert answer.status == 200, path
        text = answer.body.decode()
        named = re.findall(r'(?:href|src|from|import) ?[=(]? ?["\'`]([./\w-]+\.\w+)["\'`]', text)
        assert all(not name.startswith("/") for name in named), (path, named)
        found = {urljoin(path, name) for name in named if "node_modules" not in name}
        waiting += found - seen
        seen |= found
    assert {"/chat/app.js", "/chat/style.css", "/chat/icon.svg", "/chat/chat.js", "/chat/highlight.js"} <= seen
