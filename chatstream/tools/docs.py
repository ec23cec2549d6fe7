"""`search_docs`: full-text search in a folder of text and Markdown, with SQLite's FTS5 (https://sqlite.org/fts5.html).

Files are cut into sections, by their headings and then by length. The index is in memory, is built at the first
search, and again when a file has come, gone or changed.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import threading
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ToolError
from .base import Tool, tool

SUFFIXES = {".txt", ".md", ".markdown", ".rst"}
MAX_FILES = 5000
MAX_BYTES = 2_000_000  # of one file; a larger one is skipped
SECTION = 1200  # characters
MAX_RESULTS = 6
MAX_TERMS = 32


def make_search_docs(folder: Path) -> Tool:
    """Return the tool that searches `folder`, or the one file that it is."""
    index = Index(folder)

    @tool(read_only=True)
    def search_docs(query: str) -> list[dict[str, Any]] | str:
        """Search the documents of this server; the best sections come first, each with its file, heading and line.

        Args:
            query: The words to look for. A section need not have all of them.
        """
        return index.search(query)

    return search_docs


class Section(NamedTuple):
    """`line` is that of its first line in the file, from 1."""

    heading: str
    line: int
    text: str


# --- sections ---------------------------------------------------------------------------------------------------------

_ATX = re.compile(r"#{1,6}\s+(.+?)[\s#]*")
_UNDERLINE = re.compile(r"([=\-~^\"'`*+#.:_])\1{2,}\s*")  # Markdown's setext headings and all of reStructuredText's
_FENCE = re.compile(r"\s*(```|~~~)")


def cut_sections(text: str) -> Iterator[Section]:
    """Cut a document at its headings, and where a section would exceed `SECTION` characters."""
    held: list[str] = []
    heading, start, size = "", 1, 0
    for number, line, title in _lines(text):
        if title or size + len(line) > SECTION:
            if any(map(str.strip, held)):
                yield Section(heading, start, "\n".join(held).strip())
            heading, start, held, size = title or heading, number, [], 0
        held.append(line)
        size += len(line) + 1
    if any(map(str.strip, held)):
        yield Section(heading, start, "\n".join(held).strip())


def _lines(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield each line with its number and, where it is a heading, its title; a very long line comes in pieces."""
    fenced = False
    before = ""
    for number, (line, after) in enumerate(pairwise([*text.splitlines(), ""]), 1):
        fenced ^= bool(_FENCE.match(line))
        title = "" if fenced else _title(before.strip(), line.strip(), after.strip())
        for start in range(0, max(len(line), 1), SECTION):
            yield number, line[start : start + SECTION], "" if start else title
        before = line


def _title(before: str, line: str, after: str) -> str:
    """Return the title in `line`, or "" where it is no heading; the lines around it tell."""
    if found := _ATX.fullmatch(line):
        return found[1]
    is_underlined = _UNDERLINE.fullmatch(after) and not _UNDERLINE.fullmatch(line)
    return line if is_underlined and before in ("", after) else ""


# --- index ------------------------------------------------------------------------------------------------------------

_CREATE = """CREATE VIRTUAL TABLE sections
    USING fts5(heading, text, file UNINDEXED, line UNINDEXED, tokenize = 'porter unicode61 remove_diacritics 2')"""
_SEARCH = """SELECT file, heading, line, snippet(sections, 1, '', '', ' ... ', 60) AS snippet
    FROM sections WHERE sections MATCH ? ORDER BY bm25(sections, 3.0, 1.0) LIMIT ?"""

File = tuple[Path, int, int]  # its modification time in ns and its size in bytes tell whether it has changed


class Index:
    """The sections of all documents, for searches from any thread."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._files: list[File] = []
        self._database = _build(root, [])

    def search(self, query: str) -> list[dict[str, Any]] | str:
        """Return `[{"file", "heading", "line", "snippet"}]`, or a sentence where nothing is found."""
        terms = re.findall(r"[^\W_]+", query)[:MAX_TERMS]
        if not terms:
            raise ToolError("the query has no word in it; give the words to look for")
        with self._lock:
            files = list_files(self._root)
            if files != self._files:
                self._database = _build(self._root, files)
                self._files = files
            # Each term is quoted: nothing in a query is FTS5 syntax.
            match = " OR ".join(f'"{term}"' for term in terms)
            rows = self._database.execute(_SEARCH, (match, MAX_RESULTS)).fetchall()
        found = [dict(zip(("file", "heading", "line", "snippet"), row, strict=True)) for row in rows]
        return found or f"None of the {len(files)} documents has any of the words: {' '.join(terms)}"


def _build(root: Path, files: list[File]) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", check_same_thread=False)  # the index has a lock
    database.execute(_CREATE)
    for path, _, _ in files:
        try:
            text = path.read_bytes().decode("utf-8-sig", "replace")
        except OSError:
            continue  # it has gone, or is not ours to read
        name = os.fsencode(path.relative_to(root) if path != root else path.name).decode("utf-8", "replace")
        rows = ((heading, body, name, line) for heading, line, body in cut_sections(text))
        database.executemany("INSERT INTO sections (heading, text, file, line) VALUES (?, ?, ?, ?)", rows)
    return database


def list_files(root: Path) -> list[File]:
    """Return the documents below `root` in the order of their paths; ToolError where there is no `root`.

    Hidden files, those above `MAX_BYTES`, those after the first `MAX_FILES` and links that lead out of it are left out.
    """
    if not root.exists():
        raise ToolError("the documents of this server are not there; do without them")
    files = []
    for path in islice(_walk(root), MAX_FILES):
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES:
            files.append((path, status.st_mtime_ns, status.st_size))
    return files


def _walk(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    inside = root.resolve()
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(folder, name) for name in sorted(names) if not name.startswith(".")):
            if path.suffix.lower() in SUFFIXES and path.exists() and path.resolve().is_relative_to(inside):
                yield path
