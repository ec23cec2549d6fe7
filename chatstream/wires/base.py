"""What the wires of other front ends share: a fold over the events of a run, and what their requests come to.

These front ends keep their conversations and send the whole of them with every question. So a run is told to them from
its first event on, again where they come back, and nothing that they send is believed but what the user says: a call
runs because the server asked about exactly that call, and with the arguments that it had then.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from urllib.parse import unquote_to_bytes

import orjson

from .. import sse
from ..errors import RequestError
from ..events import Event, RunFailed, RunFinished
from ..messages import IMAGE_TYPES, Image, Message, Part, Text, part_to_json

_dumps = orjson.dumps
INTERRUPTED = "The server stopped before this answer was whole. Ask again."
MAX_MESSAGES = 10_000  # in one request: checking one takes up to 0.3 ms (measured)


class Encoder:
    """Makes the frames of one run, which has to be told to it from its first event on.

    A subclass says in `tell` which JSON values an event makes. Where its frames are `numbered`, one is `n` as its event
    is, several are `n.1`, `n.2` and so on: so a cut between them loses nothing and no id occurs twice. `headers` are
    those of the response, `end` is what stands behind the last frame.
    """

    content_type: ClassVar[str] = sse.CONTENT_TYPE
    headers: ClassVar[Mapping[str, str]] = {}
    numbered: ClassVar[bool] = False
    end: ClassVar[bytes] = b""

    def tell(self, event: Event) -> Sequence[dict[str, Any]]:
        raise NotImplementedError

    def encode(self, number: int, event: Event, skip: int = 0) -> bytes:
        """Return the frames of event `number` as bytes, but for the first `skip` of them."""
        frames = self.tell(event)
        if not self.numbered:
            data = b"".join([b"data: " + _dumps(frame) + b"\n\n" for frame in frames])
        elif len(frames) == 1:
            data = b"" if skip else sse.encode(_dumps(frames[0]), str(number))
        else:
            pieces = [(f"{number}.{piece}", frame) for piece, frame in enumerate(frames, 1) if piece > skip]
            data = b"".join([sse.encode(_dumps(frame), id) for id, frame in pieces])
        return data + self.end if isinstance(event, (RunFinished, RunFailed)) else data


@dataclass(frozen=True, slots=True)
class Said:
    """What a request says of a call that may wait for it, `kind` and `text` as in `conversations.Decision`.

    `run_id` is the run that asked, where the client was told it; `name` and `input` are what the client believes was
    asked, where it says so.
    """

    call_id: str
    kind: Literal["approve", "deny", "result"]
    text: str = ""
    is_error: bool = False
    run_id: str = ""
    name: str = ""
    input: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request comes to: a history that ends with a question, or with what is `said` of calls that wait.

    `options` are those of a native request: model, maxOutputTokens, temperature, effort, and as `tools` the caller's
    own.
    """

    messages: list[Message]
    options: dict[str, Any] = field(default_factory=dict)
    said: tuple[Said, ...] = ()


def pair_id(run_id: str, call_id: str) -> str:
    """Return the id by which a client speaks of a call of ours, so that it comes back with the run that asked."""
    return f"{run_id}.{call_id}"


def split_id(id: str) -> tuple[str, str]:
    """Return the run, "" where the id names none, and the call."""
    run_id, dot, call_id = id.partition(".")
    return (run_id, call_id) if dot and run_id.startswith("run_") else ("", id)


# --- what requests hold in common -------------------------------------------------------------------------------------


def read_tool(where: str, name: str, description: str | None, parameters: dict[str, Any] | None) -> dict[str, Any]:
    """Return one of the caller's own tools as `options` have it; clients leave out what says nothing."""
    schema = {"type": "object"} | (parameters or {})
    if schema["type"] != "object":
        raise RequestError(f"{where}: the type of its parameters is {schema['type']!r}; expected 'object'")
    return {"name": name, "description": description or "", "parameters": schema}


def read_file(where: str, url: str, media_type: str = "", name: str = "") -> Part:
    """Return the file in a `data:` address: an Image, or the Text of a text file with its name in front.

    Raises RequestError for another kind of file, and for any other address: the server fetches nothing.
    """
    if not url.startswith("data:"):
        raise RequestError(f"{where}: {url[:100]!r} is an address, and this server fetches none; send a data: URL")
    head, _, data = url.removeprefix("data:").partition(",")
    is_base64 = head.endswith(";base64")
    kind = (head.removesuffix(";base64").partition(";")[0] or media_type.partition(";")[0]).strip().lower()
    kind = {"image/jpg": "image/jpeg"}.get(kind, kind)  # as some call it
    if kind in IMAGE_TYPES and is_base64:
        return Image(kind, data)
    if not kind.startswith("text/"):
        raise RequestError(f"{where}: met a file of {kind or 'no'} type; expected text/* or {', '.join(IMAGE_TYPES)}")
    try:
        told = base64.b64decode(data, validate=True) if is_base64 else unquote_to_bytes(data)
        return Text(f"{name}:\n{told.decode()}" if name else told.decode())
    except (binascii.Error, UnicodeDecodeError) as error:
        raise RequestError(f"{where}: the text cannot be read ({error}); expected UTF-8") from error


_PACKED = {"signature": str, "redacted": str, "origin": str, "field": str, "arguments": str, "extra": dict}


def pack(part: Part) -> dict[str, Any]:
    """Return what of a part has to come back byte for byte and has no place in another front end's form of it."""
    return {name: value for name, value in part_to_json(part).items() if name in _PACKED}


def unpack(value: object, *names: str) -> dict[str, Any]:
    """Return the members of these names that `pack` gave, without what is malformed: a client may send anything."""
    known = value if isinstance(value, dict) else {}
    given = {name: known[name] for name in names if isinstance(known.get(name), _PACKED[name])}
    if given.get("field", "") not in ("", "reasoning_content", "reasoning"):
        del given["field"]
    return given
