"""The page's files are served by name, and nothing else of the machine is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatstream.server import page
from chatstream.server.page import Page, find_file

from .rig import ROOT, problem

TYPES = {
    "/": "text/html; charset=utf-8",
    "/index.html": "text/html; charset=utf-8",
    "/app.js": "text/javascript; charset=utf-8",
    "/style.css": "text/css; charset=utf-8",
    "/icon.svg": "image/svg+xml; charset=utf-8",
}
ELSEWHERE = [
    *("/../setup.cfg", "/%2e%2e/setup.cfg", "/..%2fsetup.cfg", "/%2e%2e%2fsetup.cfg", "/..\\setup.cfg", "/./app.js"),
    *("/setup.cfg", "/package.json", "/package-lock.json", "/jsconfig.json", "/etc/passwd", "//etc/passwd"),
    *("/node_modules/marked/package.json", "/node_modules/marked/lib/marked.esm.js", "/node_modules/"),
    *("/lib/", "/lib/speed-highlight/", "/lib/speed-highlight/../../app.js", "/lib/speed-highlight/../package.json"),
    *("/lib/speed-highlight/%2e%2e/package.json", "/lib/../index.html", "/lib/marked.js/..", "/lib/marked.js/"),
    *("/app.js/", "/app.js%00", "/app.js%00.html", "/app.js.map", "/APP.JS", "/app.js;x", "/.git/config", "/%2e"),
    *("/chatstream/config.py", "/../chatstream/config.py", "/~root", "/C:/", "/index.html%20"),
]


@pytest.fixture
async def running(start: Any) -> Any:
    return await start()


@pytest.mark.parametrize(("path", "kind"), TYPES.items())
async def test_a_file_has_its_type_and_is_asked_for_again(path: str, kind: str, running: Any) -> None:
    answer = await running.send("GET", path)

    assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.body == (ROOT / "web" / (path[1:] or "index.html")).read_bytes()


@pytest.mark.parametrize("path", ELSEWHERE)
async def test_no_path_leads_anywhere_else(path: str, running: Any) -> None:
    problem(await running.send("GET", path), 404, "not_found")


async def test_an_absolute_address_leads_nowhere_else_either(running: Any) -> None:
    problem(await running.send("GET", "http://localhost/../setup.cfg"), 404, "not_found")
    assert (await running.send("GET", "http://localhost/app.js")).status == 200


async def test_a_query_is_no_part_of_a_name(running: Any) -> None:
    assert (await running.send("GET", "/?a=../b")).status == 200


@pytest.mark.parametrize("path", TYPES)
async def test_a_file_that_is_there_already_is_not_sent_again(path: str, running: Any) -> None:
    first = await running.send("GET", path)
    again = await running.send("GET", path, [("If-None-Match", first.headers["ETag"])])
    other = await running.send("GET", path, [("If-None-Match", '"other"')])

    assert (again.status, again.body) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert other.status == 200


@pytest.mark.parametrize("path", [*TYPES, "/healthz", "/readyz", "/api/models"])
async def test_head_says_what_get_would(path: str, running: Any) -> None:
    head = await running.send("HEAD", path)
    got = await running.send("GET", path)

    assert head.status == got.status == 200
    for name in ("Content-Type", "Content-Length", "ETag", "Cache-Control"):
        assert head.headers.get(name) == got.headers.get(name)


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation of our own: `web` beside the package, with and without the libraries."""
    folder = tmp_path / "web"
    highlight = folder / "node_modules/@speed-highlight/core/dist"
    (highlight / "languages").mkdir(parents=True)
    (highlight / "index.js").write_text("core")
    (highlight / "languages/py.js").write_text("py")
    (highlight / "languages/py.d.ts").write_text("types")
    (folder / "index.html").write_text("beside")
    (folder / "package.json").write_text("{}")
    (folder / "secret.js").symlink_to(tmp_path / "nowhere.js")
    monkeypatch.setattr(page, "_PACKAGE", tmp_path / "chatstream")
    return folder


async def test_the_libraries_are_served_where_they_are_and_are_missing_where_not(web: Path, start: Any) -> None:
    running = await start()

    assert (await running.send("GET", "/lib/speed-highlight/index.js")).body == b"core"
    assert (await running.send("GET", "/lib/speed-highlight/languages/py.js")).body == b"py"
    problem(await running.send("GET", "/lib/speed-highlight/languages/py.d.ts"), 404, "not_found")
    problem(await running.send("GET", "/lib/marked.js"), 404, "not_found")


async def test_a_file_that_vanished_is_not_found(web: Path, start: Any) -> None:
    running = await start()
    (web / "index.html").unlink()

    problem(await running.send("GET", "/"), 404, "not_found")
    problem(await running.send("GET", "/secret.js"), 404, "not_found")


def test_a_page_inside_the_package_comes_before_the_one_beside_it(web: Path) -> None:
    assert find_file("web/index.html") == web / "index.html"
    inside = web.parent / "chatstream/web"
    inside.mkdir(parents=True)
    assert find_file("web/index.html") == web / "index.html"
    (inside / "index.html").write_text("inside")
    assert find_file("web/index.html") == inside / "index.html"


async def test_an_installation_without_a_page_serves_its_api(web: Path, start: Any) -> None:
    (web / "index.html").unlink()
    assert find_file("web/index.html") is None
    running = await start()

    problem(await running.send("GET", "/"), 404, "not_found")
    assert (await running.send("GET", "/api/models")).status == 200


def test_the_page_is_where_the_package_looks_for_it() -> None:
    assert find_file("web/index.html") is not None
    assert Page()
