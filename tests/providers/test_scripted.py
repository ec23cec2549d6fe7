"""The scripted provider: what it plays, and the demo that shows everything in one conversation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatstream import errors, events, run, user
from chatstream.events import Grammar
from chatstream.messages import Message, Text
from chatstream.providers.scripted import Scripted
from chatstream.tools import builtin_tools


async def test_the_demo_shows_text_with_a_table_and_code_reasoning_and_two_tools_of_which_one_fails() -> None:
    grammar, said = Grammar(), []
    async for event in run("scripted:demo", [user("Show me")], builtin_tools(Path(__file__).parent)):
        grammar.check(event)
        said.append(event)
    parts = [event.value for event in said if isinstance(event, events.PartFinished)]
    assert [part.type for part in parts] == ["reasoning", "text", "tool_call", "tool_call", "text"]
    text = parts[1].text  # type: ignore[union-attr]
    assert "|---|---|" in text and "```python" in text
    results = {e.content: e.is_error for e in said if isinstance(e, events.ToolFinished)}
    assert sorted(results.values()) == [False, True] and results["42"] is False
    assert "42" in parts[4].text  # type: ignore[union-attr]
    assert isinstance(said[-1], events.RunFinished)


async def test_a_question_about_the_weather_calls_its_tool_with_the_place() -> None:
    calls = [
        event.value
        async for event in run("scripted:demo", [user("What is the weather in São Paulo?")])
        if isinstance(event, events.PartFinished) and event.value.type == "tool_call"
    ]
    assert [(call.name, call.input) for call in calls] == [  # type: ignore[union-attr]
        ("get_weather", {"location": "São Paulo"})
    ]


async def test_each_answer_of_a_conversation_is_the_next_turn_and_after_the_last_the_first() -> None:
    provider = Scripted([{"text": "one", "delay": 0}, {"text": "two", "delay": 0}])
    history: list[Message] = []
    for expected in ("one", "two", "one"):
        text = "".join([piece async for piece in provider.text([*history, user("Next")])])
        assert text == expected
        history += [user("Next"), Message("assistant", (Text(text),))]


async def test_an_error_comes_as_often_as_it_was_written() -> None:
    provider = Scripted([{"text": "Hello", "delay": 0, "error": "overloaded", "times": 1}])
    with pytest.raises(errors.Overloaded):
        _ = [piece async for piece in provider.text("Hi")]
    assert "".join([piece async for piece in provider.text("Hi")]) == "Hello"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "$ [] should be non-empty"),
        ('{"text": "x"}', "is not of type 'array'"),
        ('["x"]', "$[0] 'x' is not of type 'object'"),
        ('[{"txt": "x"}]', "txt"),
        ('[{"error": "boom"}]', "$[0].error 'boom' is not one of"),
        ('[{"finish": "never"}]', "$[0].finish 'never' is not one of"),
        ('[{"tools": [{"arguments": {}}]}]', "'name' is a required property"),
        ('[{"delay": "long"}]', "$[0].delay 'long' is not of type 'number'"),
    ],
)
def test_a_script_that_is_none_is_told_what_is_wrong(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "script.json"
    path.write_text(content)
    assert said in Scripted(str(path)).reason


def test_a_script_from_a_file_is_offered_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "tour.json"
    path.write_text(json.dumps([{"text": "x"}]))
    provider = Scripted(str(path))
    info = provider.info(provider.default_model)
    assert "/" not in info.name
    assert info.is_demo and not info.reason and info.label == "tour (no model)"
