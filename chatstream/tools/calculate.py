"""`calculate`: arithmetic on a Python expression's syntax tree, bounded at every node.

Nothing is evaluated that is not in the tables below, and no step can cost much: integers stay below `MAX_BITS`, which
powers and factorials are measured against before they are worked out; the expression's length bounds the steps.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from ..errors import ToolError
from .base import tool

Number = int | float

MAX_LENGTH = 500
MAX_DEPTH = 250  # 1 + 2 + ... nests as deep as it is long
MAX_BITS = 13_000  # some 3,900 digits: Python itself refuses to print more than 4,300
MAX_FACTORIAL = 1000
MAX_PLACES = 100

_HOW = "write it as in Python: 2 * (3 + 4), 2 ** 10, sqrt(2), 1234.5 without thousands separators"


@tool(read_only=True)
def calculate(expression: str) -> str:
    """Work out an arithmetic expression, exactly for integers.

    Args:
        expression: In Python's syntax, with + - * / // % **, the constants pi, e, tau, and functions such as sqrt,
            abs, round, min, max, sin, cos, tan, log, log10, log2, exp, floor, ceil, factorial, gcd, hypot.
    """
    if len(expression) > MAX_LENGTH:
        raise ToolError(f"the expression has {len(expression)} characters, the limit is {MAX_LENGTH}; do it in steps")
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body, MAX_DEPTH)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ToolError(f"{_short(expression)} cannot be read as arithmetic; {_HOW}") from error
    if isinstance(value, int):
        return str(value)
    text = f"{value:.15g}"
    return text if math.isfinite(float(text)) else repr(value)  # the largest would be rounded to more than there is


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and (abs(base).bit_length() - 1) * exponent > MAX_BITS:
        raise ToolError(f"{_short(base)} ** {_short(exponent)} has too many digits")
    result: Number | complex = base**exponent
    if isinstance(result, complex):
        raise ToolError(f"{_short(base)} ** {_short(exponent)} is not a real number")
    return result


def _factorial(number: Number) -> int:
    if number != int(number) or not 0 <= number <= MAX_FACTORIAL:
        raise ToolError(f"factorial takes whole numbers from 0 to {MAX_FACTORIAL}, not {_short(number)}")
    return math.factorial(int(number))


def _round(number: Number, places: Number = 0) -> Number:
    if abs(places) > MAX_PLACES:
        raise ToolError(f"round takes at most {MAX_PLACES} places, not {_short(places)}")
    return round(number, int(places)) if places else round(number)


CONSTANTS: dict[str, Number] = {"pi": math.pi, "e": math.e, "tau": math.tau}

FUNCTIONS: dict[str, Callable[..., Number]] = {
    **{"abs": abs, "min": min, "max": max, "round": _round, "pow": _power, "factorial": _factorial},
    **{
        name: getattr(math, name)
        for name in (
            *("sqrt", "cbrt", "exp", "log", "log2", "log10", "floor", "ceil", "trunc", "gcd", "lcm", "hypot"),
            *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "degrees", "radians"),
        )
    },
}

OPERATORS: dict[type[ast.AST], Callable[..., Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


def _value(node: ast.AST, depth: int) -> Number:
    """Return the value of a node, which may hold `depth` further levels; raises ToolError in words."""
    if depth == 0:
        raise ToolError(f"the expression is nested more than {MAX_DEPTH} levels deep; do it in steps")
    match node:
        case ast.Constant(value=bool() | None):
            raise ToolError(f"{_source(node)} is not a number; {_HOW}")
        case ast.Constant(value=int() | float() as value):
            return _checked(value)
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.Name(id=name):
            raise ToolError(f"{name} has no value; the names are {', '.join(CONSTANTS)} and {', '.join(FUNCTIONS)}")
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return _apply(OPERATORS[type(op)], node, [_value(operand, depth - 1)])
        case ast.BinOp(op=ast.BitXor()):
            raise ToolError("^ is not a power here; use **")
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return _apply(OPERATORS[type(op)], node, [_value(left, depth - 1), _value(right, depth - 1)])
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            return _apply(FUNCTIONS[name], node, [_value(argument, depth - 1) for argument in args])
        case ast.Call(func=ast.Name(id=name)) if name not in FUNCTIONS:
            raise ToolError(f"there is no function {name}; there are {', '.join(FUNCTIONS)}")
    raise ToolError(f"{_source(node)} is not arithmetic that is known here; {_HOW}")


def _apply(function: Callable[..., Number], node: ast.AST, values: list[Any]) -> Number:
    try:
        return _checked(function(*values))
    except ZeroDivisionError as error:
        raise ToolError(f"{_source(node)} divides by zero") from error
    except OverflowError as error:
        raise ToolError(f"{_source(node)} is too large") from error
    except ValueError as error:
        raise ToolError(f"{_source(node)} has no real value: outside of what the function is defined for") from error
    except TypeError as error:
        raise ToolError(f"{_source(node)} cannot be worked out: {error}") from error


def _checked(value: Number) -> Number:
    is_large = value.bit_length() > MAX_BITS if isinstance(value, int) else not math.isfinite(value)
    if is_large:
        raise ToolError("the result, or a step on the way, is too large a number")
    return value


def _source(node: ast.AST) -> str:
    try:
        return _short(ast.unparse(node))
    except RecursionError:
        return "the expression"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
