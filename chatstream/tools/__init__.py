"""The tools of a model: what one is (`tool`, `Tool`), how calls are run (`Toolbox`), and those that are built in.

    from chatstream.tools import tool

    @tool
    def add(a: int, b: int) -> int:
        "Add two numbers."
        return a + b

Names are loaded at their first use.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Progress, Tool, Toolbox, caller_tool, tool
    from .load import load_tools

__all__ = ["Progress", "Tool", "Toolbox", "builtin_tools", "caller_tool", "load_tools", "tool"]
_HOMES = dict.fromkeys(("Progress", "Tool", "Toolbox", "caller_tool", "tool"), "base") | {"load_tools": "load"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def builtin_tools(docs: Path) -> list[Tool]:
    """Return the built-in tools; `search_docs` searches the folder or file `docs`."""
    from .calculate import calculate
    from .clock import current_time
    from .docs import make_search_docs
    from .weather import get_weather

    return [get_weather, make_search_docs(docs), calculate, current_time]
