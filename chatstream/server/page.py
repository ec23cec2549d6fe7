"""The files of the page: `web/`, beside the package (a checkout, an editable install) or inside it (a wheel).

Only files that were there at the start are served, by name, so that no path leads anywhere else. The page's libraries
come from the npm registry and may be missing; the page then shows plain text and says why.

A third of the sources is for people: comments and the white space before a line. What goes out is made once, of each
version of a file: lines that are nothing but a comment become empty, others begin at their first letter and have no
types, so that the sources can explain themselves and the first load stays small, and all is zipped. Every line keeps
its number, for whoever looks for an error.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from .. import errors

_PACKAGE = Path(__file__).parents[1]
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
# The page's files in `web/`, and those of its libraries that it asks for, where `npm ci` puts them.
_SERVED = (
    *("*.html", "*.js", "*.css", "*.svg"),
    "node_modules/marked/lib/marked.esm.js",
    *("node_modules/@speed-highlight/core/dist/tokenize.js", "node_modules/@speed-highlight/core/dist/languages/*.js"),
    *("node_modules/temml/dist/temml.mjs", "node_modules/temml/dist/*.css", "node_modules/temml/dist/*.woff2"),
)
_BLOCK = rb"^[ \t]*/\*(?:[^*]|\*(?!/))*\*/[ \t]*$"
# What is nothing but a comment from the beginning of its first line to the end of its last.
_COMMENTS = {
    ".js": re.compile(rb"%b|^[ \t]*//.*$" % _BLOCK, re.MULTILINE),
    ".css": re.compile(_BLOCK, re.MULTILINE),
    ".html": re.compile(rb"^[ \t]*<!--(?:[^-]|-(?!->))*-->[ \t]*$", re.MULTILINE),
}
# What is left out besides: white space before a line, and the type of what follows.
_SMALL = re.compile(rb"^[ \t]+|/\*\* @[^\n]*?\*/ ?", re.MULTILINE)
# Ours is in a header, and says more: this one would forbid what --image-host allows.
_META_POLICY = re.compile(rb'<meta http-equiv="Content-Security-Policy"[^>]*>')
_TAKES_GZIP = re.compile(r"(?:^|[\s,])gzip(?![\w-])(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _File:
    """What is served of a file, as it was at `stamp`."""

    stamp: tuple[int, int]
    plain: bytes
    zipped: bytes
    tag: str


def find_file(name: str) -> Path | None:
    """Return a file that belongs to chatstream and is no module, None where the installation has none."""
    places = (_PACKAGE / name, _PACKAGE.parent / name)
    return next((place for place in places if place.is_file()), None)


class Page:
    """Serves the page's files."""

    def __init__(self) -> None:
        index = find_file("web/index.html")
        self._places = {} if index is None else _places(index.parent)
        self._files: dict[str, _File] = {}

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Return a file of the page, or the page itself where none is named."""
        name = request.match_info["path"] or "index.html"
        path = self._places.get(name)
        file = None if path is None else await self._read(name, path)
        if path is None or file is None:
            raise errors.NotFound(f"there is nothing at {request.path}")
        if request.method not in ("GET", "HEAD"):
            raise web.HTTPMethodNotAllowed(request.method, ("GET", "HEAD"))
        is_zipped = bool(_TAKES_GZIP.search(request.headers.get("Accept-Encoding", "")))
        tag = file.tag + ("-gzip" if is_zipped else "")
        headers = {"ETag": f'"{tag}"', "Vary": "Accept-Encoding", "Cache-Control": "no-cache"}
        if any(known.value in (tag, "*") for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = f"{_TYPES[path.suffix]}; charset=utf-8"
        if is_zipped:
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=file.zipped if is_zipped else file.plain, headers=headers)

    async def _read(self, name: str, path: Path) -> _File | None:
        """Return what is served of a file, which may have been edited meanwhile; None where it is gone."""
        try:
            stamp = _stamp(path)
            known = self._files.get(name)
            if known is None or known.stamp != stamp:
                known = self._files[name] = await asyncio.to_thread(_pack, name, path, stamp)
        except OSError:
            return None
        return known


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _places(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for pattern in _SERVED for path in folder.glob(pattern)}


def _pack(name: str, path: Path, stamp: tuple[int, int]) -> _File:
    plain = path.read_bytes()
    if not name.startswith("node_modules/"):
        plain = strip(plain, path.suffix)
    return _File(stamp, plain, gzip.compress(plain, mtime=0), hashlib.sha256(plain).hexdigest()[:16])


def strip(source: bytes, suffix: str) -> bytes:
    """Return a source of ours without its indents, its types and its comments, but for those behind code."""
    comments = _COMMENTS.get(suffix)
    if comments is None:
        return source
    source = _META_POLICY.sub(b"", source) if suffix == ".html" else source
    return _SMALL.sub(b"", comments.sub(lambda met: b"\n" * met[0].count(b"\n"), source))
