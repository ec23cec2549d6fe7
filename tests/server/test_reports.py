"""What breaks the page's policy comes to the log: in one line, with no secret, and not too often."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from aiohttp import web

from chatstream.config import Config
from chatstream.server import add_routes
from chatstream.server.reports import LARGEST, MOST, Reports

from .rig import Client, problem

PATH = "/api/csp-reports"
PAGE = "http://u:p@localhost:8000/chat/?server=x#token=secret"
OLD = {
    "document-uri": PAGE,
    "violated-directive": "img-src",
    "effective-directive": "img-src",
    "blocked-uri": "https://user:secret@evil.example:81/leak/secret?secret#secret",
    "source-file": "http://localhost:8000/chat/view.js?secret",
    "line-number": 10,
    "column-number": 2,
    "script-sample": "a secret word of a chat",
    "original-policy": "img-src 'self'",
}
NEW = {
    "documentURL": PAGE,
    "effectiveDirective": "img-src",
    "blockedURL": OLD["blocked-uri"],
    "sourceFile": OLD["source-file"],
    "lineNumber": 10,
    "columnNumber": 2,
    "sample": "a secret word of a chat",
}
LINE = (
    "the page's policy was broken: img-src blocked https://evil.example:81 on http://localhost:8000/chat/ "
    "at http://localhost:8000/chat/view.js:10:2"
)
FORMS = {
    "application/csp-report": {"csp-report": OLD},
    "application/reports+json": [{"type": "csp-violation", "age": 1, "url": PAGE, "body": NEW}],
}


async def report(client: Client, body: Any, kind: str = "application/csp-report", path: str = PATH) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.send("POST", path, [("Content-Type", kind), ("Content-Length", str(len(data)))], [data])


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("kind", FORMS)
async def test_a_report_is_one_line_without_secrets(kind: str, start: Any, caplog: pytest.LogCaptureFixture) -> None:
    running = await start(token="a-token-of-the-test")

    answer = await report(running, FORMS[kind], kind)

    assert (answer.status, answer.body) == (204, b"")
    assert told(caplog) == [LINE]


async def test_the_policy_names_the_place_wherever_the_page_is_mounted(
    run_app: Any, stack: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = web.Application()
    add_routes(app, Config(model="scripted:demo", token="a-token-of-the-test"), prefix="/deep/chat")
    client = Client(await run_app(app))
    stack.push_async_callback(client.session.close)

    page = await client.send("GET", "/deep/chat/")

    assert page.headers["Content-Security-Policy"].endswith(f"report-uri {PATH[1:]}")
    assert (await report(client, {"csp-report": OLD}, path=f"/deep/chat{PATH}")).status == 204
    assert told(caplog) == [LINE]


ODD: dict[str, Any] = {
    "nothing told": {"csp-report": {}},
    "a line break": {
        "csp-report": {**OLD, "blocked-uri": "inline\r\nINFO all is well", "source-file": "\u2028\x1b[31m"}
    },
    "other types": {"csp-report": {"document-uri": 1, "blocked-uri": None, "line-number": "x", "source-file": ["a"]}},
    "very long": {"csp-report": {**OLD, "document-uri": "x" * 9000, "source-file": "http://" + "é/" * 900}},
    "not addresses": {"csp-report": {"blocked-uri": "://@/?#", "document-uri": "?#://", "source-file": "[::"}},
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
async def test_whatever_is_in_it_stays_one_short_line(body: Any, start: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert (await report(await start(), body)).status == 204
    (line,) = told(caplog)
    assert line.isascii() and line.isprintable() and len(line) < 1000


NOTHING = [{}, [], [1, None, {"body": 1}], {"csp-report": "x"}, "x", 1, None]


@pytest.mark.parametrize("body", NOTHING, ids=map(str, NOTHING))
async def test_what_reports_nothing_is_taken_and_not_told(
    body: Any, start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await report(await start(), body)).status == 204
    assert told(caplog) == []


async def test_what_is_no_report_is_refused(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    running = await start()
    evil = [("Origin", "https://evil.example"), ("Content-Type", "application/csp-report"), ("Content-Length", "0")]

    problem(await report(running, {"csp-report": OLD}, "application/json"), 415, "bad_request")
    problem(await report(running, b"{"), 400, "bad_request")
    problem(await report(running, b"[" * 9000), 400, "bad_request")
    problem(await report(running, b'"%b"' % (b"x" * LARGEST)), 413, "too_large")
    problem(await running.send("POST", PATH, evil), 403, "forbidden")
    assert told(caplog) == []


async def test_a_flood_is_cut_off_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    reports = Reports(clock=lambda: now)

    for _ in range(MOST + 30):
        reports.note({"effective-directive": "img-src"})
    assert len(told(caplog)) == MOST
    now = 60.0
    reports.note({"effective-directive": "font-src"})

    *_, left_out, last = told(caplog)
    assert left_out == "30 more reports of the page's policy were left out"
    assert last.startswith("the page's policy was broken: font-src")


async def test_images_come_only_from_hosts_that_the_operator_named(start: Any) -> None:
    hosts = ("images.example", "localhost:9000")
    running, other = await start(image_hosts=hosts), await start()

    assert (await running.get("/api/models"))["imageHosts"] == list(hosts)
    assert (await other.get("/api/models"))["imageHosts"] == []
    for server, added in ((running, " images.example localhost:9000"), (other, "")):
        policy = (await server.send("GET", "/")).headers["Content-Security-Policy"]
        assert f"; img-src 'self' data: blob:{added}; " in policy
