"""Output items of the Responses API that are no message, reasoning or call of our functions, as people see them.

They are carried whole. What the API calls `X_call` and `X_output`, and some others, is a tool: it has a name, the id
that ties the two together, an input, a result, or both in one. What a server adds some day is shown the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from ..messages import read_arguments

Item = dict[str, Any]

# What of an item is not its input: what it is, and what came of it.
_NOT_INPUT = {"id", "type", "status", "call_id", "name", "caller", "container_id", "fingerprint"}
_NOT_INPUT |= {"output", "outputs", "result", "results", "error", "tools"}
# What holds the input where it has a place of its own; `arguments` are JSON in a string.
_INPUTS = {"action", "arguments", "operation"}
_OTHER_CALLS = ("program", "mcp_list_tools")


def name_of(item: Item) -> str:
    """Return the name of the tool, empty for an item that is none."""
    kind = word(item.get("type"))
    stem = kind.removesuffix("_output").removesuffix("_call").removesuffix("_request")
    return word(item.get("name")) or (stem if stem != kind or kind in _OTHER_CALLS else "")


def is_output(item: Item) -> bool:
    return word(item.get("type")).endswith("_output")


def input_of(item: Item) -> Item | None:
    """Return what the tool was called with, None for an item that is no call."""
    if is_output(item) or not name_of(item):
        return None
    given = {name: value for name, value in item.items() if name not in _NOT_INPUT}
    for name in _INPUTS & given.keys():
        value = read_arguments(given[name])[0] if isinstance(given[name], str) else given[name]
        if isinstance(value, dict):
            del given[name]
            given |= value
    return {name: value for name, value in given.items() if value is not None and name != "sources"}


def result_of(item: Item) -> str | None:
    """Return for people what the tool answered, None for a call that somebody else has to answer."""
    if item.get("error"):
        return _text(item["error"])
    read = _RESULTS.get(word(item.get("type")), _said if is_output(item) else None)
    return None if read is None else read(item)


def is_error(item: Item) -> bool:
    return bool(item.get("error")) or item.get("status") in ("failed", "incomplete")


def word(value: object) -> str:
    """Return a value that ought to be a string, and is nothing where it is none."""
    return value if isinstance(value, str) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _said(item: Item) -> str:
    return _text(item.get("output") or item.get("result") or "")


def _lines(values: Any, *names: str) -> str:
    """Return a line for each value that has one of these members."""
    found = (next(filter(None, (word(value.get(name)) for name in names)), "") for value in values or ())
    return "\n".join(filter(None, found))


def _shell(item: Item) -> str:
    return "".join(word(each.get("stdout")) + word(each.get("stderr")) for each in item.get("output") or ())


_RESULTS: dict[str, Callable[[Item], str]] = {
    "web_search_call": lambda item: _lines((item.get("action") or {}).get("sources"), "url", "name"),
    "file_search_call": lambda item: _lines(item.get("results"), "filename", "file_id"),
    "code_interpreter_call": lambda item: _lines(item.get("outputs"), "logs", "url"),
    "image_generation_call": lambda item: "An image." if item.get("result") else "",
    "mcp_call": _said,
    "mcp_list_tools": lambda item: _lines(item.get("tools"), "name"),
    "tool_search_output": lambda item: _lines(item.get("tools"), "name"),
    "shell_call_output": _shell,
}
# What is billed by its use.
PAID = {"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call"}
PAID |= {"shell_call_output"}
