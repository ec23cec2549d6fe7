"""What the tests of tools share: types that a schema can be made of, and a call and its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NotRequired, TypedDict

from chatstream.messages import ToolCall, ToolResult
from chatstream.tools import Toolbox, tool


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Point(TypedDict):
    x: float
    label: NotRequired[str]


@dataclass
class Box:
    width: int
    colour: Colour = Colour.RED


class Endless(TypedDict):
    inner: list[Endless]


def call(input: dict[str, Any] | None = None, name: str = "work", **rest: Any) -> ToolCall:
    return ToolCall("call_1", name, {} if input is None and not rest else input, **rest)


async def answer(function: Callable[..., Any], input: dict[str, Any] | None = None, **options: Any) -> ToolResult:
    """Run `function` as the tool `work` with `input`."""
    return await Toolbox([tool(name="work", **options)(function)]).execute(call(input), lambda text: None)
