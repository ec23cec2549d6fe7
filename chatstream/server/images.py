"""What an image must be to be sent on: checked before a run begins, where its sender can still be told.

Addresses are no images: nothing here is ever fetched. The limits are the narrowest of the APIs', so that an image which
was taken is one for every model (platform.claude.com/docs/en/build-with-claude/vision: 5 MB of base64 and 8000 x 8000
pixels an image, 32 MB a request; developers.openai.com/api/docs/guides/images-vision: 50 MB and 500 images a request).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .. import errors
from ..messages import Image, Message

MAX_DATA = 5 * 1024 * 1024  # characters of base64, which is what the API counts
MAX_SIDE = 8000
# With more than this in one request the API takes 2000 x 2000 pixels at most.
MAX_IMAGES = 20
_BEGINNINGS = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF87a": "GIF", b"GIF89a": "GIF"}


def check_images(body: dict[str, Any]) -> None:
    """Look at every image of a request whose shape was checked. Raises RequestError and TooLarge, which name it."""
    contents = [(f"messages[{at}].content", each["content"]) for at, each in enumerate(body.get("messages", ()))]
    for where, content in [*contents, ("message", body.get("message", ""))]:
        parts = () if isinstance(content, str) else content
        images = [(at, part) for at, part in enumerate(parts) if part["type"] == "image"]
        if len(images) > MAX_IMAGES:
            raise errors.TooLarge(f"{where}: there are {len(images)} images; a message takes {MAX_IMAGES} at most")
        for at, part in images:
            _check(f"{where}[{at}]", part["mediaType"], part["data"])


def check_read_images(messages: Iterable[Message]) -> None:
    """Look at every image of messages that were read from another wire, as `check_images` does."""
    for message in messages:
        images = [part for part in message.parts if isinstance(part, Image)]
        if len(images) > MAX_IMAGES:
            raise errors.TooLarge(f"messages: there are {len(images)} images; a message takes {MAX_IMAGES} at most")
        for image in images:
            _check("messages", image.media_type, image.data)


def _check(where: str, media_type: str, text: str) -> None:
    if len(text) > MAX_DATA:
        met = f"the image has {len(text) * 3 // 4} bytes"
        raise errors.TooLarge(f"{where}: {met}; one takes {MAX_DATA * 3 // 4} at most: make it smaller")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        hint = ", without an address or 'data:...;base64,' before it" if ":" in text[:30] else f" ({error})"
        raise errors.RequestError(f"{where}.data: must be the image's bytes in base64{hint}") from error
    says, kind = media_type.removeprefix("image/").upper(), _kind(data)
    if says != kind:
        raise errors.RequestError(f"{where}: says {media_type} and begins like {kind or 'no image that is taken'}")
    try:
        width, height = _SIZES[kind](data)
    except (IndexError, StopIteration, ValueError):
        width = height = 0
    if not (width and height):
        raise errors.RequestError(f"{where}: the {kind} is broken: it does not say its width and height")
    if max(width, height) > MAX_SIDE:
        met = f"the image has {width} x {height} pixels"
        raise errors.TooLarge(f"{where}: {met}; one takes {MAX_SIDE} x {MAX_SIDE} at most: make it smaller")


def _kind(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for beginning, kind in _BEGINNINGS.items() if data.startswith(beginning)), "")


def _number(data: bytes, at: int, length: int, order: Any = "little") -> int:
    if len(data) < at + length:
        raise IndexError(at)
    return int.from_bytes(data[at : at + length], order)


def _png(data: bytes) -> tuple[int, int]:
    """Read IHDR, which is always the first chunk (w3.org/TR/png-3, 11.2.1)."""
    return _number(data, 16, 4, "big"), _number(data, 20, 4, "big")


def _gif(data: bytes) -> tuple[int, int]:
    return _number(data, 6, 2), _number(data, 8, 2)


def _webp(data: bytes) -> tuple[int, int]:
    """Read the first chunk, of one of three kinds (RFC 9649, 2.5 to 2.7)."""
    match data[12:16]:
        case b"VP8X":
            return 1 + _number(data, 24, 3), 1 + _number(data, 27, 3)
        case b"VP8L":
            bits = _number(data, 21, 4)
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case _:
            return _number(data, 26, 2) & 0x3FFF, _number(data, 28, 2) & 0x3FFF


def _jpeg(data: bytes) -> tuple[int, int]:
    """Read the frame header, the first of the segments that has one (ITU-T T.81, B.2.2)."""
    at = next(at for marker, at in _segments(data) if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC))
    return _number(data, at + 5, 2, "big"), _number(data, at + 3, 2, "big")


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the marker of each segment in front of the picture, and where its length stands."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] == 0xFF:  # a marker may have any number of these in front of it
            at += 1
            continue
        yield data[at + 1], at + 2
        at += 2 + max(_number(data, at + 2, 2, "big"), 2)


_SIZES: dict[str, Callable[[bytes], tuple[int, int]]] = {"PNG": _png, "JPEG": _jpeg, "GIF": _gif, "WEBP": _webp}
