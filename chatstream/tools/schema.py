"""Reads a function's signature and docstring into what a model is told of it: JSON Schema 2020-12.

A `Shape` is a type seen from both sides: the schema of its JSON, and the function that makes the Python value of JSON
which fits the schema (an Enum's member, a dataclass, the integer 3 of `3.0`, which JSON Schema counts as an integer).
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from itertools import takewhile
from textwrap import dedent
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import orjson

from ..errors import ConfigError

USABLE = "str, int, float, bool, list[T], dict[str, T], Literal, Enum, TypedDict, a dataclass, Any, and unions of these"


class Shape(NamedTuple):
    schema: dict[str, Any]
    convert: Callable[[Any], Any]


class Signature(NamedTuple):
    """`parameters` is the schema of a function's arguments, `convert` makes keyword arguments of an object that fits.

    `injected` is the name of the parameter that the caller fills and no model sees, "" where there is none.
    """

    parameters: dict[str, Any]
    convert: Callable[[dict[str, Any]], dict[str, Any]]
    injected: str


def _same(value: Any) -> Any:
    return value


_SCALARS: dict[Any, Shape] = {
    str: Shape({"type": "string"}, _same),
    int: Shape({"type": "integer"}, int),
    float: Shape({"type": "number"}, float),
    bool: Shape({"type": "boolean"}, _same),
    NoneType: Shape({"type": "null"}, _same),
}


def read_signature(function: Callable[..., Any], name: str, injected: Any) -> Signature:
    """Read the parameters of `function`; one annotated with the type `injected` is left out of the schema.

    Raises ConfigError, naming the tool `name` and the parameter, for what has no schema.
    """
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise ConfigError(f"tool {name}: its annotations cannot be read: {error}") from error
    texts = read_docstring(function)[1]
    fields: dict[str, Shape] = {}
    required = []
    filled = ""
    for parameter in inspect.signature(function).parameters.values():
        hint = hints.get(parameter.name, parameter.empty)
        if injected in (hint, *get_args(hint)):
            filled = parameter.name
            continue
        fields[parameter.name] = _parameter(name, parameter, hint, texts.get(parameter.name))
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    shape = _object(fields, required, dict)
    return Signature(shape.schema, shape.convert, filled)


def _parameter(tool: str, parameter: inspect.Parameter, hint: Any, text: str | None) -> Shape:
    where = f"tool {tool}: parameter {parameter}"
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise ConfigError(f"{where} cannot be given by name, as a model does; use plain named parameters")
    if hint is parameter.empty:
        raise ConfigError(f"{where} has no annotation; use {USABLE}")
    default = parameter.default
    try:
        shape = shape_of(hint if default is not None else hint | None)
    except (TypeError, NameError, RecursionError) as error:
        raise ConfigError(f"{where} is of a type that has no JSON schema; use {USABLE}") from error
    extras = {"description": text} if text and "description" not in shape.schema else {}
    return shape._replace(schema=shape.schema | extras | _default(default))


def _default(value: Any) -> dict[str, Any]:
    """Return `value` as a schema's default, or nothing where there is none or JSON cannot say it."""
    try:
        return {} if value is inspect.Parameter.empty else {"default": orjson.loads(orjson.dumps(value))}
    except TypeError:
        return {}


def shape_of(hint: Any) -> Shape:
    """Return the shape of a type; TypeError where it has none, RecursionError where it holds itself."""
    origin, args = get_origin(hint) or hint, get_args(hint)
    if origin is Annotated:
        inner = shape_of(args[0])
        text = next((extra for extra in args[1:] if isinstance(extra, str)), None)
        return inner._replace(schema=inner.schema | {"description": text}) if text else inner
    if origin in (Required, NotRequired):
        return shape_of(args[0])
    if origin is Literal:
        return _choice({value: value for value in args})
    if origin in (Union, UnionType):
        return _union([shape_of(arg) for arg in args])
    if origin is list:
        item = shape_of(*(args or (Any,)))
        return Shape({"type": "array", "items": item.schema}, lambda values: [item.convert(value) for value in values])
    if origin is dict:
        return _mapping(*(args or (str, Any)))
    return Shape({}, _same) if hint is Any else _class(hint)


