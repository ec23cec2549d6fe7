"""chatstream: the streaming spine of an LLM chat.

    async for event in chatstream.run("anthropic:claude-sonnet-5-5", messages, tools=[...]): ...
    async for text in chatstream.get_provider("anthropic").text("Hello"): ...

What is named here is loaded at its first use: `import chatstream` costs no more than the standard library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agent import Retry, Settings, run
    from .events import Event, Outcome
    from .messages import Message, user
    from .providers import get_provider
    from .tools import Progress, Tool, Toolbox, tool

__version__ = "0.1.0"

_HOMES = {
    "Event": "events",
    "Message": "messages",
    "Outcome": "events",
    "Progress": "tools",
    "Retry": "agent",
    "Settings": "agent",
    "Tool": "tools",
    "Toolbox": "tools",
    "get_provider": "providers",
    "run": "agent",
    "tool": "tools",
    "user": "messages",
}
__all__ = [
    "Event",
    "Message",
    "Outcome",
    "Progress",
    "Retry",
    "Settings",
    "Tool",
    "Toolbox",
    "get_provider",
    "run",
    "tool",
    "user",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
