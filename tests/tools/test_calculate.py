"""`calculate` is right, says in words what is wrong, and cannot be made to work long."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatstream.errors import ToolError
from chatstream.tools.calculate import FUNCTIONS, MAX_BITS, calculate

RIGHT = [
    ("1 + 2 * 3", "7"),
    (" (1 + 2) * 3\n", "9"),
    ("0.1 + 0.2", "0.3"),
    ("1 / 3", "0.333333333333333"),
    ("6 / 2", "3"),
    ("7 // 2", "3"),
    ("-7 % 3", "2"),
    ("2 ** 100", "1267650600228229401496703205376"),
    ("2 ** -1", "0.5"),
    ("1 ** 10 ** 9", "1"),
    ("0 ** 0", "1"),
    ("1_000 + 0x10", "1016"),
    ("1e300 * 10", "1e+301"),
    ("sqrt(16)", "4"),
    ("round(2.567, 2)", "2.57"),
    ("round(1234, -2)", "1200"),
    ("round(2.6)", "3"),
    ("max(1, 2.5, -3)", "2.5"),
    ("factorial(20)", "2432902008176640000"),
    ("gcd(12, 18)", "6"),
    ("hypot(3, 4)", "5"),
    ("floor(-1.5) + ceil(1.2)", "0"),
    ("log(8, 2) + log10(1000) + log2(8)", "9"),
    ("sin(pi / 2) + cos(tau)", "2"),
    ("log(e)", "1"),
    ("10 ** 400 // 10 ** 399", "10"),
    ("+".join(["1"] * 240), "240"),
]


@pytest.mark.parametrize(("expression", "result"), RIGHT)
def test_an_expression_has_its_value(expression, result):
    assert calculate(expression) == result


WRONG = [
    ("", "cannot be read"),
    ("2 +", "cannot be read"),
    ("5!", "cannot be read"),
    ("1; 2", "cannot be read"),
    ("(" * 300, "cannot be read"),
    ("1 / 0", "1 / 0 divides by zero"),
    ("5 % 0", "divides by zero"),
    ("0 ** -1", "divides by zero"),
    ("sqrt(-1)", r"sqrt\(-1\) has no real value"),
    ("log(0)", "has no real value"),
    ("(-8) ** 0.5", "not a real number"),
    ("2 ^ 3", r"use \*\*"),
    ("x + 1", "x has no value; the names are pi"),
    ("eval('1')", "no function eval; there are abs"),
    ("sqrt", "sqrt has no value"),
    ("True", "True is not a number"),
    ("None", "None is not a number"),
    ("'a' * 9", "'a' is not arithmetic"),
    ("2j", "2j is not arithmetic"),
    ("1,000", "without thousands separators"),
    ("1 < 2", "is not arithmetic"),
    ("[1][0]", "is not arithmetic"),
    ("(lambda: 1)()", "is not arithmetic"),
    ("pi.real", "is not arithmetic"),
    ("min(*[1])", "is not arithmetic"),
    ("round(number=1)", "is not arithmetic"),
    ("1 if 1 else 2", "is not arithmetic"),
    ("~1", "is not arithmetic"),
    ("min(1)", "cannot be worked out"),
    ("sqrt()", "cannot be worked out"),
    ("gcd(1.5, 2)", "cannot be worked out"),
    ("factorial(0.5)", "whole numbers from 0 to 1000"),
    ("factorial(-1)", "whole numbers"),
    ("factorial(1001)", "whole numbers"),
    ("9 ** 9 ** 9", "too many digits"),
    ("pow(9, 99999999)", "too many digits"),
    ("2 ** 13000", "too large"),
    ("10.0 ** 999", "too large"),
    ("1e999", "too large"),
    ("exp(1000)", "too large"),
    ("10 ** 400 / 3", "too large"),
    ("round(1, -10 ** 9)", "at most 100 places"),
    ("-" * 400 + "1", "nested more than 250 levels"),
    ("[" + "-" * 400 + "1]", "is not arithmetic|cannot be read"),
    ("1" * 501, "the limit is 500"),
]


@pytest.mark.parametrize(("expression", "message"), WRONG)
def test_what_cannot_be_worked_out_is_said_in_words(expression, message):
    with pytest.raises(ToolError, match=message) as caught:
        calculate(expression)

    assert len(caught.value.message) < 400


NAMES = st.sampled_from([*FUNCTIONS, "pi", "e", "eval", "__import__"])
NUMBERS = st.one_of(st.integers(-(10**30), 10**30), st.floats(), st.sampled_from([0, 0.0, -1, 10**9, 1000, 1e308])).map(
    repr
)
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "^"]
EXPRESSIONS = st.recursive(
    NUMBERS | NAMES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(OPERATORS), inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(NAMES, st.lists(inner, max_size=3)).map(lambda parts: f"{parts[0]}({', '.join(parts[1])})"),
        inner.map("-{}".format),
    ),
    max_leaves=20,
)


@given(EXPRESSIONS | st.text(max_size=60))
@example("2 ** 12999 * 2 ** 12999")
@example("lcm(2 ** 9999, 3 ** 8000, 7 ** 4000)")
def test_whatever_is_asked_ends_in_a_short_number_or_a_tool_error(expression):
    try:
        result = calculate(expression)
    except ToolError:
        return
    assert math.isfinite(float(result)) if len(result) < 300 else int(result).bit_length() <= MAX_BITS


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_no_function_makes_more_of_the_largest_numbers_than_is_allowed(name):
    largest = f"(2 ** {MAX_BITS - 1})"
    for arguments in (largest, f"{largest}, {largest}", f"-{largest}", f"2, -{largest}", f"{largest}, 0.5"):
        try:
            assert len(calculate(f"{name}({arguments})")) <= MAX_BITS // 3
        except ToolError as error:
            assert len(error.message) < 300
