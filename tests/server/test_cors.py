"""Pages of the origins that `--cors-origin` names may ask and read the answers; all others may do neither (R44)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from chatstream.config import Config, read_config
from chatstream.errors import ConfigError
from chatstream.server import Server, add_routes, make_app

from .rig import Answer, Client, numbered, problem, question

TOKEN = "a-token-of-the-test"
APP = "https://app.example"
DEV = "http://localhost:5173"
EXPOSED = {
    *("x-run-id", "x-request-id", "chatstream-heartbeat", "retry-after"),
    *("location", "preference-applied", "content-disposition"),
    *("x-should-retry", "x-vercel-ai-ui-message-stream"),
}
BODY = json.dumps(question()).encode()
# As a browser sends it from a page of another site, but for the origin.
CROSS = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "cors")]
# What the clients of each wire ask for before they ask: TanStack AI's, the AI SDK's and the openai SDK's.
ASKED = [
    "content-type,last-event-id,prefer,x-run-id",
    "content-type,user-agent",
    "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,x-stainless-package-version",
    "",
]


def origin(name: str) -> list[tuple[str, str | bytes]]:
    return [("Origin", name), *CROSS]


def cors(answer: Answer) -> dict[str, str]:
    prefix = "access-control-"
    return {
        name.lower().removeprefix(prefix): v for name, v in answer.headers.items() if name.lower().startswith(prefix)
    }


def names(text: str) -> set[str]:
    return {name.strip().lower() for name in text.split(",")}


def open_to(answer: Answer, name: str) -> None:
    """Assert that a page of this origin, and of no other, can read the answer, and no cookie is asked for."""
    told = cors(answer)
    assert told["allow-origin"] == name
    assert names(told["expose-headers"]) == EXPOSED
    assert "allow-credentials" not in told
    assert names(answer.headers["Vary"]) - {"accept-encoding"} == {"origin"}


# --- settings ---------------------------------------------------------------------------------------------------------

ORIGINS = {
    "https://app.example": "https://app.example",
    "HTTPS://App.Example:443": "https://app.example",
    "http://app.example:80": "http://app.example",
    "http://app.example:443": "http://app.example:443",
    "http://localhost:05173": "http://localhost:5173",
    "http://127.0.0.1:3000": "http://127.0.0.1:3000",
    "http://[0:0::1]:3000": "http://[::1]:3000",
    "chrome-extension://abcdefgh": "chrome-extension://abcdefgh",
    "tauri://localhost": "tauri://localhost",
}
NO_ORIGINS = {
    "*": "any page at all",
    "null": "any file",
    "https://app.example/": "write https://app.example",
    "https://App.example:443/chat?x#y": "write https://app.example",
    "app.example": "write https://app.example",
    "localhost:5173": "write http://localhost:5173",
    "https://*.app.example": "such as",
    "https://user@app.example": "such as",
    "https://app.example:": "such as",
    "https://app.example:0": "such as",
    "https://app.example:70000": "such as",
    "https://app..example": "such as",
    "https://1.2.3": "such as",
    "http://[::g]": "such as",
    "https://bücher.example": "such as",
    "https://": "such as",
    "file:///home/me/chat.html": "such as",
    "wss://app.example": "such as",
    "https://app.example https://other.example": "such as",
    "nonsense": "write https://nonsense",
    "": "such as",
}


@pytest.mark.parametrize(("given", "meant"), ORIGINS.items())
def test_an_origin_is_kept_as_browsers_send_it(given: str, meant: str) -> None:
    assert read_config(["--cors-origin", given], {}).cors_origins == (meant,)


def test_there_may_be_many_and_none_is_the_default() -> None:
    assert read_config([], {}).cors_origins == ()
    assert read_config(
        [f"--cors-origin={APP}", f"--cors-origin={DEV}", f"--cors-origin={APP}:443"], {}
    ).cors_origins == (
        APP,
        DEV,
    )
    assert read_config([], {"CHATSTREAM_CORS_ORIGIN": f"{APP}, {DEV}"}).cors_origins == (APP, DEV)


@pytest.mark.parametrize(("given", "said"), NO_ORIGINS.items())
def test_what_is_no_origin_is_refused_with_what_to_write(given: str, said: str) -> None:
    with pytest.raises(ConfigError, match="--cors-origin") as raised:
        read_config([f"--cors-origin={given}"], {})
    assert said in raised.value.message
    with pytest.raises(ConfigError):
        Server(Config(model="scripted:demo", cors_origins=(given,)))


# --- who may ask ------------------------------------------------------------------------------------------------------


async def test_a_page_of_a_named_origin_reads_a_stream(start: Any, write_script: Any) -> None:
    running = await start(write_script({"text": "Hello"}), cors_origins=(APP, DEV))

    for name in (APP, DEV):
        answer = await running.post(BODY, *origin(name))
        assert answer.status == 200 and numbered(answer.body)
        open_to(answer, name)


ANSWERS = {
    "json": ("GET", "/api/models", 200),
    "head": ("HEAD", "/api/models", 200),
    "page": ("GET", "/", 200),
    "file": ("GET", "/app.js", 200),
    "health": ("GET", "/healthz", 200),
    "bad request": ("GET", "/api/conversations?limit=x", 400),
    "not found": ("GET", "/api/runs/run_x", 404),
    "no route": ("GET", "/api/nothing", 404),
    "method": ("PUT", "/api/models", 405),
    "options": ("OPTIONS", "/api/models", 405),
    "media": ("POST", "/api/chat", 415),
}


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS.values(), ids=ANSWERS)
async def test_every_answer_to_it_can_be_read_there(method: str, path: str, status: int, start: Any) -> None:
    running = await start(cors_origins=(APP,))
    answer = await running.send(method, path, origin(APP))

    assert answer.status == status
    open_to(answer, APP)


async def test_what_fails_inside_can_be_read_there_too(start: Any, caplog: Any, monkeypatch: Any) -> None:
    running = await start(cors_origins=(APP,))

    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(running.server.runs.store, "run", fail)
    answer = await running.send("GET", "/api/runs/run_x", origin(APP))

    problem(answer, 500, "internal")
    open_to(answer, APP)
    caplog.clear()


OTHERS = {
    "another": "https://evil.example",
    "another port": f"{APP}:8443",
    "another scheme": "http://app.example",
    "below it": "https://sub.app.example",
    "beginning as it": "https://app.example.evil.example",
    "ending as it": "https://evilapp.example",
    "with a slash": f"{APP}/",
    "in capitals": "https://APP.example",
    "the default port": f"{APP}:443",
    "null": "null",
    "none": "",
    "the wildcard": "*",
    "two": f"{APP} https://evil.example",
    "not UTF-8": b"https://app.example\xff",
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
async def test_other_origins_get_nothing(other: str | bytes, start: Any) -> None:
    running = await start(cors_origins=(APP,))
    told = [("Origin", other), *CROSS]

    for answer in (
        await running.post(BODY, *told),
        await running.send("GET", "/api/models", told),
        await running.send("OPTIONS", "/api/chat", [*told, ("Access-Control-Request-Method", "POST")]),
    ):
        problem(answer, 403, "forbidden")
        assert cors(answer) == {}
        assert names(answer.headers["Vary"]) == {"origin"}


async def test_a_page_that_says_no_origin_is_looked_at_as_before(start: Any) -> None:
    running = await start(cors_origins=(APP,))

    problem(await running.send("GET", "/api/models", CROSS), 403, "forbidden")
    assert cors(await running.send("GET", "/api/models")) == {}
    own = await running.send("GET", "/api/models", [("Origin", running.url), ("Sec-Fetch-Site", "same-origin")])
    assert (own.status, cors(own)) == (200, {})
    asked = [("Origin", running.url), ("Access-Control-Request-Method", "POST")]
    problem(await running.send("OPTIONS", "/api/chat", asked), 405, "bad_request")


async def test_the_host_is_looked_at_first(start: Any) -> None:
    running = await start(cors_origins=(APP,))
    rebound = [("Host", "evil.example"), *origin(APP)]

    problem(await running.post(BODY, *rebound), 421, "forbidden")
    preflight = await running.send("OPTIONS", "/api/chat", [*rebound, ("Access-Control-Request-Method", "POST")])
    problem(preflight, 421, "forbidden")
    assert not {"allow-methods", "allow-headers"} & cors(preflight).keys()


async def test_a_body_must_still_say_that_it_is_json(start: Any) -> None:
    running = await start(cors_origins=(APP,))
    told = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY))), *origin(APP)]

    problem(await running.send("POST", "/api/chat", told, [BODY]), 415, "bad_request")


# --- preflights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ASKED)
async def test_a_preflight_is_answered_without_a_token_for_what_the_clients_send(asked: str, start: Any) -> None:
    running = await start(token=TOKEN, cors_origins=(APP,))
    headers = [*origin(APP), ("Access-Control-Request-Method", "POST")]
    headers += [("Access-Control-Request-Headers", asked)] if asked else []

    for path in ("/api/chat", "/ag-ui", "/ai-sdk/chat", "/v1/chat/completions"):
        answer = await running.send("OPTIONS", path, headers)
        assert (answer.status, answer.body) == (204, b"")
        told = cors(answer)
        assert told["allow-origin"] == APP and "allow-credentials" not in told
        assert {"get", "post", "patch", "delete"} <= names(told["allow-methods"])
        wanted = {"content-type", "authorization", "x-run-id", "last-event-id", "prefer"} | names(asked) - {""}
        assert names(told["allow-headers"]) == wanted
        assert int(told["max-age"]) > 0


async def test_a_preflight_asks_for_nothing_but_names(start: Any) -> None:
    running = await start(cors_origins=(APP,))
    asked = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "*, x-a;b=1, x-c: d")]
    answer = await running.send("OPTIONS", "/api/chat", [*origin(APP), *asked])

    assert answer.status == 204
    assert "*" not in cors(answer)["allow-headers"]


async def test_every_route_answers_preflights_in_any_application(start: Any, run_app: Any) -> None:
    app = web.Application()
    server = add_routes(app, Config(model="scripted:demo", token=TOKEN, cors_origins=(APP,)), prefix="/chat")
    client = Client(await run_app(app))
    asked = [*origin(APP), ("Access-Control-Request-Method", "POST")]

    for route in server.routes:
        path = "/chat" + route.path.replace("{path:", "{x:").split("{x:")[0].replace("{", "").replace("}", "")
        answer = await client.send("OPTIONS", path, asked)
        assert answer.status == 204, path
        assert cors(answer)["allow-origin"] == APP
    refused = await client.send("OPTIONS", "/chat/api/models", [*origin(APP), ("Authorization", f"Bearer {TOKEN}")])
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")
    await client.session.close()


# --- the token --------------------------------------------------------------------------------------------------------


async def test_a_page_elsewhere_shows_the_token_and_no_cookie_stands_for_it(start: Any) -> None:
    running = await start(token=TOKEN, cors_origins=(APP,))
    cookie = ("Cookie", f"{running.server.guard.cookie}={running.server.guard.session}")

    for shown, status in (([], 401), ([cookie], 401), ([("Authorization", f"Bearer {TOKEN}")], 200)):
        answer = await running.send("GET", "/api/models", [*origin(APP), *shown])
        assert answer.status == status
        open_to(answer, APP)
    own = [cookie, ("Origin", running.url), ("Sec-Fetch-Site", "same-origin")]
    assert (await running.send("GET", "/api/models", own)).status == 200


async def test_a_page_elsewhere_gets_no_session(start: Any) -> None:
    running = await start(token=TOKEN, cors_origins=(APP,))
    answer = await running.send("POST", "/api/session", [*origin(APP), ("Authorization", f"Bearer {TOKEN}")])

    assert "Bearer" in problem(answer, 403, "forbidden")
    assert "Set-Cookie" not in answer.headers
    open_to(answer, APP)


async def test_the_servers_own_origin_may_be_named_and_stays_its_own(start: Any, run_app: Any) -> None:
    # The port is known only once it runs: so by a name of its own.
    running = await start(token=TOKEN, allowed_hosts=("chat.example",), cors_origins=("https://chat.example",))
    told = [("Host", "chat.example"), ("Origin", "https://chat.example"), ("Sec-Fetch-Site", "same-origin")]
    cookie = ("Cookie", f"{running.server.guard.cookie}={running.server.guard.session}")

    assert (await running.send("GET", "/api/models", [*told, cookie])).status == 200
    beside = [("Host", "chat.example"), ("Origin", "https://chat.example"), ("Sec-Fetch-Site", "same-site"), cookie]
    assert (await running.send("GET", "/api/models", beside)).status == 401


def test_no_cors_is_no_option_of_the_application(write_script: Any) -> None:
    app = make_app(Server(Config(model=write_script({"text": "x"}))))

    assert "OPTIONS" not in {route.method for route in app.router.routes()}
