"""No model: plays written turns at a given speed. For a first look, for tests and for load.

A script is a list of turns, given as such or as a JSON file:

    [{"reasoning": "...", "text": "...", "tools": [{"name": "calculate", "arguments": {"expression": "6*7"}}],
      "finish": "stop", "delay": 0.02, "chunk": 4},
     {"error": "overloaded", "times": 1, "text": "..."}]

Every key is optional. `delay` is seconds between two deltas and `chunk` their length in characters; with a delay of 0
all comes at once. `error` is a code of `errors` and comes after what the turn says, `times` times and then no more.
`finish` is a `FinishReason`. A conversation with n answers is given turn n, and after the last the first again.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import errors
from ..deltas import Delta, Finish, FinishReason, PartEnd, ReasoningDelta, TextDelta, ToolCallDelta, Usage, UsageDelta
from ..messages import Message, Text, ToolResult
from ..tools.schema import violations, word
from .base import ModelInfo, ModelRequest, Provider, Told

DEMO = "demo"
Turn = dict[str, Any]
_ERRORS = {"rate_limit": 429, "overloaded": 529, "internal": 500, "auth": 401, "not_found": 404, "timeout": 504}


_SCHEMA = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {
            "reasoning": {"type": "string"},
            "text": {"type": "string"},
            "tools": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "minLength": 1},
                        "id": {"type": "string"},
                        "arguments": {"type": ["object", "string"]},
                    },
                    "required": ["name"],
                    "additionalProperties": False,
                },
            },
            "finish": {"enum": list(FinishReason)},
            "delay": {"type": "number", "minimum": 0},
            "chunk": {"type": "integer", "minimum": 1},
            "error": {"enum": list(_ERRORS)},
            "times": {"type": "integer", "minimum": 1},
        },
        "additionalProperties": False,
    },
}


class Scripted(Provider):
    """Plays `script`: turns, the path of a JSON file of them, or by default the built-in demo."""

    name = "scripted"
    label = "demo, no model"

    def __init__(self, script: str | Sequence[Turn] = "") -> None:
        self._script = script
        # Clients are told the name of a file and not where it lies.
        self.default_model = Path(script).stem if isinstance(script, str) and script else DEMO
        self._turns: Sequence[Turn] | None = None
        self._failures: dict[int, int] = {}

    def info(self, model: str) -> ModelInfo:
        name = "Scripted demo" if model == DEMO else model
        return ModelInfo(self.name, model, f"{name} (no model)", reasoning=True, is_demo=True, reason=self.reason)

    @property
    def reason(self) -> str:
        try:
            self._load()
        except errors.ConfigError as error:
            return error.message
        return ""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[Delta]]:
        number, turn = self._turn(request.messages)
        delay = turn.get("delay", 0.02)
        characters = 0
        for deltas in _play(turn) if delay else [list(itertools.chain.from_iterable(_play(turn)))]:
            yield deltas
            characters += sum(len(getattr(delta, "text", "")) for delta in deltas)
            if delay:
                await asyncio.sleep(delay)
        if (code := turn.get("error")) and self._failures.get(number, 0) < turn.get("times", 1_000_000_000):
            self._failures[number] = self._failures.get(number, 0) + 1
            raise Told("The script", self.default_model, keys="the script").status_error(
                _ERRORS[code], "an error of the script"
            )
        usage = Usage(sum(len(message.text) for message in request.messages) // 4, characters // 4, estimated=True)
        reason = FinishReason.TOOL_CALLS if turn.get("tools") else FinishReason.STOP
        yield [UsageDelta(usage), Finish(FinishReason(turn.get("finish", reason)))]

    def _turn(self, messages: Sequence[Message]) -> tuple[int, Turn]:
        turns = self._load()
        if turns is None:
            return 0, demo(messages)
        number = sum(message.role == "assistant" for message in messages) % len(turns)
        return number, turns[number]

    def _load(self) -> Sequence[Turn] | None:
        """Return the turns, None for the demo; raises ConfigError that names what is wrong with the file."""
        if self._turns is None and self._script not in ("", DEMO):
            turns = _read(Path(self._script)) if isinstance(self._script, str) else self._script
            _check(turns, f"the script {self.default_model}")
            self._turns = turns
        return self._turns


def _read(path: Path) -> Any:
    try:
        return json.loads(path.expanduser().read_bytes())
    except OSError as error:
        raise errors.ConfigError(f"cannot read the script {path.name}: {error.strerror}") from error
    except ValueError as error:
        raise errors.ConfigError(f"the script {path.name} is not valid JSON: {error}") from error


def _check(turns: Any, name: str) -> None:
    for error in violations(_SCHEMA, turns):
        raise errors.ConfigError(f"{name}: {error.json_path} {word(error)}")


def _pieces(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


def _play(turn: Turn) -> Iterator[list[Delta]]:
    size = turn.get("chunk", 4)
    spoken: list[tuple[str, Callable[[str, str], Delta]]] = [("reasoning", ReasoningDelta), ("text", TextDelta)]
    for key, make in spoken:
        if turn.get(key):
            for piece in _pieces(turn[key], size):
                yield [make(key, piece)]
            yield [PartEnd(key)]
    for number, call in enumerate(turn.get("tools", ())):
        yield [ToolCallDelta(number, call.get("id", ""), call["name"])]
        arguments = call.get("arguments", {})
        for piece in _pieces(arguments if isinstance(arguments, str) else json.dumps(arguments), size):
            yield [ToolCallDelta(number, arguments=piece)]
        yield [PartEnd(number)]


# --- the demo ---------------------------------------------------------------------------------------------------------

_INTRODUCTION = """\
This is the **scripted demo**: no model is running, but everything around it is real: the stream, the tools and \
the page. A table:

