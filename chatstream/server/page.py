"""The files of the page: `web/`, beside the package (a checkout, an editable install) or inside it (a wheel).

Only files that were there at the start are served, by name, so that no path leads anywhere else. The page's libraries
come from the npm registry and may be missing; the page then shows plain text and says why.
"""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from .. import errors

_PACKAGE = Path(__file__).parents[1]
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
# Where the page asks for a library: where `npm ci` puts it.
_LIBRARIES = {
    "lib/marked.js": "node_modules/marked/lib/marked.esm.js",
    "lib/speed-highlight/": "node_modules/@speed-highlight/core/dist/",
}


def find_file(name: str) -> Path | None:
    """Return a file that belongs to chatstream and is no module, None where the installation has none."""
    places = (_PACKAGE / name, _PACKAGE.parent / name)
    return next((place for place in places if place.is_file()), None)


class Page:
    """Serves the page's files."""

    def __init__(self) -> None:
        index = find_file("web/index.html")
        self._files = {} if index is None else _files(index.parent)

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Return a file of the page, or the page itself where none is named."""
        path = self._files.get(request.match_info["path"] or "index.html")
        if path is None or not path.is_file():
            raise errors.NotFound(f"there is nothing at {request.path}")
        if request.method not in ("GET", "HEAD"):
            raise web.HTTPMethodNotAllowed(request.method, ("GET", "HEAD"))
        headers = {"Content-Type": f"{_TYPES[path.suffix]}; charset=utf-8", "Cache-Control": "no-cache"}
        return web.FileResponse(path, headers=headers)


def _files(folder: Path) -> dict[str, Path]:
    files = {path.name: path for path in folder.iterdir() if path.suffix in _TYPES}
    for name, place in _LIBRARIES.items():
        found = folder / place
        if found.is_file():
            files[name] = found
        elif found.is_dir():
            files |= {name + path.relative_to(found).as_posix(): path for path in found.rglob("*.js")}
    return files
