"""Written turns as the bytes that each API would send: what the adapters in `providers` read, from the other side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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
    characters. Of the faults, `status` other than 200 is answered at once, with `retry_after` seconds where given;
    `drop` aborts the connection after so many bytes of the body, `end` ends the body there as if it were whole, and
    `stall` goes silent there until the client leaves. `first` and `delay` are the seconds before the first write and
    between two, of `write` bytes each (0: all at once). `raw` is a whole body that replaces all of this.
    """

    text: str = ""
    reasoning: str = ""
    signature: str = "c2lnbmF0dXJl"
    redacted: str = ""
    tools: Sequence[Call] = ()
    finish: str = ""
    chunk: int = 8
    status: int = 200
    retry_after: float | None = None
    drop: int | None = None
    end: int | None = None
    stall: int | None = None
    first: float = 0.0
    delay: float = 0.0
    write: int = 0
    raw: bytes | None = None

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


STREAMS = {"messages": messages_stream, "chat/completions": chat_stream}
