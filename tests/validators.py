"""Holds a request's history against the rules of its API: what breaks one is answered with status 400."""

from __future__ import annotations

import re
from typing import Any

import orjson

NAME = re.compile("[A-Za-z0-9_-]{1,64}")


class Calls:
    """The calls of a history: each id once, each answered once, no answer without its call."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self._seen: set[str] = set()

    def add(self, call_id: str, name: str) -> None:
        assert call_id and call_id not in self._seen, f"a call's id occurs once: {call_id!r}"
        assert NAME.fullmatch(name), name
        self._seen.add(call_id)
        self.open.append(call_id)


def check_anthropic(messages: list[dict[str, Any]], *, signs: bool = True) -> None:
    """platform.claude.com/docs/en/api/messages; a compatible server may be one that `signs` no thinking"""
    calls = Calls()
    for number, message in enumerate(messages):
        content = message["content"]
        assert content, "no empty content"
        assert message["role"] == ("user" if number % 2 == 0 else "assistant")
        answered = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
        assert answered == calls.open, "each call has its result in the next message, and no result is without a call"
        if answered:
            assert all(block["type"] == "tool_result" for block in content[: len(answered)]), "results come first"
        calls.open = []
        for block in content:
            _check_block(block, message["role"], calls, signs)
        assert message["role"] == "user" or content[-1]["type"] not in ("thinking", "redacted_thinking")
    assert not calls.open
    # An answer is the end only where a tool of the provider's own was paused.
    assert messages[-1]["role"] == "user" or messages[-1]["content"][-1]["type"] not in ("text", "tool_use")


def check_own_tools(messages: list[dict[str, Any]]) -> None:
    """Hold the tools that Anthropic runs itself against the same rules: a call has its result, a result its call."""
    calls, answered = dict[str, int](), set[str]()
    for number, message in enumerate(messages):
        for block in message["content"] if message["role"] == "assistant" else ():
            if block["type"] in ("server_tool_use", "mcp_tool_use"):
                assert block["id"] not in calls
                calls[block["id"]] = number
            elif "tool_use_id" in block:
                assert block["tool_use_id"] in calls.keys() - answered, "a result needs its call before it"
                answered.add(block["tool_use_id"])
    asked = max(number for number, message in enumerate(messages) if _asks(message))
    assert all(calls[call] > asked for call in calls.keys() - answered), "only what was paused may lack its result"


def _asks(message: dict[str, Any]) -> bool:
    return message["role"] == "user" and any(block["type"] != "tool_result" for block in message["content"])


def _check_block(block: dict[str, Any], role: str, calls: Calls, signs: bool) -> None:
    match block["type"]:
        case "text":
            assert block["text"].strip()
        case "image":
            assert role == "user" and block["source"]["type"] == "base64" and block["source"]["data"]
        case "tool_result":
            assert role == "user" and block["content"]
        case "tool_use":
            assert role == "assistant" and isinstance(block["input"], dict)
            assert re.fullmatch("[A-Za-z0-9_-]+", block["id"])
            calls.add(block["id"], block["name"])
        case "thinking":
            assert role == "assistant" and isinstance(block["thinking"], str) and (block.get("signature") or not signs)
        case "redacted_thinking":
            assert role == "assistant" and block["data"]
        case _:
            assert role == "assistant", "other blocks are the provider's"


def check_chat(messages: list[dict[str, Any]], *, compatible: bool = False) -> None:
    """platform.openai.com/docs/api-reference/chat; `compatible` servers take longer ids."""
    calls = Calls()
    for number, message in enumerate(messages):
        if message["role"] == "tool":
            assert message["tool_call_id"] == calls.open.pop(0) and message["content"]
            continue
        assert calls.open == [], "results follow their calls at once, in order"
        for call in message.get("tool_calls", ()):
            calls.add(call["id"], call["function"]["name"])
            assert compatible or len(call["id"]) <= 40
            assert isinstance(orjson.loads(call["function"]["arguments"]), dict)
        assert message["role"] != "system" or number == 0
        assert message["content"] or calls.open, "no empty content"
        if isinstance(message["content"], list):
            assert message["role"] == "user"
            assert all(part["type"] == "image_url" or part["text"].strip() for part in message["content"])
    assert calls.open == []


def check_responses(items: list[dict[str, Any]]) -> None:
    """platform.openai.com/docs/api-reference/responses, where the provider keeps nothing (`store` is false)"""
    calls, own_calls, own_answered = Calls(), set[str](), set[str]()
    for item, following in zip(items, [*items[1:], {}], strict=True):
        kind = item.get("type", "message")
        assert kind == "function_call_output" or not calls.open or kind in _MAY_COME_BETWEEN, (
            "results follow their calls"
        )
        match kind:
            case "message":
                _check_content(item)
            case "function_call":
                assert 0 < len(item["call_id"]) <= 64
                assert isinstance(orjson.loads(item["arguments"]), dict)
                calls.add(item["call_id"], item["name"])
            case "function_call_output":
                assert item["output"]
                calls.open.remove(item["call_id"])
            case "reasoning":
                # "Item of type 'reasoning' was provided without its required following item."
                assert following and following.get("role") != "user", "reasoning comes before what it led to"
                assert isinstance(item["summary"], list)
                assert item.get("encrypted_content") or item.get("content"), "nobody else keeps it"
            case _:
                assert isinstance(kind, str) and kind, "the provider's own item, as it came"
                if isinstance(call_id := item.get("call_id"), str):
                    (own_answered if kind.endswith("_output") else own_calls).add(call_id)
    assert not calls.open
    assert own_answered <= own_calls, "no output without its call"
    assert items[-1].get("role", "user") == "user"


# Calls of one response stand together, with what it thought or had the provider do between them.
_MAY_COME_BETWEEN = {"function_call", "reasoning"}


def _check_content(item: dict[str, Any]) -> None:
    content = item["content"]
    assert content, "no empty content"
    if isinstance(content, str):
        assert content.strip()
        return
    kinds = {"assistant": {"output_text", "refusal"}}.get(item["role"], {"input_text", "input_image"})
    for part in content:
        assert part["type"] in kinds
        assert part["type"] == "input_image" or (part.get("text") or part.get("refusal", "")).strip()
        assert part["type"] != "input_image" or part["image_url"].startswith("data:image/")
