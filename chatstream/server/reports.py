"""Takes what browsers report of broken rules of the page's policy, and puts it into the log.

Both forms are taken: what `report-uri` sends (https://www.w3.org/TR/CSP3/#deprecated-serialize-violation) and what the
Reporting API does (https://www.w3.org/TR/reporting-1/#media-type). Anybody who reaches the page may send one, so it is
small, a line of the log at most, and rare; of addresses only what is no secret is told, and no word of a chat.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from .. import errors
from .bodies import read_bytes

log = logging.getLogger("chatstream.server")

LARGEST = 16 * 1024  # bytes of one request
MOST = 20  # lines of the log in a minute
_MINUTE = 60.0
_TYPES = ("application/csp-report", "application/reports+json")
# The names of a member in either form.
_RULE, _BLOCKED = ("effective-directive", "violated-directive", "effectiveDirective"), ("blocked-uri", "blockedURL")
_PAGE, _SOURCE = ("document-uri", "documentURL"), ("source-file", "sourceFile")
_LINE, _COLUMN = ("line-number", "lineNumber"), ("column-number", "columnNumber")


class Reports:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._count = 0

    async def take(self, request: web.Request) -> web.Response:
        """Take a report of a broken rule of the page's policy, for the log."""
        if request.content_type not in _TYPES:
            raise errors.UnsupportedMedia(f"Content-Type must be {' or '.join(_TYPES)}")
        for report in _read(await read_bytes(request, LARGEST)):
            self.note(report)
        return web.Response(status=204)

    def note(self, report: dict[str, Any]) -> None:
        """Put a report into the log, if this minute has had few."""
        now = self._clock()
        if now - self._began >= _MINUTE:
            if self._count > MOST:
                log.warning("%d more reports of the page's policy were left out", self._count - MOST)
            self._began, self._count = now, 0
        self._count += 1
        if self._count <= MOST:
            log.warning("the page's policy was broken: %s", _tell(report))


def _read(data: bytes) -> list[dict[str, Any]]:
    try:
        value = orjson.loads(data)
    except ValueError as error:
        raise errors.RequestError(f"the body is not valid JSON: {error}") from error
    reports = value if isinstance(value, list) else [value]
    found = [report.get("csp-report", report.get("body")) for report in reports if isinstance(report, dict)]
    return [report for report in found if isinstance(report, dict)]


def _tell(report: dict[str, Any]) -> str:
    """Return one line: `img-src blocked https://evil.example on http://localhost:8000/ at .../view.js:10:2`."""
    blocked, page = _text(report, _BLOCKED), _text(report, _PAGE)
    line = f"{_plain(_text(report, _RULE))} blocked {_plain(_origin(blocked))} on {_plain(_place(page))}"
    source = _text(report, _SOURCE)
    if not source:
        return line
    return f"{line} at {_plain(_place(source))}:{_number(report, _LINE)}:{_number(report, _COLUMN)}"


def _text(report: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((value for name in names if isinstance(value := report.get(name), str)), "")


def _number(report: dict[str, Any], names: tuple[str, ...]) -> int:
    return next((value for name in names if isinstance(value := report.get(name), int)), 0)


def _origin(address: str) -> str:
    """Return the origin of an address; a word that stands for one, such as inline, is left as it is."""
    scheme, separator, rest = address.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    return scheme.partition(":")[0] + separator + host


def _place(address: str) -> str:
    """Return the origin and the path of an address."""
    scheme, separator, rest = address.partition("://")
    host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    return _origin(f"{scheme}{separator}{host}") + slash + path


def _plain(text: str) -> str:
    """Return what fits into a line of the log, whoever wrote it."""
    return re.sub(r"[^!-~]", "?", text)[:200]
