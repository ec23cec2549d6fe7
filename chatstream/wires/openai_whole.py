"""The answer of OpenAI's Chat Completions that is given whole: what the chunks of its stream add up to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def whole(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the `chat.completion` that the chunks of an answer add up to."""
    head: dict[str, Any] = {}
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    texts: dict[str, list[str]] = {}
    calls: list[dict[str, Any]] = []
    reason = None
    for chunk in chunks:
        head |= {name: value for name, value in chunk.items() if name != "choices"}
        for choice in chunk["choices"]:
            reason = choice["finish_reason"]
            for name, value in choice["delta"].items():
                if name == "tool_calls":
                    _add_call(calls, **value[0])
                elif name in ("content", "reasoning_content"):
                    texts.setdefault(name, []).append(value)
                else:
                    message[name] = value
    message |= {name: "".join(pieces) for name, pieces in texts.items()}
    for call in calls:
        call["function"]["arguments"] = "".join(call["function"]["arguments"])
    message |= {"tool_calls": calls} if calls else {}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return head | {"object": "chat.completion", "choices": [choice]}


def _add_call(calls: list[dict[str, Any]], index: int, function: dict[str, Any], **named: str) -> None:
    if named:
        calls.append(named | {"function": function | {"arguments": []}})
    calls[index]["function"]["arguments"].append(function["arguments"])