| Event | What it says |
|---|---|
| `text` | the next words of the answer |
| `tool_start` | a tool was called |
| `tool_result` | what the tool said |

And the smallest client, in Python:

```python
import json

def texts(lines):
    for line in lines:
        if line.startswith("data: "):
            event = json.loads(line[6:])
            if event["type"] == "text":
                yield event["content"]
```

Now two tools at once, of which the second will fail.
"""


def demo(messages: Sequence[Message]) -> Turn:
    """Return the demo's next turn: to each question it calls tools, and then tells what they said."""
    asked = max((index for index, message in enumerate(messages) if message.role == "user"), default=-1)
    results = [part for message in messages[asked + 1 :] for part in message.parts if isinstance(part, ToolResult)]
    if results:
        return {"text": _summary(results), "delay": 0.015}
    question = "".join(part.text for part in messages[asked].parts if isinstance(part, Text)) if messages else ""
    if "weather" in question.lower():
        place = question.rstrip("?!. ").rpartition(" in ")[2].strip() if " in " in question else "Berlin"
        call = {"name": "get_weather", "arguments": {"location": place}}
        return {"text": f"Let me look at the weather in {place}.", "tools": [call], "delay": 0.015}
    return {
        "reasoning": "The reader wants to see what this page can do. I will show text, code and tools.",
        "text": _INTRODUCTION,
        "tools": [
            {"name": "calculate", "arguments": {"expression": "(3 + 4) * 6"}},
            {"name": "calculate", "arguments": {"expression": "1 / 0"}},
        ],
        "delay": 0.015,
    }


def _summary(results: Sequence[ToolResult]) -> str:
    lines = [
        f"- `{result.tool_name}` {'failed' if result.is_error else 'answered'}: {result.content}" for result in results
    ]
    other = "something else" if results[0].tool_name == "get_weather" else "about the **weather in Paris**"
    return "The tools are done:\n\n" + "\n".join(lines) + f"\n\nAsk {other} to see another one.\n"
