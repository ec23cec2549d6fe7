"""What a tool is, and the one place where tools are run.

`@tool` makes a `Tool` of a function. A `Toolbox` holds the tools of a run; its `execute` answers a model's call, and
whatever goes wrong becomes an answer too, worded for the model: only the cancellation of the run gets out.

Plain functions run in threads, at most 64, so that one which blocks does not block the loop. An async function runs on
the loop and must not block it. A thread cannot be killed: a plain function that exceeds its time limit goes on to its
end by itself, and its result is dropped.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from decimal import Decimal
from difflib import SequenceMatcher
from fractions import Fraction
from functools import partial
from pathlib import PurePath
from queue import SimpleQueue
from typing import Any, Literal, overload

import orjson

from ..errors import ConfigError, InvalidArguments, ToolError, ToolTimeout, UnknownTool
from ..messages import NO_OUTPUT, ToolCall, ToolResult
from .schema import read_docstring, read_signature, violations, word

log = logging.getLogger("chatstream.tools")

Progress = Callable[[str], None]
Approval = Literal["never", "always"] | Callable[[dict[str, Any]], bool]

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what both APIs take
MAX_OUTPUT = 100_000  # characters, unless a tool says otherwise
MAX_ERROR = 1000  # characters of one exception's message


@dataclass(frozen=True, slots=True, eq=False)
class Tool:
    """A function that a model may call; `@tool` makes one, and it can still be called as that function.

    `parameters` is the JSON Schema of the arguments object, `timeout` is in seconds, `max_output` in characters.
    A tool that is `read_only` may start before the model's turn is over. `convert` makes the function's arguments of
    an input that fits `parameters`; `progress` names the parameter that is handed a `Progress`, "" for none.
    One that is `by_caller` is run by whoever asked: its call waits for the result.
    Raises ConfigError for a name that the APIs refuse and an approval that does not exist.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    function: Callable[..., Any]
    read_only: bool = False
    approval: Approval = "never"
    timeout: float = 60.0
    max_output: int = MAX_OUTPUT
    convert: Callable[[dict[str, Any]], dict[str, Any]] = dict
    progress: str = ""
    by_caller: bool = False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigError(f"tool {self.name!r}: a name is 1 to 64 of the characters A-Z a-z 0-9 _ -")
        is_plain = callable(self.approval) and not inspect.iscoroutinefunction(self.approval)
        if self.approval not in ("never", "always") and not is_plain:
            raise ConfigError(
                f"tool {self.name}: approval is {self.approval!r}; use 'never', 'always' or a plain function"
            )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def needs_approval(self, input: dict[str, Any]) -> bool:
        """Say whether a call with this input waits for a decision; where the tool's function of it raises, it does."""
        if not callable(self.approval):
            return self.approval == "always" or self.by_caller
        try:
            return bool(self.approval(input))
        except Exception:
            log.exception("approval of tool %s failed: asking", self.name)
            return True

    def to_json(self) -> dict[str, Any]:
        """Return `{"name", "description", "parameters", "readOnly", "approval": "never" | "always" | "depends"}`."""
        return {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "readOnly": self.read_only,
            "approval": "depends" if callable(self.approval) else self.approval,
        }


