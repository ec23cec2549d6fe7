"""What `@tool` makes of a function: its schema, its name and its options."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, Optional

import pytest
from jsonschema import Draft202012Validator

from chatstream.errors import ConfigError
from chatstream.tools import Tool, Toolbox, tool

from .rig import Box, Colour, Endless, Point, call

SHAPES = [
    (str, {"type": "string"}, "a", "a"),
    (int, {"type": "integer"}, 3.0, 3),
    (float, {"type": "number"}, 3, 3.0),
    (bool, {"type": "boolean"}, True, True),
    (list, {"type": "array", "items": {}}, [1], [1]),
    (list[int], {"type": "array", "items": {"type": "integer"}}, [1.0], [1]),
    (dict, {"type": "object", "additionalProperties": {}}, {"a": 1}, {"a": 1}),
    (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1.0}, {"a": 1}),
    (Any, {}, [1], [1]),
    (Literal["a", 1], {"enum": ["a", 1]}, "a", "a"),
    (Colour, {"enum": ["red", "blue"]}, "blue", Colour.BLUE),
    (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}, 3.0, 3),
    (Optional[str], {"anyOf": [{"type": "string"}, {"type": "null"}]}, None, None),  # noqa: UP045
    (Colour | int, {"anyOf": [{"enum": ["red", "blue"]}, {"type": "integer"}]}, 3.0, 3),
    (Annotated[int, "how many"], {"type": "integer", "description": "how many"}, 3.0, 3),
    (
        Point,
        {
            "type": "object",
            "properties": {"x": {"type": "number"}, "label": {"type": "string"}},
            "required": ["x"],
            "additionalProperties": False,
        },
        {"x": 1},
        {"x": 1.0},
    ),
    (
        Box,
        {
            "type": "object",
            "properties": {"width": {"type": "integer"}, "colour": {"enum": ["red", "blue"]}},
            "required": ["width"],
            "additionalProperties": False,
        },
        {"width": 2.0, "colour": "blue"},
        Box(2, Colour.BLUE),
    ),
]


@pytest.mark.parametrize(("hint", "schema", "given", "got"), SHAPES, ids=[str(row[0]) for row in SHAPES])
async def test_a_type_has_a_schema_and_json_becomes_a_value_of_it(hint: Any, schema: Any, given: Any, got: Any):
    seen: list[Any] = []

    def work(value):
        seen.append(value)

    work.__annotations__ = {"value": hint}
    made = tool(work)
    Draft202012Validator.check_schema(made.parameters)
    result = await Toolbox([made]).execute(call({"value": given}), print)

    assert made.parameters["properties"]["value"] == schema
    assert not result.is_error
    assert [(type(value), value) for value in seen] == [(type(got), got)]


def test_name_description_parameters_and_defaults_come_from_the_function():
    @tool
    def find(word: str, limit: int = 5, colour: Colour = Colour.RED, near: str = None) -> list[str]:  # noqa: RUF013
        """Find a word.

        In all the books.

        Args:
            word (str): The word,
                in lower case.
            limit: At most so many: 5 or so.

        Returns:
            limit: not a description.
        """
        return [word] * limit

    assert find("a", limit=2) == ["a", "a"]
    assert find.to_json() == {
        "name": "find",
        "description": "Find a word.\n\nIn all the books.",
        "parameters": {
            "type": "object",
            "properties": {
                "word": {"type": "string", "description": "The word, in lower case."},
                "limit": {"type": "integer", "description": "At most so many: 5 or so.", "default": 5},
                "colour": {"enum": ["red", "blue"], "default": "red"},
                "near": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            },
            "required": ["word"],
            "additionalProperties": False,
        },
        "readOnly": False,
        "approval": "never",
    }


def test_options_of_the_decorator_are_fields_of_the_tool():
    @tool(name="other", description="Told.", read_only=True, approval="always", timeout=5, max_output=9)
    async def work() -> None: ...

    assert (work.name, work.description, work.read_only, work.approval) == ("other", "Told.", True, "always")
    assert (work.timeout, work.max_output) == (5, 9)


def no_annotation(a): ...
def star(*args: int): ...
def stars(**kwargs: int): ...
def positional(a: int, /): ...
def no_schema(a: date): ...
def keys_of_int(a: dict[int, str]): ...
def holds_itself(a: Endless): ...
def bytes_literal(a: Literal[b"x"]): ...


@pytest.mark.parametrize(
    "function", [no_annotation, star, stars, positional, no_schema, keys_of_int, holds_itself, bytes_literal]
)
def test_a_parameter_without_a_schema_is_an_error_that_names_it_and_what_can_be_used(function):
    with pytest.raises(ConfigError, match=rf"tool {function.__name__}: parameter \W*(a|args|kwargs).*use "):
        tool(function)


def test_an_annotation_that_means_nothing_is_an_error_that_names_the_tool():
    def work(a: Nowhere): ...  # noqa: F821

    with pytest.raises(ConfigError, match=r"tool work: .*Nowhere"):
        tool(work)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "é", "a" * 65, "a\n"])
def test_a_name_that_the_apis_refuse_is_an_error(name):
    with pytest.raises(ConfigError, match="a name is"):
        Tool(name, "", {}, print)


def test_an_async_approval_is_an_error_and_not_one_that_always_asks():
    async def ask(input: dict[str, Any]) -> bool:
        return False

    with pytest.raises(ConfigError, match="plain function"):
        tool(name="work", approval=ask)(lambda: "")


def test_a_misspelt_approval_is_an_error_and_not_a_tool_that_runs_unasked():
    with pytest.raises(ConfigError, match="'allways'"):
        Tool("work", "", {}, print, approval="allways")


APPROVALS = [
    ("never", False, "never"),
    ("always", True, "always"),
    (lambda input: input["amount"] > 5, True, "depends"),
    (lambda input: input["amount"] > 50, False, "depends"),
    (lambda input: input["missing"], True, "depends"),
]


@pytest.mark.parametrize(("approval", "needed", "shown"), APPROVALS)
def test_approval_is_fixed_or_a_function_of_the_input_and_in_doubt_needed(approval, needed, shown):
    made = Tool("pay", "", {}, print, approval=approval)

    assert made.needs_approval({"amount": 10}) is needed
    assert made.to_json()["approval"] == shown
