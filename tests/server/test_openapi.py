"""The document tells of every route, and what is really asked and answered is as it says."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from chatstream.config import Config
from chatstream.server import Server, add_routes, bodies, make_app
from chatstream.server.openapi import describe
from chatstream.tools import tool

from .rig import ROOT, Answer, Client, Frame, numbered, question, turn

README = (ROOT / "README.md").read_text()
TOKEN = "a-token-of-the-test"
AG_UI = {"threadId": "t", "runId": "r", "messages": [{"id": "m", "role": "user", "content": "Hello"}]}
AI_SDK = {
    "id": "c",
    "trigger": "submit-message",
    "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}],
}
OPENAI = {"model": "scripted:demo", "messages": [{"role": "user", "content": "Hello"}]}
# One of each shape that `POST /api/chat` takes.
SHAPES = {
    bodies.CHAT_REQUEST: question(),
    bodies.TURN_REQUEST: turn("conv_1"),
    bodies.AG_UI_REQUEST: AG_UI,
    bodies.AI_SDK_REQUEST: AI_SDK,
}


class Document:
    """The document of a server, to hold what is asked and answered against."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.value = value

    def operation(self, method: str, path: str) -> dict[str, Any]:
        """Return the operation of a request, by the path that it has."""
        path = path.partition("?")[0]
        fit = [known for known in self.value["paths"] if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", known), path)]
        exact = [known for known in fit if known == path] or [known for known in fit if known != "/{path}"]
        assert len(exact) == 1, (path, fit)
        operation: dict[str, Any] = self.value["paths"][exact[0]][method.lower()]
        return operation

    def problems(self, schema: dict[str, Any], value: object) -> list[str]:
        whole = {"components": self.value["components"], **schema}
        return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(whole).iter_errors(value)]

    def asked(self, method: str, path: str, body: object) -> list[str]:
        return self.problems(self.operation(method, path)["requestBody"]["content"]["application/json"]["schema"], body)

    def check(self, method: str, path: str, answer: Answer) -> Answer:
        """Assert that an answer is one that the document tells of."""
        responses = self.operation(method, path)["responses"]
        told = responses.get(str(answer.status), responses["default"])
        if answer.status == 204:
            assert told is not responses["default"] and "content" not in told and answer.body == b""
            return answer
        assert answer.status < 400 or told is responses["default"] or answer.status == 503, answer
        kind = answer.headers["Content-Type"].partition(";")[0]
        schema = told["content"][kind]["schema"]
        if kind == "application/json":
            assert self.problems(schema, answer.json) == [], answer
        elif "contentSchema" in schema:
            for _, frame in numbered(answer.body):
                assert frame is None or self.problems(schema["contentSchema"], frame) == []
        return answer


@pytest.fixture(scope="module")
def document() -> Document:
    server = Server(Config(model="scripted:demo"))
    # As a client reads it.
    return Document(json.loads(json.dumps(describe(server.routes, "", has_token=True))))


def operations(value: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in value["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


# --- the document itself ----------------------------------------------------------------------------------------------


def test_it_is_openapi_3_1(document: Document) -> None:
    assert document.value["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(document.value).iter_errors()] == []


def test_every_route_of_the_application_is_there(document: Document) -> None:
    app = make_app(Server(Config(model="scripted:demo")))
    routed = {
        (route.resource.canonical, route.method.lower())
        for route in app.router.routes()
        if route.resource and route.method not in ("HEAD", "*")
    }

    assert {(path, method) for path, method, _ in operations(document.value)} - {("/{path}", "get")} == routed


def test_every_operation_says_what_it_does_and_takes(document: Document) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document.value)]
    tags = {tag["name"] for tag in document.value["tags"]}
    assert len(set(ids)) == len(ids)
    for path, method, operation in operations(document.value):
        assert re.fullmatch(r"[A-Z][^\n]{5,120}", operation["summary"]), (path, operation["summary"])
        assert set(operation["tags"]) <= tags
        named = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path))
        assert ("requestBody" in operation) <= (method in ("post", "patch"))
        assert "default" in operation["responses"] and len(operation["responses"]) > 1