def caller_tool(name: str, description: str, parameters: dict[str, Any]) -> Tool:
    """Return a tool that the caller runs itself: its call waits for the result. Raises ConfigError for a bad name."""

    def run_elsewhere() -> str:
        raise ToolError(f"{name} is run by the caller, who gave no result")

    return Tool(name, description, parameters, run_elsewhere, convert=lambda input: {}, by_caller=True)


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *,
    name: str = "",
    description: str = "",
    read_only: bool = False,
    approval: Approval = "never",
    timeout: float = 60.0,
    max_output: int = MAX_OUTPUT,
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None, /, *, name: str = "", description: str = "", **options: Any
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a `Tool` of a plain or async function, bare (`@tool`) or with options (`@tool(timeout=5)`).

    Name and description are the function's own unless given; the schema comes from its annotations, the `Args:` of
    its docstring and `Annotated[T, "text"]`. A parameter annotated `Progress` is handed a function that reports
    progress, from any thread. Raises ConfigError for a parameter that has no schema.
    """

    def decorate(function: Callable[..., Any]) -> Tool:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError(f"tool {function.__name__} yields: a tool returns its result, and reports by Progress")
        called = name or getattr(function, "__name__", type(function).__name__)
        told = description or read_docstring(function)[0]
        parameters, convert, progress = read_signature(function, called, Progress)
        return Tool(called, told, parameters, function, **options, convert=convert, progress=progress)

    return decorate if function is None else decorate(function)


class Toolbox:
    """The tools of a run, by name, in their order. Raises ConfigError where two have one name."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if not isinstance(tool, Tool):
                raise ConfigError(f"{tool!r} is no Tool: put @tool (from chatstream import tool) above the function")
            if self._tools.setdefault(tool.name, tool) is not tool:
                raise ConfigError(f"two tools are named {tool.name}; rename one")

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def get(self, name: str) -> Tool:
        """Return the tool of this name, or raise UnknownTool, which lists those that are known, the closest first."""
        if name in self._tools:
            return self._tools[name]
        known = sorted(self._tools, key=lambda other: -SequenceMatcher(None, name, other).ratio())
        raise UnknownTool(f"there is no tool {name[:64]!r}; the tools are: {', '.join(known) or '(none)'}")

    def check(self, call: ToolCall) -> Tool:
        """Return the tool of a call that can be run.

        Raises UnknownTool, or InvalidArguments, which says what to change: the up to 5 worst violations of the schema.
        """
        tool = self.get(call.name)
        if call.input is None:
            expected = orjson.dumps(tool.parameters).decode()[:2000]
            raise InvalidArguments(f"{tool.name}: {call.problem or 'no JSON object'}; expected an object of {expected}")
        # A schema from outside is for the model to go by: it may hold a pattern that takes for ever.
        if not tool.by_caller and (errors := list(violations(tool.parameters, call.input))):
            raise InvalidArguments("\n".join(f"{tool.name}: {text}" for text in _worst(errors)))
        return tool

    async def execute(self, call: ToolCall, progress: Progress) -> ToolResult:
        """Run a call to its result, which is an error result whatever goes wrong; `progress` is called on the loop.

        Cancelling it cancels an async tool and leaves a thread to itself, without waiting for either.
        """
        limit = MAX_OUTPUT
        try:
            tool = self.check(call)
            limit = tool.max_output
            text, is_error = await _run(tool, call.input or {}, progress), False
        except ToolError as error:
            text, is_error = error.message, True
        except Exception as error:
            log.exception("tool %s failed in call %s", call.name, call.id)
            text, is_error = _describe(error), True
        return ToolResult(call.id, call.name, _fit(text, limit), is_error or len(text) > limit)


def _worst(errors: list[Any]) -> list[str]:
    """Word the five most telling schema violations, each where it is deepest: `$.path what is wrong`."""
    from jsonschema.exceptions import best_match, relevance  # type: ignore[import-untyped,unused-ignore]

    telling = [best_match([error]) for error in sorted(errors, key=relevance, reverse=True)[:5]]
    return [f"{error.json_path} {word(error)}" for error in telling]


# --- running ----------------------------------------------------------------------------------------------------------

_abandoned: set[asyncio.Task[str]] = set()  # the loop itself holds tasks only weakly


async def _run(tool: Tool, input: dict[str, Any], progress: Progress) -> str:
    """Return what the tool answers within its time limit, which includes the wait for a thread."""
    report = _Report(progress, tool.max_output)
    task = asyncio.create_task(_call(tool, input, report))
    try:
        # Not asyncio.timeout: it would wait for a tool that does not let itself be cancelled.
        await asyncio.wait({task}, timeout=tool.timeout)
    finally:
        report.is_open = False
        if not task.done():
            task.cancel()
            _abandoned.add(task)
            task.add_done_callback(_forget)
    if not task.done():
        raise ToolTimeout(
            f"{tool.name} took longer than its limit of {tool.timeout:g} s and was given up; "
            "ask for less at a time, or answer without it"
        )
    if task.cancelled():
        raise ToolError(f"{tool.name} was cancelled from inside")
    return task.result()