def _class(kind: Any) -> Shape:
    if kind in _SCALARS:
        return _SCALARS[kind]
    if not isinstance(kind, type):
        raise TypeError(kind)
    if issubclass(kind, Enum):
        return _choice({member.value: member for member in kind})
    hints = get_type_hints(kind, include_extras=True)
    if is_typeddict(kind):
        fields = {key: shape_of(hint) for key, hint in hints.items()}
        return _object(fields, [key for key in hints if _is_required(kind, key, hints[key])], dict)
    if dataclasses.is_dataclass(kind):
        given = {field.name: field for field in dataclasses.fields(kind) if field.init}
        missing = dataclasses.MISSING
        required = [key for key, field in given.items() if field.default is field.default_factory is missing]
        return _object({key: shape_of(hints[key]) for key in given}, required, lambda values: kind(**values))
    raise TypeError(kind)


def _is_required(kind: Any, key: str, hint: Any) -> bool:
    # __required_keys__ is wrong for NotRequired in string annotations (docs.python.org/3/library/typing.html).
    return get_origin(hint) is Required or (get_origin(hint) is not NotRequired and key in kind.__required_keys__)


def _choice(values: Mapping[Any, Any]) -> Shape:
    if not all(value is None or isinstance(value, str | int | float) for value in values):
        raise TypeError(values)
    plain = orjson.loads(orjson.dumps(list(values)))
    return Shape({"enum": plain}, lambda value: values[value])


def _mapping(key: Any, value: Any) -> Shape:
    if key is not str:
        raise TypeError(key)
    item = shape_of(value)
    return Shape(
        {"type": "object", "additionalProperties": item.schema},
        lambda values: {name: item.convert(value) for name, value in values.items()},
    )


def _union(shapes: list[Shape]) -> Shape:
    def convert(value: Any) -> Any:
        return next(shape.convert(value) for shape in shapes if next(violations(shape.schema, value), None) is None)

    return Shape({"anyOf": [shape.schema for shape in shapes]}, convert)


def _object(fields: dict[str, Shape], required: list[str], build: Callable[[dict[str, Any]], Any]) -> Shape:
    schema = {
        "type": "object",
        "properties": {name: shape.schema for name, shape in fields.items()},
        "required": required,
        "additionalProperties": False,
    }
    return Shape(schema, lambda values: build({name: fields[name].convert(value) for name, value in values.items()}))


# --- validation -------------------------------------------------------------------------------------------------------


def violations(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    """Yield a jsonschema ValidationError for everything in `value` that does not fit `schema`."""
    # Imported here: it takes 0.1 s, and many a run calls no tool.
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped,unused-ignore]

    yield from Draft202012Validator(schema).iter_errors(value)


def word(error: Any) -> str:
    """Return what a ValidationError says, in about 300 characters, and for an unknown name those that are known."""
    message: str = error.message
    if len(message) > 300:
        message = f"{message[:150]} ... {message[-150:]}"
    if error.validator == "additionalProperties":
        message += f"; what is known: {', '.join(error.schema['properties']) or 'nothing'}"
    return message


# --- docstrings -------------------------------------------------------------------------------------------------------

_SECTION = re.compile(r"^(Args|Arguments|Parameters|Returns|Raises|Yields|Examples?|Notes?):[ \t]*$", re.MULTILINE)
_ENTRY = re.compile(r"^\*{0,2}(\w+)[ \t]*(?:\(.*?\))?:[ \t]*(.*(?:\n(?:[ \t]+.*|[ \t]*$))*)", re.MULTILINE)


def read_docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return the text before the first section of a Google-style docstring, and its Args by name, each on one line."""
    text, *parts = _SECTION.split(inspect.getdoc(function) or "")
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    body = next((sections[title] for title in ("Args", "Arguments", "Parameters") if title in sections), "")
    lines = takewhile(lambda line: not line or line[0].isspace(), body.split("\n"))
    entries = _ENTRY.findall(dedent("\n".join(lines)))
    return text.strip(), {name: " ".join(words.split()) for name, words in entries}
