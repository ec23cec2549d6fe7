"""Written turns as the bytes that each API would send: what the adapters in `providers` read, from the other side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self

INPUT_TOKENS, CACHED_TOKENS = 20, 5


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of a written turn; `arguments` given as text goes out as it stands, valid JSON or not."""

    name: str
    arguments: dict[str, Any] | str
    id: str = ""

    @property
    def text(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the model says in one response, and what goes wrong on its way.

    `finish` is the API's own word for why it stopped, by default the one that fits. Texts go out in deltas of `chunk`
    characters. `raw` is a whole body that stands in place of all this; `from_file` reads a recorded one.

    `status` other than 200 is answered at once, in the words of `error`, with `retry_after` seconds where given: as
    this turn, or with `times` that many times before the turn is played. `first` and `delay` are the seconds before the
    first write and between two, of `write` bytes each (0: all at once), of one "event", or of "random" lengths that
    `seed` decides. After so many bytes of the body `drop` aborts the connection, `end` ends the body as if it were
    whole, and `stall` goes silent: for `stall_for` seconds, or until the client leaves. `bad_json` cuts that data line
    in half, counted from 1; `comment` puts a comment before every so many events; `eol` rewrites the line ends (lf,
    crlf, cr); `bom` begins the body with a byte order mark.
    """

    text: str = ""
    reasoning: str = ""
    signature: str = "c2lnbmF0dXJl"
    redacted: str = ""
    tools: Sequence[Call] = ()
    finish: str = ""
    chunk: int = 8
    raw: bytes | None = None
    status: int = 200
    times: int = 0
    error: str = "a fault that was asked for"
    retry_after: float | None = None
    first: float = 0.0
    delay: float = 0.0
    write: int | Literal["event", "random"] = 0
    seed: int = 0
    drop: int | None = None
    end: int | None = None
    stall: int | None = None
    stall_for: float | None = None
    bad_json: int = 0
    comment: int = 0
    eol: Literal["", "lf", "crlf", "cr"] = ""
    bom: bool = False

    def __post_init__(self) -> None:
        said = [name for name in ("text", "reasoning", "redacted", "tools", "finish") if getattr(self, name)]
        if self.raw is not None and said:
            raise ValueError(f"raw is the whole body, so {', '.join(said)} would never be said")
        if strange := [call for call in self.tools if not isinstance(call, Call)]:
            raise TypeError(f"a tool call is Call(name, arguments), and not {strange[0]!r}")
        if self.chunk < 1:
            raise ValueError(f"chunk is 1 character or more, and not {self.chunk}")
        if self.write not in ("event", "random") and not (isinstance(self.write, int) and self.write >= 0):
            raise ValueError(f"write is a number of bytes, 'event' or 'random', and not {self.write!r}")
        if self.eol not in ("", "lf", "crlf", "cr"):
            raise ValueError(f"eol is 'lf', 'crlf' or 'cr', and not {self.eol!r}")
        if self.drop is not None and self.end is not None:
            raise ValueError("a body is dropped or ended, not both")
        if self.times and self.status == 200:
            raise ValueError("times says how often another status is answered: give that status")

    @classmethod
    def from_file(cls, path: str | PathLike[str], **controls: Any) -> Self:
        """Return a turn whose body is that of a recorded stream."""
        return cls(raw=Path(path).read_bytes(), **controls)

    @property
    def output_tokens(self) -> int:
        return len(self.text.split()) + len(self.reasoning.split()) + 10 * len(self.tools)


def _pieces(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


# --- Messages ---------------------------------------------------------------------------------------------------------


def messages_stream(turn: Turn, number: int = 0) -> bytes:
    """Return the turn as a stream of the Messages API; `number` makes ids that were not given unique."""
    usage = {"input_tokens": INPUT_TOKENS, "cache_read_input_tokens": CACHED_TOKENS, "output_tokens": 1}
    message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "content": [], "usage": usage}
    values: list[dict[str, Any]] = [{"type": "message_start", "message": message}, {"type": "ping"}]
    for index, (block, deltas) in enumerate(_blocks(turn, number)):
        values.append({"type": "content_block_start", "index": index, "content_block": block})
        values += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        values.append({"type": "content_block_stop", "index": index})
    stop = turn.finish or ("tool_use" if turn.tools else "end_turn")
    delta = {"stop_reason": stop, "stop_sequence": None}
    values += [
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": turn.output_tokens}},
        {"type": "message_stop"},
    ]
    return b"".join(f"event: {value['type']}\ndata: {json.dumps(value)}\n\n".encode() for value in values)


def _blocks(turn: Turn, number: int) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield each content block's start and its deltas."""
    if turn.reasoning:
        thought = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(turn.reasoning, turn.chunk)]
        signed = {"type": "signature_delta", "signature": turn.signature}
        yield {"type": "thinking", "thinking": "", "signature": ""}, [*thought, signed]
    if turn.redacted:
        yield {"type": "redacted_thinking", "data": turn.redacted}, []
    if turn.text:
        yield (
            {"type": "text", "text": ""},
            [{"type": "text_delta", "text": piece} for piece in _pieces(turn.text, turn.chunk)],
        )
    for index, call in enumerate(turn.tools):
        start = {"type": "tool_use", "id": call.id or f"toolu_{number}_{index}", "name": call.name, "input": {}}
        pieces = ["", *_pieces(call.text, turn.chunk)]
        yield start, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