def _forget(task: asyncio.Task[str]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # seen, so that asyncio does not log it as never retrieved


_ENDING = (KeyboardInterrupt, SystemExit)  # raised by a tool they would end the server


async def _call(tool: Tool, input: dict[str, Any], report: Progress) -> str:
    arguments = tool.convert(input) | ({tool.progress: report} if tool.progress else {})
    call = partial(tool.function, **arguments)
    try:
        if inspect.iscoroutinefunction(tool.function):
            value = await call()
        else:
            loop = asyncio.get_running_loop()
            value = await loop.run_in_executor(_threads, copy_context().run, _without_stop_iteration, call)
            if inspect.isawaitable(value):
                value = await value
    except _ENDING as error:
        raise ToolError(_describe(error)) from error
    return _text(tool, value)


def _without_stop_iteration(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except StopIteration as error:  # no Future can carry it: the call would never end
        raise RuntimeError("StopIteration") from error
    except _ENDING as error:
        raise ToolError(_describe(error)) from error


class _Report:
    """The `Progress` of one call: takes text from any thread while the call is open, and drops it afterwards."""

    def __init__(self, progress: Progress, limit: int) -> None:
        self._progress = progress
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self.is_open = True

    def __call__(self, text: str) -> None:
        # The loop keeps the order, so that what is reported before a tool ends is told before its result.
        with suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(self._tell, text)

    def _tell(self, text: str) -> None:
        if self.is_open:
            self._progress(_fit(str(text), self._limit))


class _Threads(Executor):
    """Runs plain functions in daemon threads: the standard executor's would keep a process from ending while one hangs.

    There are at most `limit`, each made when no other is idle. Where that many hang, calls wait until their time is up.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._work.put((future, partial(function, *args, **kwargs)))
        if not self._idle.acquire(blocking=False) and self._count < self._limit:
            self._count += 1
            threading.Thread(target=self._serve, name=f"chatstream-tool-{self._count}", daemon=True).start()
        return future

    def _serve(self) -> None:
        while True:
            future, call = self._work.get()
            tell, outcome = _outcome(future, call) if future.set_running_or_notify_cancel() else (bool, None)
            self._idle.release()  # before the result is told: whoever waits for it then finds this thread idle
            tell(outcome)
            del future, call, tell, outcome  # an idle thread keeps no result alive


def _outcome(future: Future[Any], call: Callable[[], Any]) -> tuple[Callable[[Any], Any], Any]:
    try:
        return future.set_result, call()
    except BaseException as error:
        return future.set_exception, error


_threads = _Threads(64)


# --- what the model is told -------------------------------------------------------------------------------------------


def _text(tool: Tool, value: Any) -> str:
    """Return a tool's output as text: a str as it is, anything else as JSON. Raises ToolError where there is none."""
    if value is None:
        return NO_OUTPUT
    if isinstance(value, str):
        return value if value.strip() else NO_OUTPUT
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        pass  # integers of more than 64 bits and lone surrogates: the slower one takes them
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False)
    except Exception as error:
        kind = type(value).__name__
        raise ToolError(f"{tool.name} returned a {kind} that cannot be written as JSON: {_describe(error)}") from error


def _plain(value: Any) -> Any:
    """Return what JSON holds for a value that is plainly meant so; an object's address would tell a model nothing."""
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, Decimal | Fraction | PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _describe(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        return f"{kind}: {_cut(str(error), MAX_ERROR)}".removesuffix(": ")
    except Exception:  # its __str__ raises
        return kind


def _fit(text: str, limit: int) -> str:
    """Cut `text` to `limit` and replace lone surrogates, which no JSON can carry as UTF-8."""
    return _cut(text, limit).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _cut(text: str, limit: int) -> str:
    """Return a text of more than `limit` characters without its middle, with a note in its place."""
    if len(text) <= limit:
        return text
    tail = limit // 4
    note = f"\n[... cut: these were {len(text):,} characters, the limit is {limit:,} ...]\n"
    return text[: limit - tail] + note + text[len(text) - tail :]
