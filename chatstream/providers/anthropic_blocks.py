"""Content blocks of the Messages API that are not text, thinking or a call of our tools: whole, and as people see them.

Such a block goes back as it came. What is known of it is by its form, so that tools which are new tomorrow are shown
too: a type that ends in `tool_use` is a call of a tool that the provider runs, one that ends in `_tool_result` and has
a `tool_use_id` is its result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..deltas import OpaqueDelta
from ..messages import Citation, read_arguments

Block = dict[str, Any]

# The members that say something to people, in the order in which they are read; the others are ids and ciphers.
_READABLE = ("title", "url", "text", "stdout", "stderr", "lines", "tool_name", "tool_references", "content")
_ERROR = ("error_code", "error_message")
_LONGEST = 4000


def text(value: object) -> str:
    """Return a text, which may be missing; raises TypeError for anything else."""
    if not isinstance(value, str | None):
        raise TypeError(f"a text was expected, not {value!r:.100}")
    return value or ""


def cited(raw: Mapping[str, Any]) -> Citation:
    """Return a citation of any of the API's kinds: of a web page, of a search result, of a place in a document."""
    source = text(raw.get("source"))
    url = text(raw.get("url")) or (source if source.startswith(("http://", "https://")) else "")
    return Citation(url, text(raw.get("title") or raw.get("document_title")) or source, text(raw.get("cited_text")))


def whole(block: Block, deltas: Iterable[Block]) -> Block | None:
    """Return a block with all that its deltas brought, None where its input broke off.

    Members of the same name go on where they are texts or lists; of anything else the last counts. A `partial_json` is
    more of the text of `input`, a `citation` one more of `citations`.
    """
    brought: dict[str, list[Any]] = {}
    for delta in deltas:
        for name, value in delta.items():
            if name == "citation":
                brought.setdefault("citations", []).append([value])
            elif name != "type":
                brought.setdefault(name, []).append(value)
    arguments = "".join(brought.pop("partial_json", ()))
    data = block | {name: _joined([block.get(name), *values]) for name, values in brought.items()}
    if arguments:
        data["input"], problem = read_arguments(arguments)
        return None if problem else data
    return data


def is_call(block: Block) -> bool:
    return str(block.get("type")).endswith("tool_use")


def call_name(block: Block) -> str:
    return text(block.get("name")) or str(block["type"]).removesuffix("_tool_use")


def shown(index: int, block: Block, names: Mapping[str, str]) -> OpaqueDelta:
    """Return the delta that carries a whole block; `names` has the names of the calls so far, by their ids."""
    if is_call(block):
        given = block.get("input")
        return OpaqueDelta(
            index, block, block.get("id", ""), call_name(block), given if isinstance(given, dict) else {}
        )
    kind, call_id = str(block.get("type")), block.get("tool_use_id")
    if not kind.endswith("_tool_result") or not call_id:
        return OpaqueDelta(index, block)
    name = names.get(call_id) or kind.removesuffix("_tool_result")
    said, is_error = result(block)
    return OpaqueDelta(index, block, call_id, name, None, said, is_error)


def result(block: Block) -> tuple[str, bool]:
    """Return what a tool answered as a text for people, and whether that is an error."""
    content = block.get("content")
    error = [str(content[name]) for name in _ERROR if content.get(name)] if isinstance(content, dict) else []
    said = "\n".join([*error, *_lines(content)])
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}...", bool(error or block.get("is_error"))


def _lines(value: Any) -> Iterable[str]:
    """Yield what is readable in the content of a result, whatever its form."""
    if isinstance(value, str):
        if value.strip():
            yield value.strip("\n")
    elif isinstance(value, list):
        for each in value:
            yield from _lines(each)
    elif isinstance(value, dict):
        for name in _READABLE:
            yield from _lines(value.get(name))
        if value.get("return_code"):
            yield f"return code {value['return_code']}"
        if "is_file_update" in value:
            yield "file updated" if value["is_file_update"] else "file created"


def _joined(values: Iterable[Any]) -> Any:
    given = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in given) and given:
        return "".join(given)
    if all(isinstance(value, list) for value in given) and given:
        return [each for value in given for each in value]
    return given[-1] if given else None