def test_a_run_is_followed_by_a_header_or_a_query(document: Document) -> None:
    operation = document.operation("GET", "/api/runs/run_1/events")

    assert {(each["name"], each["in"]) for each in operation["parameters"]} == {
        ("id", "path"),
        ("after", "query"),
        ("Last-Event-ID", "header"),
    }


async def test_the_token_is_asked_for_where_there_is_one(start: Any) -> None:
    without = await (await start()).get("/api/openapi.json")
    assert not [operation for _, _, operation in operations(without) if "security" in operation]

    running = await start(token=TOKEN)
    assert (await running.send("GET", "/api/openapi.json")).status == 401
    value = (await running.send("GET", "/api/openapi.json", [("Authorization", f"Bearer {TOKEN}")])).json
    assert value["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}
    open_to_all = {path for path, _, operation in operations(value) if "security" not in operation}
    assert open_to_all == {"/healthz", "/readyz", "/api/csp-reports", "/{path}"}


@pytest.mark.parametrize("outer", ["", "/deep"])
async def test_behind_a_prefix_it_says_where_it_is(outer: str, run_app: Any, stack: Any) -> None:
    app = web.Application()
    inner = web.Application() if outer else app
    add_routes(inner, Config(model="scripted:demo"), prefix="/chat", parts=["api", "openai"])
    if outer:
        app.add_subapp(outer, inner)
    client = Client(await run_app(app))
    stack.push_async_callback(client.session.close)

    value = await client.get(f"{outer}/chat/api/openapi.json")
    assert value["servers"] == [{"url": f"{outer}/chat"}]
    assert "/api/chat" in value["paths"] and "/v1/models" in value["paths"]
    assert not [path for path in value["paths"] if path.startswith(("/ag-ui", "/ai-sdk", "/{"))]
    assert {tag["name"] for tag in value["tags"]} == {"api", "openai"}


# --- what is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "body"), SHAPES.items())
def test_a_question_has_one_of_the_shapes_and_no_other(name: str, body: dict[str, Any], document: Document) -> None:
    assert document.asked("POST", "/api/chat", body) == []
    assert bodies.explain(name, body) == ""


@pytest.mark.parametrize(
    ("method", "path", "name", "body"),
    [
        ("POST", "/api/chat", bodies.CHAT_REQUEST, question(temperature="hot")),
        ("POST", "/api/chat", bodies.CHAT_REQUEST, question(tools=[{"name": "x"}])),
        ("POST", "/api/chat", bodies.TURN_REQUEST, turn("c", turnId="")),
        ("POST", "/api/chat", bodies.CHAT_REQUEST, {"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
        ("POST", "/ag-ui", bodies.AG_UI_REQUEST, {"messages": []}),
        ("POST", "/ai-sdk/chat", bodies.AI_SDK_REQUEST, {"messages": 1}),
        ("POST", "/v1/chat/completions", bodies.OPENAI_REQUEST, {"messages": "Hello"}),
        ("PATCH", "/api/conversations/c", bodies.CONVERSATION_CHANGE, {}),
        (
            "POST",
            "/api/conversations/import",
            bodies.IMPORT,
            {"messages": [{"id": "a", "role": "system", "content": ""}]},
        ),
    ],
)
def test_what_the_server_refuses_the_document_does_too(
    method: str, path: str, name: str, body: object, document: Document
) -> None:
    assert document.asked(method, path, body) != []
    assert bodies.explain(name, body) != ""


def requests_of_the_readme() -> Iterator[tuple[str, str, Any]]:
    for line in re.findall(r"^curl .*$", README.replace("\\\n", " "), re.MULTILINE):
        words = shlex.split(line, comments=True)
        path = next(word for word in words if "localhost:8000" in word).partition("localhost:8000")[2]
        body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
        method = words[words.index("-X") + 1] if "-X" in words else "GET" if body is None else "POST"
        yield method, path, body


@pytest.mark.parametrize(("method", "path", "body"), [*requests_of_the_readme()])
def test_what_the_readme_asks_the_document_takes(method: str, path: str, body: Any, document: Document) -> None:
    operation = document.operation(method, path)

    if body is not None:
        assert document.asked(method, path, body) == []
    query = {name.partition("=")[0] for name in path.partition("?")[2].split("&") if name}
    assert query <= {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}


# --- what is answered -------------------------------------------------------------------------------------------------


async def test_real_answers_are_as_it_says(start: Any, write_script: Any) -> None:
    @tool(approval="always")
    def launch(what: str) -> str:
        "Launch something."
        return "launched"

    call = {"name": "launch", "arguments": {"what": "it"}}
    turns = [{"reasoning": "Hm.", "text": "One moment.", "tools": [call]}, {"text": "Done."}, {"error": "auth"}]
    running = await start(write_script(*turns), tools=[launch])
    document = Document(await running.get("/api/openapi.json"))

    async def visit(method: str, path: str, value: Any = None) -> Answer:
        if value is not None:
            assert document.asked(method, path, value) == []
        return document.check(method, path, await running.request(method, path, value))

    for path in ("/api/openapi.json", "/api/models", "/api/tools", "/healthz", "/readyz", "/v1/models"):
        await visit("GET", path)
    made = (await visit("POST", "/api/conversations", {"title": "A title"})).json["id"]
    asked = await visit("POST", "/api/chat", turn(made, "Launch it"))
    run = asked.headers["X-Run-Id"]
    (waiting,) = (await visit("GET", f"/api/runs/{run}")).json["approvals"]
    decided = {"decisions": [{"toolCallId": waiting["toolCallId"], "decision": "approve"}]}
    then = (await visit("POST", f"/api/runs/{run}/approvals", decided)).json["runId"]
    await visit("GET", f"/api/runs/{then}/events")
    await visit("GET", f"/api/runs/{then}/events?after=1")
    await visit("POST", "/api/chat", turn(made, "Again"))
    await visit("POST", f"/api/runs/{then}/stop", None)
    tree = (await visit("GET", f"/api/conversations/{made}")).json
    assert [each["outcome"] for each in tree["runs"]] == ["paused", "completed", "failed"]
    exported = (await visit("GET", f"/api/conversations/{made}?format=json")).json
    taken = (await visit("POST", "/api/conversations/import", exported)).json["id"]
    await visit("GET", f"/api/conversations/{taken}")
    await visit("PATCH", f"/api/conversations/{made}", {"title": "Another", "system": "", "model": "", "pinned": True})
    for query in ("", "?limit=1", "?q=launch"):
        assert (await visit("GET", f"/api/conversations{query}")).json["conversations"]
    await visit("DELETE", f"/api/conversations/{made}")
    await visit("PATCH", f"/api/conversations/{made}", {"deleted": False})
    await visit("DELETE", f"/api/conversations/{made}")
    await visit("POST", "/api/session")
    for path in (f"/api/conversations/{made}", "/api/runs/run_x", "/api/conversations?limit=x", "/ag-ui"):
        assert (await visit("GET", path)).status >= 400
    for path in ("/api/chat", "/v1/chat/completions", "/ag-ui", "/ai-sdk/chat"):
        answer = await running.request("POST", path, {"messages": []})
        assert document.check("POST", path, answer).status == 400
    running.server.state = "stopping"
    assert (await visit("GET", "/readyz")).status == 503


GOLDEN = sorted((ROOT / "tests/wires/golden").glob("*.sse"))


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_every_frame_of_the_native_wire_is_told(file: Any, document: Document) -> None:
    told: list[Frame | None] = [frame for _, frame in numbered(file.read_bytes())]

    schema = {"$ref": "#/components/schemas/NativeFrame"}
    assert [problem for frame in told if frame for problem in document.problems(schema, frame)] == []


def test_a_frame_that_it_does_not_tell_of_is_none(document: Document) -> None:
    schema = {"$ref": "#/components/schemas/NativeFrame"}

    assert document.problems(schema, {"type": "text", "content": "x"}) == []
    assert document.problems(schema, {"type": "text", "content": "x", "more": 1})
    assert document.problems(schema, {"type": "texts", "content": "x"})
