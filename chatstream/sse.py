"""Server-sent events, both ways: bytes to frames and frames to bytes.

The rules are those of the HTML standard, 9.2.6 (https://html.spec.whatwg.org/multipage/server-sent-events.html): UTF-8
with an optional byte order mark; lines end with CR, LF or CRLF; a blank line ends an event; a line that starts with a
colon is a comment; an event without data is dropped. Frames do not depend on how the bytes were cut on their way.

One thing goes beyond the standard: `Decoder.close` hands out an event whose blank line never came. The standard drops
it, but some providers leave the last blank line out.
"""

from __future__ import annotations

import re
from typing import NamedTuple

CONTENT_TYPE = "text/event-stream"
_BOM = b"\xef\xbb\xbf"


class Frame(NamedTuple):
    """One event: `data` is what its `data:` lines hold, joined by LF, as bytes that JSON parsers take at once."""

    data: bytes
    event: bytes = b"message"
    id: str = ""


# Nearly every event of a provider is a type, or none, and one line of data: reading these at once makes a delta a
# fifth cheaper (measured), and so does leaving out the constructor that NamedTuple makes in Python.
_TYPE = re.compile(rb"event: (.+)\n").fullmatch
_TYPES = {b"": b"message"}  # by the line, those that were met
_MOST_TYPES = 256
_new = tuple.__new__


class Decoder:
    """Cuts bytes into frames; `feed` takes them in any pieces.

    `last_id` and `retry` (milliseconds) are what the stream said last, for a client that reconnects.
    """

    __slots__ = ("_after_cr", "_begun", "_rest", "last_id", "retry")

    def __init__(self) -> None:
        self.last_id = ""
        self.retry: int | None = None
        self._rest: bytes | bytearray = b""
        # A chunk that ended in CR: its line is complete, and an LF that comes first in the next one belongs to it.
        self._after_cr = False
        # The mark is looked for once, when three bytes are there.
        self._begun = False

    @property
    def is_between(self) -> bool:
        """Whether what comes next begins an event: nothing is held back, and no line end may belong to what was."""
        return self._begun and not (self._rest or self._after_cr)

    def feed(self, chunk: bytes) -> list[Frame]:
        """Return the frames that `chunk` completes."""
        if self._after_cr or b"\r" in chunk:
            chunk = self._unify_line_ends(chunk)
        if self._rest or not self._begun:
            # Only what is new is searched, or a large event in small pieces would cost the square of its size.
            searched = max(len(self._rest) - 1, 0) if self._begun else 0
            self._rest = bytearray(self._rest) if isinstance(self._rest, bytes) else self._rest
            self._rest += chunk
            if not (self._begun or self._skip_mark(self._rest)) or self._rest.find(b"\n\n", searched) < 0:
                return []
            chunk = bytes(self._rest)
        blocks = chunk.split(b"\n\n")
        self._rest = blocks.pop()
        frames = []
        for block in blocks:
            line, found, data = block.partition(b"data: ")
            if (kind := _TYPES.get(line)) is not None and found and b"\n" not in data:
                frames.append(_new(Frame, (data, kind, self.last_id)))
            elif (frame := self._frame(block)) is not None:
                frames.append(frame)
                if len(line) < 80 and (usual := _TYPE(line)):
                    if len(_TYPES) > _MOST_TYPES:
                        _TYPES.clear()
                    _TYPES.update({b"": b"message", line: usual[1]})
        return frames

    def close(self) -> list[Frame]:
        """Return the event that stood unfinished when the stream ended, if it holds anything."""
        frame = self._frame(bytes(self._rest).removesuffix(b"\n")) if self._rest else None
        self._rest = b""
        return [frame] if frame is not None else []

    def _unify_line_ends(self, chunk: bytes) -> bytes:
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_cr = False
        if chunk:
            self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _skip_mark(self, begin: bytearray) -> bool:
        """Take the byte order mark away; False while too few bytes are there to tell."""
        if len(begin) < len(_BOM) and _BOM.startswith(begin):
            return False
        if begin.startswith(_BOM):
            del begin[: len(_BOM)]
        self._begun = True
        return True

    def _frame(self, block: bytes) -> Frame | None:
        event = b"message"
        data: bytes | None = None
        for line in block.split(b"\n"):
            name, _, value = line.partition(b":")
            if value.startswith(b" "):
                value = value[1:]
            if name == b"data":
                data = value if data is None else data + b"\n" + value
            elif name == b"event":
                event = value or b"message"
            elif name == b"id":
                if b"\0" not in value:
                    self.last_id = value.decode("utf-8", "replace")
            elif name == b"retry" and value.isdigit():
                self.retry = int(value)
        return None if data is None else Frame(data, event, self.last_id)


COMMENT = b":\n\n"


def encode(data: bytes | None, id: str, head: bytes = b"") -> bytes:
    """Return one event as bytes, its blank line included; `data` is one line, None for an id alone.

    `head` is what stands before, whole lines: the event's name where it has one.
    """
    if data is None:
        return b"%bid: %b\n\n" % (head, id.encode())
    return b"%bid: %b\ndata: %b\n\n" % (head, id.encode(), data)
