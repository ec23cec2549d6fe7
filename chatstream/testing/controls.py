"""What happens to a turn's body on its way: pure functions of its bytes and of the turn's controls."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from .streams import Turn

EOLS = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}
_LONGEST_RANDOM = 24


def rewrite(body: bytes, turn: Turn) -> bytes:
    """Return the body with its `bad_json`, `comment`, `eol` and `bom` done."""
    if turn.bad_json:
        payloads = list(re.finditer(rb"(?m)^data: ?([^\r\n]*)", body))
        if turn.bad_json <= len(payloads):
            start, end = payloads[turn.bad_json - 1].span(1)
            body = body[: start + max(1, (end - start) // 2)] + body[end:]
    if turn.comment:
        events = enumerate(split_events(body), 1)
        body = b"".join((b"" if number % turn.comment else b": keep-alive\n\n") + event for number, event in events)
    if turn.eol:
        body = EOLS[turn.eol].join(re.split(rb"\r\n|\r|\n", body))
    return b"\xef\xbb\xbf" + body if turn.bom else body


def split_events(body: bytes) -> list[bytes]:
    """Return the body cut behind each blank line."""
    return [event for event in re.split(rb"(?<=\n\n)|(?<=\r\n\r\n)|(?<=\r\r)", body) if event]


def steps(body: bytes, turn: Turn) -> Iterator[bytes | None]:
    """Yield what is written one by one, up to the turn's `drop` or `end`; None stands where it stalls."""
    body = rewrite(body, turn)
    body = body[: min(at for at in (turn.drop, turn.end, len(body)) if at is not None)]
    left = turn.stall
    for piece in _pieces(body, turn):
        if left is not None and left < len(piece):
            yield from (piece[:left], None)
            piece, left = piece[left:], None
        elif left is not None:
            left -= len(piece)
        yield piece
    if left is not None:
        yield None


def _pieces(body: bytes, turn: Turn) -> Iterator[bytes]:
    if turn.write == "event":
        yield from split_events(body)
        return
    lengths = random.Random(turn.seed)
    while body:
        size = lengths.randint(1, _LONGEST_RANDOM) if turn.write == "random" else int(turn.write) or len(body)
        yield body[:size]
        body = body[size:]
