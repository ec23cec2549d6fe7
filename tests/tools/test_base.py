"""Tools as a model meets them: the schema it reads, and an answer to every call, whatever the tool does."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import threading
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.errors import ConfigError, InvalidArguments, ToolError, UnknownTool
from chatstream.messages import NO_OUTPUT, ToolCall, ToolResult, read_arguments
from chatstream.tools import Progress, Tool, Toolbox, base, tool

from .rig import Box, answer, call

# --- the toolbox ------------------------------------------------------------------------------------------------------


@tool
def add(a: int, b: int = 1) -> int:
    return a + b


@tool
def subtract(a: int, b: int) -> int:
    return a - b


def test_a_toolbox_keeps_its_tools_in_order():
    box = Toolbox([subtract, add])

    assert (list(box), len(box), box.get("add")) == ([subtract, add], 2, add)


def test_two_tools_of_one_name_are_an_error():
    with pytest.raises(ConfigError, match="two tools are named add"):
        Toolbox([add, Tool("add", "", {}, print)])


def test_an_unknown_tool_is_answered_with_the_known_ones_the_closest_first():
    with pytest.raises(UnknownTool, match="'substract'; the tools are: subtract, add"):
        Toolbox([add, subtract]).get("substract")


INVALID = [
    ({}, "add: $ 'a' is a required property"),
    ({"a": "1"}, "add: $.a '1' is not of type 'integer'"),
    ({"a": True}, "add: $.a True is not of type 'integer'"),
    ({"a": 1, "c": 2}, "add: $ Additional properties are not allowed ('c' was unexpected); what is known: a, b"),
    ({"a": 1.5, "b": None}, "add: $.a 1.5 is not of type 'integer'\nadd: $.b None is not of type 'integer'"),
]


@pytest.mark.parametrize(("input", "message"), INVALID)
def test_arguments_that_do_not_fit_are_answered_with_every_place_and_reason(input, message):
    with pytest.raises(InvalidArguments) as caught:
        Toolbox([add]).check(call(input, "add"))

    assert sorted(caught.value.message.split("\n")) == sorted(message.split("\n"))


def test_a_hundred_wrong_arguments_are_answered_with_five_reasons_of_bounded_length():
    @tool
    def work(values: list[int]): ...

    with pytest.raises(InvalidArguments) as caught:
        Toolbox([work]).check(call({"values": ["x" * 10_000] * 100}))

    assert caught.value.message.count("work: $.values[") == 5
    assert len(caught.value.message) < 3000


@given(st.integers(0, 20))
def test_arguments_cut_anywhere_are_answered_with_what_was_expected(cut):
    input, problem = read_arguments('{"a": 1, "b": 2222}'[:cut])
    box = Toolbox([add])
    if input is not None and "a" in input:
        assert box.check(ToolCall("1", "add", input)) is add
        return
    with pytest.raises(InvalidArguments, match="'a' is a required" if input is not None else "JSON.*expected.*integer"):
        box.check(ToolCall("1", "add", input, problem=problem))


def test_a_call_without_an_input_and_without_a_reason_is_still_explained():
    with pytest.raises(InvalidArguments, match="add: no JSON object; expected"):
        Toolbox([add]).check(ToolCall("1", "add", None))


# --- running ----------------------------------------------------------------------------------------------------------


async def test_plain_and_async_tools_answer_with_their_ids():
    async def double(a: int) -> int:
        return 2 * a

    box = Toolbox([add, tool(double)])

    assert await box.execute(call({"a": 2}, "add"), print) == ToolResult("call_1", "add", "3")
    assert await box.execute(call({"a": 2.0}, "double"), print) == ToolResult("call_1", "double", "4")


@pytest.mark.parametrize("bad", [call(name="nothing"), call({"a": "x"}, "add"), ToolCall("call_1", "add", None)])
async def test_a_call_that_cannot_be_run_is_an_error_result(bad):
    result = await Toolbox([add]).execute(bad, print)

    assert (result.tool_call_id, result.tool_name, result.is_error) == ("call_1", bad.name, True)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


RAISED = [
    (ToolError("no such place"), "no such place"),
    (KeyError("town"), "KeyError: 'town'"),
    (TimeoutError(), "TimeoutError"),
    (SystemExit(3), "SystemExit: 3"),
    (Unspeakable(), "Unspeakable"),
    (asyncio.CancelledError(), "work was cancelled from inside"),
]


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize(("error", "message"), RAISED, ids=[type(error).__name__ for error, _ in RAISED])
async def test_a_tool_that_raises_is_an_error_result_without_a_traceback(kind, error, message):
    def plain():
        raise error

    async def coroutine():
        raise error

    assert await answer({"plain": plain, "async": coroutine}[kind]) == ToolResult("call_1", "work", message, True)


async def test_stop_iteration_from_a_plain_tool_ends_the_call():
    assert (await answer(lambda: next(iter([])))).content == "RuntimeError: StopIteration"


async def test_a_very_long_message_of_an_exception_is_cut():
    def work():
        raise ValueError("x" * 1_000_000)

    assert len((await answer(work)).content) < 2000


async def test_the_traceback_of_an_unexpected_error_goes_to_the_log(caplog):
    def work():
        raise KeyError("town")

    await answer(work)

    (record,) = caplog.records
    assert (record.name, record.exc_info[0]) == ("chatstream.tools", KeyError)


OUTPUTS = [
    (None, NO_OUTPUT),
    ("", NO_OUTPUT),
    (" \n", NO_OUTPUT),
    ("text", "text"),
    ({"a": [1, None, "é"]}, '{"a":[1,null,"é"]}'),
    ({1: 2}, '{"1":2}'),
    (date(2026, 1, 2), '"2026-01-02"'),
    ({"when": {1}}, '{"when":[1]}'),
    ([Decimal("1.50"), Path("a/b")], '["1.50","a/b"]'),
    (2**70, str(2**70)),
    (Box(1), '{"width":1,"colour":"red"}'),
    ("a\ud800b", "a�b"),
    ("\ud83d\ude00", "😀"),
    (["\ud800"], '["�"]'),
]


@pytest.mark.parametrize(("value", "content"), OUTPUTS, ids=[ascii(row[0]) for row in OUTPUTS])
async def test_output_becomes_text_that_any_json_can_carry(value, content):
    result = await answer(lambda: value)

    assert result == ToolResult("call_1", "work", content)
    json.dumps(result.content).encode()
    result.content.encode()


class Opaque:
    def __str__(self) -> str:
        raise RuntimeError("no text")


CIRCULAR: list[Any] = []
CIRCULAR.append(CIRCULAR)


@pytest.mark.parametrize(("value", "kind"), [(CIRCULAR, "list"), (Opaque(), "Opaque"), ({(): 1}, "dict")])
async def test_output_that_cannot_be_written_is_an_error_that_names_its_type(value, kind):
    result = await answer(lambda: value)

    assert result.is_error
    assert f"work returned a {kind} that cannot be written as JSON" in result.content


async def test_a_tool_that_ends_a_program_ends_its_call_alone():
    def interrupt() -> str:
        raise KeyboardInterrupt

    async def interrupt_async() -> str:
        raise KeyboardInterrupt

    for function in (interrupt, interrupt_async):
        result = await answer(function)
        assert (result.content, result.is_error) == ("KeyboardInterrupt", True)


@pytest.mark.parametrize("value", [object(), b"x", {"a": object()}], ids=["an object", "bytes", "an object inside"])
async def test_output_that_is_no_json_value_is_an_error(value):
    result = await answer(lambda: value)
    assert result.is_error and "0x" not in result.content


def test_a_function_that_yields_is_no_tool():
    def steps() -> str:
        yield "a"

    async def steps_async() -> str:
        yield "a"

    for function in (steps, steps_async):
        with pytest.raises(ConfigError, match="yields"):
            tool(function)


def test_what_is_no_tool_is_told_how_to_become_one():
    with pytest.raises(ConfigError, match="@tool"):
        Toolbox([print])  # type: ignore[list-item]


async def test_output_that_is_too_long_loses_its_middle_and_says_so():
    result = await answer(lambda: "a" * 2_500_000 + "b" * 2_500_000)

    assert result.is_error
    assert "cut: these were 5,000,000 characters, the limit is 100,000" in result.content
    assert (result.content.count("a" * 75_000), result.content.endswith("b" * 25_000)) == (1, True)
    assert len(result.content) < 100_200


async def test_a_blocking_tool_does_not_block_the_loop():
    release = threading.Event()
    running = asyncio.create_task(answer(lambda: release.wait(60)))
    await asyncio.sleep(0)

    release.set()  # reached at all only where the loop goes on

    assert (await running).content == "true"


@pytest.fixture
def hang() -> Iterator[Callable[[], Any]]:
    """A function that does not return before the test is over."""
    over = threading.Event()
    yield lambda: over.wait()
    over.set()


async def test_a_tool_that_hangs_is_an_error_that_names_the_limit(hang):
    result = await answer(hang, timeout=0.05)

    assert result.is_error
    assert result.content.startswith("work took longer than its limit of 0.05 s")


async def test_an_async_tool_that_does_not_let_itself_be_cancelled_is_left_behind():
    over = asyncio.Event()

    async def work():
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                continue
        raise ValueError("nobody hears this")

    result = await answer(work, timeout=0.05)

    assert "took longer" in result.content
    (left,) = base._abandoned
    over.set()
    await asyncio.wait({left})
    await asyncio.sleep(0)
    assert not base._abandoned


async def test_waiting_for_a_thread_counts_towards_the_limit_and_the_call_is_then_never_run(hang, monkeypatch):
    monkeypatch.setattr(base, "_threads", base._Threads(2))
    hanging = [asyncio.create_task(answer(hang)) for _ in range(2)]
    ran = threading.Event()
    await asyncio.sleep(0)

    result = await answer(ran.set, timeout=0.05)

    assert "took longer" in result.content
    assert not ran.is_set()
    for task in hanging:
        task.cancel()
    await asyncio.wait(hanging)


async def test_a_hanging_tool_leaves_threads_for_others_and_idle_threads_are_used_again(hang, monkeypatch):
    threads = base._Threads(4)
    monkeypatch.setattr(base, "_threads", threads)
    hanging = asyncio.create_task(answer(hang))
    await asyncio.sleep(0)

    names = {(await answer(lambda: threading.current_thread().name)).content for _ in range(20)}

    assert (names, threads._count) == ({"chatstream-tool-2"}, 2)
    hanging.cancel()


async def test_cancelling_a_call_cancels_its_async_tool_and_passes_through():
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def work():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    running = asyncio.create_task(answer(work))
    await started.wait()
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    await cancelled.wait()


async def test_a_plain_tool_keeps_the_context_of_the_run():
    run_id = contextvars.ContextVar("run_id", default="none")
    run_id.set("run_7")

    assert (await answer(lambda: run_id.get())).content == "run_7"


async def test_a_plain_function_that_returns_an_awaitable_works():
    async def later(a: int) -> int:
        return a

    def work(a: int):
        return later(a)

    partial = Tool("work", "", {"type": "object"}, functools.partial(later, a=5))

    assert (await answer(work, {"a": 4})).content == "4"
    assert (await Toolbox([partial]).execute(call(), print)).content == "5"


# --- progress ---------------------------------------------------------------------------------------------------------


def in_a_thread(count: int, progress: Progress) -> str:
    for number in range(count):
        progress(f"step {number}")
    return "done"


async def on_the_loop(count: int, progress: Progress | None = None) -> str:
    return in_a_thread(count, progress)


@pytest.mark.parametrize("function", [in_a_thread, on_the_loop])
async def test_progress_arrives_on_the_loop_in_order_and_before_the_result(function):
    made = tool(function)
    seen: list[tuple[str, int]] = []

    def progress(text: str) -> None:
        seen.append((text, threading.get_ident()))

    result = await Toolbox([made]).execute(call({"count": 3}, made.name), progress)

    assert result.content == "done"
    assert list(made.parameters["properties"]) == ["count"]
    assert seen == [(f"step {number}", threading.get_ident()) for number in range(3)]


async def test_progress_is_text_that_can_be_sent_and_ends_with_the_call():
    seen: list[str] = []
    kept: list[Progress] = []

    async def work(progress: Progress):
        kept.append(progress)
        progress("\ud800")
        progress(7)

    await Toolbox([tool(work)]).execute(call(), seen.append)
    kept[0]("too late")
    await asyncio.sleep(0)

    assert seen == ["�", "7"]
