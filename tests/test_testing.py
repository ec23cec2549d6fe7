"""The fake provider: what it plays, how its bytes arrive, and what it says where a test uses it wrongly."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from chatstream import run
from chatstream.errors import ProviderRefused
from chatstream.testing import Call, FakeProvider, Recorded, Turn, chat_stream, messages_stream
from chatstream.testing.controls import rewrite, split_events, steps
from chatstream.testing.streams import STREAMS
from tests.runs import SDKS, SETTINGS, add

pytest_plugins = ["pytester"]

BODY = messages_stream(Turn(text="Hello, how are you?", chunk=4))


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(
    session: aiohttp.ClientSession, fake: FakeProvider, api: str = "messages", **more: Any
) -> tuple[int, Any]:
    """Return the status of an answer and its body, as JSON where it is an error."""
    body = {"model": "m", "stream": True, **more}
    async with session.post(f"{fake.url}/v1/{api}", json=body) as response:
        read = await response.read()
        return response.status, read if response.status == 200 else json.loads(read)


# --- how a body goes out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [0, 1, 7, "event", "random"])
def test_a_body_is_whole_however_it_is_cut(write: Any) -> None:
    pieces = list(steps(BODY, Turn(write=write)))
    assert b"".join(piece or b"" for piece in pieces) == BODY
    if write == "event":
        assert pieces == split_events(BODY) and all(piece and piece.endswith(b"\n\n") for piece in pieces)
    elif write == "random":
        assert pieces == list(steps(BODY, Turn(write=write))) != list(steps(BODY, Turn(write=write, seed=1)))
    else:
        assert {len(piece or b"") for piece in pieces[:-1]} <= {write}


def test_each_line_end_and_mark_is_rewritten() -> None:
    for name, eol in {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}.items():
        written = rewrite(rewrite(BODY, Turn(eol="crlf")), Turn(eol=name, bom=True))  # type: ignore[arg-type]
        assert written == b"\xef\xbb\xbf" + BODY.replace(b"\n", eol)
        assert b"".join(split_events(written)) == written and len(split_events(written)) == len(split_events(BODY))


def test_a_comment_comes_before_every_kth_event_and_a_line_of_data_is_cut() -> None:
    commented = split_events(rewrite(BODY, Turn(comment=3)))
    assert [at for at, event in enumerate(commented) if event == b": keep-alive\n\n"][:2] == [2, 6]
    lines = rewrite(BODY, Turn(bad_json=2)).split(b"\n")
    broken = [at for at, line in enumerate(re.findall(rb"data: (.*)", b"\n".join(lines))) if not is_json(line)]
    assert broken == [1]


def is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("write", [0, 5, "event"])
def test_a_body_ends_breaks_and_stalls_at_the_byte(write: Any) -> None:
    assert b"".join(filter(None, steps(BODY, Turn(write=write, end=50)))) == BODY[:50]
    assert b"".join(filter(None, steps(BODY, Turn(write=write, drop=50)))) == BODY[:50]
    for stall in (0, 50, len(BODY), len(BODY) + 9):
        pieces = list(steps(BODY, Turn(write=write, stall=stall)))
        at = pieces.index(None)
        assert pieces.count(None) == 1 and b"".join(filter(None, pieces)) == BODY
        assert sum(len(piece or b"") for piece in pieces[:at]) == min(stall, len(BODY))


async def test_a_stall_can_end(session: aiohttp.ClientSession) -> None:
    async with FakeProvider([Turn(raw=BODY, stall=50, stall_for=0.01)]) as fake:
        assert await ask(session, fake) == (200, BODY)


async def test_a_turn_is_refused_some_times_and_then_played(session: aiohttp.ClientSession) -> None:
    twice = Turn(status=529, times=2, retry_after=3, raw=BODY)
    async with FakeProvider([twice, Turn(status=401), twice]) as fake:
        assert [(await ask(session, fake))[0] for _ in range(7)] == [529, 529, 200, 401, 529, 529, 200]
        assert fake.misuse == []


async def test_a_recorded_body_is_played_from_its_file(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    (tmp_path / "one.sse").write_bytes(BODY)
    async with FakeProvider([Turn.from_file(tmp_path / "one.sse", write=9, bom=True)]) as fake:
        assert await ask(session, fake) == (200, b"\xef\xbb\xbf" + BODY)
        assert fake.requests[0].sent == len(BODY) + 3


# --- what it is used for ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sdk", SDKS)
async def test_a_request_says_which_tools_were_offered_and_what_they_came_to(sdk: str) -> None:
    async with FakeProvider([Turn(tools=[Call("add", {"a": 1, "b": 2})]), Turn(text="3")]) as fake:
        said = [event async for event in run(getattr(fake, sdk)(), "1 + 2?", [add], SETTINGS)]
    assert [event.input for event in said if event.type == "tool_started"] == [{"a": 1, "b": 2}]
    assert [(request.tools, request.results) for request in fake.requests] == [(["add"], []), (["add"], ["3"])]


async def test_each_model_has_its_own_turns(session: aiohttp.ClientSession) -> None:
    async with FakeProvider({"a": [Turn(raw=b"1"), Turn(raw=b"2")], "b": [Turn(raw=b"3")]}) as fake:
        said = [await ask(session, fake, model=model) for model in "aba"]
        assert [body for _, body in said] == [b"1", b"3", b"2"]
        status, body = await ask(session, fake, model="c")
        assert (status, body["error"]["message"]) == (404, "the fake provider has no turns for 'c', only for a, b")


@pytest.mark.parametrize("api", STREAMS)
async def test_an_error_has_the_form_of_the_api(api: str, session: aiohttp.ClientSession) -> None:
    async with FakeProvider([Turn(status=429, retry_after=7)]) as fake:
        status, body = await ask(session, fake, api)
    assert status == 429 and body["error"]["type"] == "rate_limit_error"
    assert body.get("type") == ("error" if api == "messages" else None)
    assert ("code" in body["error"]) is (api != "messages")


# --- wrong use --------------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Any, str]] = {
    "words beside a whole body": (lambda: Turn(raw=b"", text="Hello"), "text would never be said"),
    "a write of another kind": (lambda: Turn(write="word"), "'word'"),  # type: ignore[arg-type]
    "a write of less than nothing": (lambda: Turn(write=-1), "and not -1"),
    "pieces of nothing": (lambda: Turn(text="Hello", chunk=0), "1 character or more"),
    "a name as a call": (lambda: Turn(tools=["add"]), "Call\\(name, arguments\\), and not 'add'"),  # type: ignore[list-item]
    "a line end that is none": (lambda: Turn(eol="\n"), "'lf', 'crlf' or 'cr'"),  # type: ignore[arg-type]
    "two ends": (lambda: Turn(drop=1, end=2), "not both"),
    "times of nothing": (lambda: Turn(times=2), "give that status"),
    "one turn": (lambda: FakeProvider(Turn(text="Hello")), "a list of turns"),  # type: ignore[arg-type]
    "a text as turn": (lambda: FakeProvider(["Hello"]), "Turn\\(text=...\\), and not 'Hello'"),  # type: ignore[list-item]
    "a provider before it listens": (lambda: FakeProvider([]).anthropic(), "async with FakeProvider"),
}


@pytest.mark.parametrize(("use", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_use_is_refused_at_once(use: Any, told: str) -> None:
    with pytest.raises((ValueError, TypeError, RuntimeError), match=told):
        use()


async def test_a_request_that_nobody_provided_for_is_answered_and_noted(session: aiohttp.ClientSession) -> None:
    async with FakeProvider([Turn(raw=BODY)]) as fake:
        answers = [
            await ask(session, fake),
            await ask(session, fake),
            await ask(session, fake, stream=False),
            await ask(session, fake, model=None),
            await ask(session, fake, "v1/messages"),
        ]
    assert [status for status, _ in answers] == [200, 400, 400, 400, 404]
    told = ["1 turns, and this is request 2", '"stream": true', "names no model", "/v1/v1/messages was asked"]
    for (_, body), misuse, words in zip(answers[1:], fake.misuse, told, strict=True):
        assert words in misuse and body["error"]["message"] == misuse


async def test_a_function_sees_each_request() -> None:
    def turn(request: Recorded) -> Turn:
        return Turn(raw=chat_stream(Turn(text=request.body["messages"][-1]["content"].upper())))

    async with FakeProvider(turn) as fake:
        assert "".join([text async for text in fake.openai_chat().text("hello")]) == "HELLO"


FAILING = {
    "an exception": (lambda request: 1 / 0, "ZeroDivisionError: division by zero"),
    "no turn": (lambda request: None, "TypeError: a turn is Turn\\(text=...\\), and not None"),
}


@pytest.mark.parametrize(("turn", "told"), FAILING.values(), ids=FAILING)
async def test_a_function_that_fails_is_a_misuse_and_not_a_failing_provider(turn: Any, told: str) -> None:
    async with FakeProvider(turn) as fake:
        with pytest.raises(ProviderRefused):
            [text async for text in fake.openai_chat().text("hello")]
        assert len(fake.requests) == 1
    assert re.search(told, fake.misuse[0])


# --- the fixture ------------------------------------------------------------------------------------------------------

PROGRAM = """
from chatstream import get_provider, run
from chatstream.testing import Turn

pytest_plugins = ["chatstream.testing.plugin"]

async def test_a_model_by_its_name(fake_provider):
    fake = await fake_provider([Turn(text="Hello"), Turn(text="again")])
    for name in ("anthropic:a", "openai-chat:b"):
        assert [event async for event in run(name, "Hi")][-1].type == "run_finished"
    assert [request.body["model"] for request in fake.requests] == ["a", "b"]

async def test_one_turn_too_few(fake_provider):
    fake = await fake_provider([Turn(text="Hello")])
    for _ in range(2):
        [event async for event in run(fake.anthropic(), "Hi")]
"""


def test_the_fixture_serves_models_by_name_and_fails_a_test_that_asks_for_more(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PROGRAM)
    result = pytester.runpytest_inprocess("-o", "asyncio_mode=auto", "-p", "no:cacheprovider", "-W", "ignore")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*the fake provider has 1 turns, and this is request 2*"])
