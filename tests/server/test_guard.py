"""No web page but our own can drive the server (R44), and whoever may not is told so in the form of every error."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from http.cookies import SimpleCookie
from typing import Any

import pytest
from aiohttp import web

from chatstream.config import Config
from chatstream.server import add_routes
from chatstream.tools import Toolbox

from .rig import JSON, Answer, Client, problem, question

TOKEN = "a token+of & 8"
BODY = json.dumps(question()).encode()
POLICY = [
    *("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "font-src 'self'"),
    *("img-src 'self' data: blob:", "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"),
    *("require-trusted-types-for 'script'", "trusted-types 'none'", "report-uri api/csp-reports"),
]
# `{port}` is the server's own.
HOSTS = {
    "127.0.0.1:{port}": 200,
    "127.0.0.1": 200,
    "127.1.2.3:80": 200,
    "localhost": 200,
    "LocalHost:{port}": 200,
    "localhost.:{port}": 200,
    "[::1]:{port}": 200,
    "[::1]": 200,
    "": 421,
    ":{port}": 421,
    "evil.example": 421,
    "evil.example:{port}": 421,
    "127.0.0.1.evil.example": 421,
    "localhost.evil.example:{port}": 421,
    "evil.localhost": 421,
    "localhost:{port}@evil.example": 421,
    "127.0.0.1, evil.example": 421,
    "0.0.0.0:{port}": 421,
    "192.168.0.1:{port}": 421,
    "[::]:{port}": 421,
    "[2001:db8::1]:{port}": 421,
    "[fe80::1]": 421,
    "2130706433": 421,
    b"\xff\xfe": 421,
}
ALLOWED = {
    "chat.example": 200,
    "Chat.Example:8443": 200,
    "chat.example.": 200,
    "[2001:db8::1]:80": 200,
    "sub.chat.example": 421,
    "chat.example.evil": 421,
    "[2001:db8::2]": 421,
}
ORIGINS = {
    "http://127.0.0.1:{port}": 200,
    "null": 403,
    "": 403,
    "http://127.0.0.1:1": 403,
    "http://127.0.0.1": 403,
    "http://localhost:{port}": 403,
    "https://evil.example": 403,
    "http://evil.example:{port}": 403,
    "http://127.0.0.1:{port}.evil.example": 403,
    "http://127.0.0.1:{port}@evil.example": 403,
    "http://evil@127.0.0.1:{port}": 403,
    "chrome-extension://abcdefgh": 403,
    "file://": 403,
    "http://[evil": 403,
    b"\xff": 403,
}
# What a browser says of a request: the site it comes from and the way it was made, then what it asks for.
FETCHES = [
    ("same-origin", "cors", "POST", "/api/chat", 200),
    ("none", "navigate", "GET", "/", 200),
    ("cross-site", "navigate", "GET", "/", 200),
    ("same-site", "navigate", "GET", "/", 200),
    ("cross-site", "cors", "POST", "/api/chat", 403),
    ("cross-site", "no-cors", "POST", "/api/chat", 403),
    ("same-site", "cors", "POST", "/api/chat", 403),
    ("cross-site", "navigate", "POST", "/api/chat", 403),
    ("cross-site", "navigate", "GET", "/api/models", 403),
    ("cross-site", "no-cors", "GET", "/app.js", 403),
    ("cross-site", "navigate", "POST", "/", 403),
    ("something-new", "cors", "POST", "/api/chat", 403),
]
TYPES = {
    "application/json": 200,
    "application/json; charset=utf-8": 200,
    "Application/JSON": 200,
    "text/plain": 415,
    "text/plain; application/json": 415,
    "application/x-www-form-urlencoded": 415,
    "multipart/form-data; boundary=x": 415,
    "application/jsonx": 415,
    "nonsense": 415,
    None: 415,
    b"\xff": 415,
}
CODE_OF = {403: "forbidden", 415: "bad_request", 421: "forbidden"}


@pytest.fixture
async def running(start: Any, write_script: Any) -> Any:
    return await start(write_script({"text": "Hello"}))


def _check(answer: Answer, status: int) -> None:
    if status == 200:
        assert answer.status == 200, answer
    else:
        problem(answer, status, CODE_OF[status])
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


def _with_port(value: str | bytes, port: int) -> str | bytes:
    return value if isinstance(value, bytes) else value.replace("{port}", str(port))


@pytest.mark.parametrize(("host", "status"), HOSTS.items())
async def test_a_host_must_be_this_machine(host: str | bytes, status: int, running: Any) -> None:
    named = ("Host", _with_port(host, running.port))

    _check(await running.post(BODY, named), status)
    _check(await running.send("GET", "/", [named]), status)


async def test_a_host_cannot_be_left_out(running: Any) -> None:
    problem(await _http_1_0(running), 421, "forbidden")


async def _http_1_0(running: Any) -> Answer:
    # HTTP/1.0 has no Host header; `send` would add one.
    return await running.send("GET", "/healthz HTTP/1.0\r\nX: ", [("Host", "")])


@pytest.mark.parametrize(("host", "status"), [*ALLOWED.items(), ("localhost", 200), ("evil.example", 421)])
async def test_other_names_can_be_allowed(host: str, status: int, start: Any) -> None:
    running = await start(allowed_hosts=("chat.EXAMPLE", "[2001:db8::1]"))

    _check(await running.send("GET", "/api/models", [("Host", host)]), status)


@pytest.mark.parametrize(
    ("bound", "host", "status"),
    [("10.1.2.3", "10.1.2.3:80", 200), ("2001:db8::7", "[2001:db8::7]:80", 200), ("Box.lan", "box.lan", 200)],
)
async def test_the_address_it_listens_on_is_a_name_of_it(bound: str, host: str, status: int, start: Any) -> None:
    running = await start(host=bound, token=TOKEN)

    _check(await running.send("GET", "/healthz", [("Host", host)]), status)


@pytest.mark.parametrize(("origin", "status"), ORIGINS.items())
async def test_an_origin_must_be_our_own(origin: str | bytes, status: int, running: Any) -> None:
    told = ("Origin", _with_port(origin, running.port))

    _check(await running.post(BODY, told), status)
    _check(await running.send("GET", "/api/models", [told]), status)


async def test_a_page_of_an_allowed_host_may_ask_through_a_proxy_that_names_another(start: Any) -> None:
    running = await start(allowed_hosts=("chat.example",))

    _check(await running.send("GET", "/api/models", [("Origin", "https://chat.example")]), 200)
    _check(await running.send("GET", "/api/models", [("Origin", "https://chat.example.evil")]), 403)


@pytest.mark.parametrize(("site", "mode", "method", "path", "status"), FETCHES)
async def test_what_a_browser_says_of_a_request_counts(
    site: str, mode: str, method: str, path: str, status: int, running: Any
) -> None:
    told = [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode)]
    if method == "POST":
        _check(await running.post(BODY, *told, path=path), status)
    else:
        _check(await running.send(method, path, told), status)


@pytest.mark.parametrize(("kind", "status"), TYPES.items())
async def test_a_body_must_say_that_it_is_json(kind: str | bytes | None, status: int, running: Any) -> None:
    headers = [("Content-Length", str(len(BODY))), *([] if kind is None else [("Content-Type", kind)])]

    _check(await running.send("POST", "/api/chat", headers, [BODY]), status)


@pytest.mark.parametrize("path", ["/api/chat", "/api/models", "/"])
async def test_a_preflight_is_refused(path: str, running: Any) -> None:
    asked = [("Origin", f"http://{running.host}"), ("Access-Control-Request-Method", "POST")]
    answer = await running.send("OPTIONS", path, [*asked, ("Access-Control-Request-Headers", "content-type")])

    _check_405(answer)
    _check(await running.send("OPTIONS", path, [("Origin", "https://evil.example"), *asked[1:]]), 403)


def _check_405(answer: Answer) -> None:
    problem(answer, 405, "bad_request")
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


# --- the token --------------------------------------------------------------------------------------------------------

SHOWN = {
    "none": (None, 401),
    "the right one": (f"Bearer {TOKEN}", 200),
    "in another case": (f"bearer {TOKEN}", 200),
    "with spaces": (f"Bearer   {TOKEN}  ", 200),
    "a wrong one": ("Bearer wrong-token", 401),
    "its beginning": (f"Bearer {TOKEN[:-1]}", 401),
    "in capitals": (f"Bearer {TOKEN.upper()}", 401),
    "without a scheme": (TOKEN, 401),
    "another scheme": (f"Basic {TOKEN}", 401),
    "empty": ("Bearer ", 401),
    "not UTF-8": (b"Bearer \xff\xfe", 401),
    "not ASCII": ("Bearer tökenn", 401),
}


@pytest.mark.parametrize(("shown", "status"), SHOWN.values(), ids=SHOWN)
@pytest.mark.parametrize("path", ["/api/models", "/api/tools", "/%61pi/models", "http://localhost/api/models"])
async def test_the_api_wants_the_token(path: str, shown: str | bytes | None, status: int, start: Any) -> None:
    running = await start(token=TOKEN)
    answer = await running.send("GET", path, [] if shown is None else [("Authorization", shown)])

    if status == 200:
        assert answer.status == 200
    else:
        assert "Bearer" in problem(answer, 401, "auth")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert TOKEN not in answer.body.decode()


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/chat"), ("POST", "/api/session"), ("GET", "/api/nothing"), ("PUT", "/api/chat")]
)
async def test_nothing_of_the_api_is_told_without_the_token(method: str, path: str, start: Any) -> None:
    running = await start(token=TOKEN)

    problem(await running.send(method, path, [JSON, ("Content-Length", "2")], [b"{}"]), 401, "auth")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/app.js", "/style.css"])
async def test_the_page_and_the_probes_want_no_token(path: str, start: Any) -> None:
    running = await start(token=TOKEN)

    assert (await running.send("GET", path)).status == 200


async def test_a_session_is_a_cookie_that_stands_for_the_token(start: Any) -> None:
    running = await start(token=TOKEN)
    opened = await running.send("POST", "/api/session", [("Authorization", f"Bearer {TOKEN}")])

    assert opened.status == 204
    cookie = SimpleCookie(opened.headers["Set-Cookie"])[running.server.guard.cookie]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert TOKEN not in opened.headers["Set-Cookie"]
    for value, status in ((cookie.value, 200), (cookie.value[:-1], 401), ("", 401), (TOKEN, 401), ('"\xff', 401)):
        answer = await running.send("GET", "/api/models", [("Cookie", f"other=1; {cookie.key}={value}")])
        assert answer.status == status


async def test_the_token_is_wanted_under_any_prefix(stack: AsyncExitStack, run_app: Any) -> None:
    inner, outer = web.Application(), web.Application()
    add_routes(inner, Config(model="scripted:demo", token=TOKEN), tools=Toolbox([]))
    outer.add_subapp("/chat", inner)
    client = Client(await run_app(outer))
    stack.push_async_callback(client.session.close)

    for asked in (("GET", "/chat/api/models"), ("GET", "/chat/api/tools"), ("POST", "/chat/api/chat")):
        problem(await client.send(*asked), 401, "auth")
    shown = ("Authorization", f"Bearer {TOKEN}")
    assert (await client.send("GET", "/chat/api/tools", [shown])).json == {"tools": []}
    assert (await client.send("GET", "/chat/healthz")).status == 200


async def test_a_cookie_is_good_for_no_other_site(start: Any) -> None:
    running = await start(token=TOKEN)
    session = ("Cookie", f"{running.server.guard.cookie}={running.server.guard.session}")

    assert (await running.send("GET", "/api/models", [session])).status == 200
    problem(await running.send("GET", "/api/models", [session, ("Origin", "https://evil.example")]), 403, "forbidden")


async def test_another_token_makes_another_cookie(start: Any) -> None:
    sessions = {(await start(token=token)).server.guard.session for token in (TOKEN, TOKEN + "x")}

    assert len(sessions) == 2


# --- what every answer has --------------------------------------------------------------------------------------------

ANSWERS = {
    "page": ("GET", "/"),
    "file": ("GET", "/app.js"),
    "head": ("HEAD", "/"),
    "api": ("GET", "/api/models"),
    "health": ("GET", "/healthz"),
    "not found": ("GET", "/nothing"),
    "method": ("DELETE", "/api/chat"),
    "stream": ("POST", "/api/chat"),
    "refused": ("POST", "/api/session?x=1"),
}


@pytest.mark.parametrize(("method", "path"), ANSWERS.values(), ids=ANSWERS)
async def test_every_answer_has_the_policy_and_an_id(method: str, path: str, running: Any) -> None:
    headers = [JSON, ("Content-Length", str(len(BODY)))] if path == "/api/chat" else []
    answers = [await running.send(method, path, headers, [BODY] if headers else []) for _ in range(2)]

    for answer in answers:
        assert answer.headers["Content-Security-Policy"].split("; ") == [
            *sorted(POLICY, key=answer.headers["Content-Security-Policy"].index)
        ]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        is_file = answer.status == 200 and "/" in path and not path.startswith(("/api/", "/healthz", "/readyz"))
        assert answer.headers["Cache-Control"].startswith("no-cache" if is_file else "no-store")
        assert "Set-Cookie" not in answer.headers or path.startswith("/api/session")
    first, second = (answer.headers["X-Request-Id"] for answer in answers)
    assert first != second
    assert first.startswith("req_")


UNKNOWN = {
    ("GET", "/nothing"): (404, None),
    ("GET", "/api/nothing"): (404, None),
    ("POST", "/api/nothing"): (404, None),
    ("GET", "/api"): (404, None),
    ("GET", "/%0aX"): (404, None),
    ("GET", "//api/models"): (404, None),
    ("GET", "/api/models/"): (404, None),
    ("GET", "/api/session"): (405, "POST"),
    ("HEAD", "/api/session"): (405, "POST"),
    ("DELETE", "/api/chat"): (405, "GET, POST"),
    ("POST", "/api/models"): (405, "GET, HEAD"),
    ("POST", "/healthz"): (405, "GET, HEAD"),
    ("POST", "/"): (405, "GET, HEAD"),
}


@pytest.mark.parametrize(("asked", "wanted"), UNKNOWN.items())
async def test_what_is_not_there_is_404_and_what_is_there_otherwise_405(
    asked: tuple[str, str], wanted: tuple[int, str | None], running: Any
) -> None:
    answer = await running.send(*asked)

    status, allowed = wanted
    if asked[0] != "HEAD":
        problem(answer, status, "not_found" if status == 404 else "bad_request")
    assert answer.status == status
    assert answer.headers.get("Allow") == allowed
    await running.lives()


STREAMS = [
    "/api/runs/{run}/events",
    "/ai-sdk/chat/x/stream",
    "/api/chat/x/stream",
    "/ag-ui?runId=x",
    "/api/chat?runId=x",
]


@pytest.mark.parametrize("path", STREAMS)
async def test_no_stream_answers_head_and_so_none_is_taken_for_the_next_answer(path: str, running: Any) -> None:
    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}
    asked = {"id": "x", "trigger": "submit-message", "messages": [message]}
    run = (await running.request("POST", "/api/chat", asked)).headers["X-Run-Id"]
    head = f"HEAD {path.format(run=run)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    told, _, body = (await running.exchange(head.encode())).partition(b"\r\n\r\n")

    assert told.startswith(b"HTTP/1.1 405 ") and b"\nAllow: GET" in told
    assert body == b""


@pytest.mark.parametrize("path", ["/%0a2026-01-01%20INFO%20forged", "/%0d%0aforged", "/%1b[2Jforged"])
async def test_a_path_cannot_forge_a_line_of_the_log(path: str, running: Any) -> None:
    await running.send("GET", path)
    line = await running.over()

    assert line.isprintable()
    assert f"GET {path} 404" in line


async def test_the_log_has_the_id_of_each_request_and_never_the_token(start: Any, caplog: Any) -> None:
    running = await start(token=TOKEN)
    answer = await running.send("GET", "/api/models?token=x", [("Authorization", f"Bearer {TOKEN}")])
    line = await running.over()

    assert answer.headers["X-Request-Id"] in line
    assert "GET /api/models 200" in line
    assert TOKEN not in caplog.text


GARBAGE = {
    "no HTTP": b"hello\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n",
    "bytes in the path": b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a line without end": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a header without end": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
    "a length that is none": b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "length and chunks": (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "two hosts": b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
async def test_what_is_no_request_is_refused_without_a_trace(data: bytes, running: Any, caplog: Any) -> None:
    answer = await running.exchange(data)

    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert b"Traceback" not in answer
    assert b"site-packages" not in answer
    caplog.clear()
    await running.lives()


def test_the_token_is_not_in_what_is_printed_of_the_settings() -> None:
    assert TOKEN not in repr(Config(token=TOKEN))
