"""The page's files are served by name, and nothing else of the machine is."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chatstream.server import page
from chatstream.server.page import Page, find_file, strip

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
    *("/node_modules/marked/package.json", "/node_modules/marked/lib/marked.umd.js", "/node_modules/", "/node_modules"),
    *("/node_modules/marked/lib/marked.esm.js.map", "/node_modules/marked/lib/marked.esm.js/"),
    *("/node_modules/@speed-highlight/core/dist/", "/node_modules/@speed-highlight/core/dist/node/tokenize.js"),
    *("/node_modules/typescript/lib/typescript.js", "/node_modules/axe-core/axe.js", "/node_modules/../index.html"),
    *("/node_modules/marked/lib/%2e%2e/package.json", "/node_modules/.package-lock.json", "/lib/marked.js"),
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
    source = ROOT / "web" / (path[1:] or "index.html")
    assert answer.body == strip(source.read_bytes(), source.suffix)


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


GZIP = [("Accept-Encoding", "gzip, deflate, br, zstd")]
# What takes no gzip, or says nothing of it.
PLAIN = ["", "identity", "br", "gzip;q=0", "gzip; q=0.000, br", "x-gzip", "gzipped"]
TAKES = ["gzip", "GZIP", "br,gzip", "br;q=1, gzip;q=0.5", "gzip;q=0.01"]


@pytest.mark.parametrize("path", TYPES)
async def test_a_file_goes_out_zipped_to_whom_it_is_of_use(path: str, running: Any) -> None:
    plain = await running.send("GET", path)
    assert "Content-Encoding" not in plain.headers

    for taken in TAKES:
        zipped = await running.send("GET", path, [("Accept-Encoding", taken)])
        assert zipped.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(zipped.body) == plain.body
        assert zipped.headers["Content-Type"] == plain.headers["Content-Type"]
    for refused in PLAIN:
        assert (await running.send("GET", path, [("Accept-Encoding", refused)])).body == plain.body
    assert zipped.headers["ETag"] != plain.headers["ETag"]
    assert zipped.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"


async def test_what_a_browser_keeps_of_one_form_is_not_taken_for_the_other(running: Any) -> None:
    plain, zipped = await running.send("GET", "/app.js"), await running.send("GET", "/app.js", GZIP)
    known = [("If-None-Match", f'W/"other", W/{zipped.headers["ETag"]}')]

    again = await running.send("GET", "/app.js", GZIP + known)
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", zipped.headers["ETag"])
    assert again.headers["Vary"] == "Accept-Encoding"
    assert (await running.send("GET", "/app.js", known)).body == plain.body
    assert (await running.send("GET", "/app.js", [("If-None-Match", "*")])).status == 304
    for odd in ('"', "W/", ",,", "x" * 5000):
        assert (await running.send("GET", "/app.js", [("If-None-Match", odd)])).body == plain.body


async def test_a_part_of_a_file_is_not_to_be_had(running: Any) -> None:
    whole = await running.send("GET", "/app.js")

    answer = await running.send("GET", "/app.js", [("Range", "bytes=0-9")])

    assert (answer.status, answer.body) == (200, whole.body)
    assert "Accept-Ranges" not in answer.headers


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
    (highlight / "tokenize.js").write_text("core")
    (highlight / "index.js").write_text("more")
    (highlight / "languages/py.js").write_text("py")
    (highlight / "languages/py.d.ts").write_text("types")
    (folder / "index.html").write_text("beside")
    (folder / "package.json").write_text("{}")
    (folder / "secret.js").symlink_to(tmp_path / "nowhere.js")
    monkeypatch.setattr(page, "_PACKAGE", tmp_path / "chatstream")
    return folder


async def test_the_libraries_are_served_where_they_are_and_are_missing_where_not(web: Path, start: Any) -> None:
    running = await start()

    dist = "/node_modules/@speed-highlight/core/dist"
    assert (await running.send("GET", f"{dist}/tokenize.js")).body == b"core"
    assert (await running.send("GET", f"{dist}/languages/py.js")).body == b"py"
    for path in (f"{dist}/languages/py.d.ts", f"{dist}/index.js", "/node_modules/marked/lib/marked.esm.js"):
        problem(await running.send("GET", path), 404, "not_found")


async def test_a_file_that_is_edited_is_served_as_it_is_now(web: Path, start: Any) -> None:
    running = await start()
    page = web / "index.html"
    assert (await running.send("GET", "/")).body == b"beside"

    page.write_text("edited")
    first = await running.send("GET", "/", GZIP)
    page.write_text("chance")  # as long, and so a matter of its time alone
    os.utime(page, ns=(1, 1))
    second = await running.send("GET", "/", [*GZIP, ("If-None-Match", first.headers["ETag"])])

    assert [gzip.decompress(answer.body) for answer in (first, second)] == [b"edited", b"chance"]


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


# --- what is left out -------------------------------------------------------------------------------------------------

STRIPPED = {
    "/** What it is. */\n\n/**\n * @param {string} a\n */\nf(a)\n": "\n\n\n\n\nf(a)\n",
    "  // why\n  f() // and what\n\t//\n\tg()\n// end": "\nf() // and what\n\ng()\n",
    "/* a */ /* b */\nf()\n": "/* a */ /* b */\nf()\n",
    "const a = /** @type {A} */ (b)\n/** @type {C} */ (d)\n": "const a = (b)\n(d)\n",
    "f(/* a */ /** b */ (/** @param {string} a */ (a) => a))\n": "f(/* a */ /** b */ ((a) => a))\n",
    "/* a\n*/ f() /*\n*/\ng()\n/***/\n/**/\nh()": "/* a\n*/ f() /*\n*/\ng()\n\n\nh()",
    'a = "// no"\nb = `/* no */`\nc = /\\/\\*/\n': 'a = "// no"\nb = `/* no */`\nc = /\\/\\*/\n',
}


@pytest.mark.parametrize(("source", "served"), STRIPPED.items())
def test_lines_that_are_nothing_but_a_comment_become_empty_and_others_lose_their_indent(
    source: str, served: str
) -> None:
    assert strip(source.encode(), ".js").decode() == served
    assert strip(source.encode(), ".svg").decode() == source
    if "//" not in source:
        assert strip(source.encode(), ".css").decode() == served


def test_of_the_markup_only_comments_and_its_own_policy_are_left_out() -> None:
    policy = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
    source = f"<p>\n  <!-- a - b --\n -> -->\n{policy}\n<b><!-- c --></b>\n"

    assert strip(source.encode(), ".html") == b"<p>\n\n\n\n<b><!-- c --></b>\n"
    assert policy[:40] in (ROOT / "web/index.html").read_text()


# Node's own parser: the syntax tree says whether a program is another one, places and comments are no part of it.
PARSE = """
const { parse } = require("internal/deps/acorn/acorn/dist/acorn")
const { readFileSync } = require("fs")
const tree = (path) => {
  const program = parse(readFileSync(path, "utf8"), { ecmaVersion: "latest", sourceType: "module" })
  return JSON.stringify(program, (name, value) =>
    name === "start" || name === "end" ? undefined : typeof value === "bigint" ? `${value}n` : value)
}
const [before, after, ...names] = process.argv.slice(1)
console.log(names.filter((name) => tree(`${before}/${name}`) !== tree(`${after}/${name}`)).join(" ") || "none")
"""


async def test_what_is_served_of_a_script_is_the_same_program(running: Any, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    names = sorted(path.name for path in (ROOT / "web").glob("*.js"))
    for name in names:
        (tmp_path / name).write_bytes((await running.send("GET", f"/{name}")).body)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / names[0]).write_bytes((tmp_path / names[0]).read_bytes().replace(b'"', b'" ', 1))

    def differ(after: Path, *names: str) -> str:
        command = [node, "--expose-internals", "-e", PARSE, str(ROOT / "web"), str(after), *names]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    assert await asyncio.to_thread(differ, tmp_path, *names) == "none"
    assert await asyncio.to_thread(differ, tmp_path / "odd", names[0]) == names[0]