# --- Chat Completions -------------------------------------------------------------------------------------------------


def chat_stream(turn: Turn, number: int = 0) -> bytes:
    """Return the turn as a stream of chat completion chunks."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": piece} for piece in _pieces(turn.reasoning, turn.chunk)]
    deltas += [{"content": piece} for piece in _pieces(turn.text, turn.chunk)]
    for index, call in enumerate(turn.tools):
        function = {"name": call.name, "arguments": ""}
        start = {"index": index, "id": call.id or f"call_{number}_{index}", "type": "function", "function": function}
        deltas.append({"tool_calls": [start]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in _pieces(call.text, turn.chunk)
        ]
    finish = turn.finish or ("tool_calls" if turn.tools else "stop")
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    usage = {
        "prompt_tokens": INPUT_TOKENS + CACHED_TOKENS,
        "completion_tokens": turn.output_tokens,
        "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
    }
    chunks.append({"choices": [], "usage": usage})
    head = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "model": "fake"}
    return b"".join(f"data: {json.dumps(head | chunk)}\n\n".encode() for chunk in chunks) + b"data: [DONE]\n\n"


# --- Responses --------------------------------------------------------------------------------------------------------


def responses_stream(turn: Turn, number: int = 0) -> bytes:
    """Return the turn as a stream of the Responses API; its reasoning is a summary, encrypted in `signature`."""
    response: dict[str, Any] = {"id": f"resp_{number}", "object": "response", "status": "in_progress", "output": []}
    values: list[dict[str, Any]] = [{"type": "response.created", "response": dict(response)}]
    for index, (item, begun, deltas) in enumerate(_items(turn, number)):
        place = {"item_id": item["id"], "output_index": index}
        values.append({"type": "response.output_item.added", "output_index": index, "item": item | begun})
        values += [place | delta for delta in deltas]
        values.append({"type": "response.output_item.done", "output_index": index, "item": item})
        response["output"] = [*response["output"], item]
    status, _, why = (turn.finish or "completed").partition(":")
    usage = {
        "input_tokens": INPUT_TOKENS + CACHED_TOKENS,
        "input_tokens_details": {"cached_tokens": CACHED_TOKENS},
        "output_tokens": turn.output_tokens,
    }
    ended = {"status": status, "incomplete_details": {"reason": why} if why else None, "usage": usage}
    values.append({"type": f"response.{status}", "response": response | ended})
    return b"".join(
        f"event: {value['type']}\ndata: {json.dumps(value | {'sequence_number': at})}\n\n".encode()
        for at, value in enumerate(values)
    )


def _items(turn: Turn, number: int) -> Iterator[tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]]:
    """Yield each output item as it is at its end, what of it is otherwise at its beginning, and its deltas."""
    if turn.reasoning:
        summary = [{"type": "summary_text", "text": turn.reasoning}]
        item = {"type": "reasoning", "id": f"rs_{number}", "summary": summary, "encrypted_content": turn.signature}
        kind = {"type": "response.reasoning_summary_text.delta", "summary_index": 0}
        yield item, {"summary": []}, [kind | {"delta": piece} for piece in _pieces(turn.reasoning, turn.chunk)]
    if turn.text:
        content = [{"type": "output_text", "text": turn.text, "annotations": []}]
        item = {"type": "message", "id": f"msg_{number}", "role": "assistant", "content": content}
        kind = {"type": "response.output_text.delta", "content_index": 0}
        yield item, {"content": []}, [kind | {"delta": piece} for piece in _pieces(turn.text, turn.chunk)]
    for index, call in enumerate(turn.tools):
        call_id = call.id or f"call_{number}_{index}"
        item = {"type": "function_call", "id": f"fc_{number}_{index}", "call_id": call_id, "name": call.name}
        kind = {"type": "response.function_call_arguments.delta"}
        deltas = [kind | {"delta": piece} for piece in _pieces(call.text, turn.chunk)]
        yield item | {"arguments": call.text}, {"arguments": ""}, deltas


STREAMS = {"messages": messages_stream, "responses": responses_stream, "chat/completions": chat_stream}
