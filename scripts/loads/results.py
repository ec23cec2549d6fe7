"""What scripts/load.py writes: the shape of a result file, reading it, and asking it for its numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import jsonschema

from .launch import LoadError
from .markup import shorten
from .plot import LEAST, Point

UNKNOWN = "—"


class BadResult(LoadError):
    """A file that is no result of scripts/load.py; the message says which, what was met and what was expected."""


LARGEST = {"minimum": -1e15, "maximum": 1e15}  # what is beyond is a mistake, and cannot be drawn
NUMBER = {"type": ["number", "null"], **LARGEST}
NUMBERS = {"type": "array", "items": NUMBER}
OBJECT = {"type": ["object", "null"]}
SUMMARY = {"type": ["object", "null"], "additionalProperties": NUMBER}
BUCKETS = {
    "type": ["array", "null"],
    "items": {"type": "array", "items": {"type": "number", **LARGEST}, "minItems": 2, "maxItems": 2},
}
CHECK = {
    "type": "object",
    "required": ["text", "ok"],
    "properties": {
        "text": {"type": "string"},
        "ok": {"type": "boolean"},
        "met": {"type": ["number", "string", "boolean", "null"]},
        "limit": {"type": ["number", "string", "boolean", "null"]},
    },
}
STEP = {
    "type": "object",
    "required": ["streams"],
    "properties": {
        "streams": {"type": "number", **LARGEST},
        "ok": {"type": ["boolean", "null"]},
        **dict.fromkeys(("latencyP99Ms", "gapP99Ms", "share", "cpu"), NUMBER),
    },
}
SCENARIO = {
    "type": "object",
    "required": ["scenario"],
    "properties": {
        "scenario": {"type": "string"},
        "options": OBJECT,
        "streams": {"type": ["object", "null"], "additionalProperties": NUMBER},
        "errors": {"type": ["object", "null"], "additionalProperties": {"type": "integer"}},
        **dict.fromkeys(("seconds", "deltas", "frames", "bytes", "deltasPerSecond", "share"), NUMBER),
        **dict.fromkeys(("longestSilenceMs", "breakingPoint"), NUMBER),
        **dict.fromkeys(("ttftMs", "firstByteMs", "latencyMs", "gapMs", "stopMs", "closedUpstreamMs"), SUMMARY),
        "histograms": {"type": ["object", "null"], "additionalProperties": BUCKETS},
        "series": {"type": ["object", "null"], "additionalProperties": {"anyOf": [NUMBERS, {"type": "null"}]}},
        "server": {"type": ["object", "null"], "additionalProperties": NUMBER},
        "steps": {
            "type": ["array", "null"],
            "items": STEP,
        },
        "checks": {"type": ["array", "null"], "items": CHECK},
    },
}
RESULT = {
    "type": "object",
    "required": ["chatstreamLoad", "name", "scenarios"],
    "properties": {
        "chatstreamLoad": {"const": 1},
        "name": {"type": "string"},
        "date": {"type": ["string", "null"]},
        **dict.fromkeys(("machine", "versions", "target"), OBJECT),
        "command": {"type": ["array", "null"], "items": {"type": "string"}},
        "scenarios": {"type": "array", "items": SCENARIO, "minItems": 1},
        "ok": {"type": ["boolean", "null"]},
    },
}
VALIDATOR = jsonschema.Draft202012Validator(RESULT)


def read(paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """Read result files; raises `BadResult`."""
    results = []
    for path in map(Path, paths):
        try:
            result = json.loads(path.read_bytes(), parse_constant=refuse, parse_float=finite)
        except OSError as error:
            raise BadResult(f"{path}: {error.strerror}; expected a result file of scripts/load.py") from None
        except (ValueError, RecursionError) as error:
            raise BadResult(f"{path}: no JSON ({error}); expected a result file of scripts/load.py") from None
        check(result, str(path))
        results.append(result)
    return results


def refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number here")


def finite(text: str) -> float:
    return value if math.isfinite(value := float(text)) else refuse(text)


def check(result: object, name: str) -> None:
    """Raise `BadResult` if this is not what scripts/load.py writes; `name` says where it came from."""
    error = jsonschema.exceptions.best_match(VALIDATOR.iter_errors(result))
    if error is not None:
        raise BadResult(
            f"{name}: at {error.json_path} {shorten(error.message, 160)}; expected a result of scripts/load.py"
        )
    if isinstance(result, dict):
        for scenario in result["scenarios"]:
            series = scenario.get("series") or {}
            count = len(series.get("t") or ())
            for key, values in series.items():
                if values and len(values) != count:
                    where = f"{name}: series {key} of {scenario['scenario']}"
                    raise BadResult(f"{where} has {len(values)} values; expected {count}, one for each of its t")


@dataclass(frozen=True)
class Run:
    """A scenario of a result, by its heading; `number` is the result's and decides the look of its lines."""

    number: int
    name: str
    scenario: str
    data: dict[str, Any]

    def value(self, path: str) -> float | None:
        """Return the number at a path like `ttftMs.p99`, None where it is not known."""
        found: Any = self.data | {"held": self.held}
        for key in path.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, (int, float)) and not isinstance(found, bool) else None

    @property
    def held(self) -> float | None:
        """The most streams at which a ramp's server kept up, None where there was none."""
        steps = self.data.get("steps") or []
        return max((each["streams"] for each in steps if each.get("ok")), default=0) if steps else None

    def series(self, key: str) -> list[Point]:
        """Return (second, value) of one of `series`; none where no value is known."""
        series = self.data.get("series") or {}
        times, values = series.get("t") or [], series.get(key) or []
        return _if_known([(at, value) for at, value in zip(times, values, strict=False) if at is not None])

    def buckets(self, key: str) -> list[tuple[float, float]]:
        """Return a histogram's (upper edge, count), edges rising."""
        found = (self.data.get("histograms") or {}).get(key) or []
        return sorted((upper, count) for upper, count in found if upper > LEAST and count > 0)

    def steps(self, key: str) -> list[Point]:
        """Return (streams, value) of each step of a ramp; none where no value is known."""
        steps = sorted(self.data.get("steps") or [], key=itemgetter("streams"))
        return _if_known([(each["streams"], each.get(key)) for each in steps])

    @property
    def broken(self) -> frozenset[float]:
        """The numbers of streams at which the server did not keep up."""
        return frozenset(each["streams"] for each in self.data.get("steps") or [] if not each.get("ok", True))

    def percentiles(self, key: str) -> dict[str, float]:
        """Return p50, p99 and max of a summary, nothing where one of them is not known."""
        found = {p: value for p in ("p50", "p99", "max") if (value := self.value(f"{key}.{p}")) is not None}
        return found if len(found) == 3 else {}


def _if_known(points: list[Point]) -> list[Point]:
    return points if any(value is not None for _, value in points) else []


def figure(value: object) -> str:
    """Write a value for reading: three digits, thousands apart."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (int, float)):
        return UNKNOWN if value is None else str(value)
    return f"{value:,.0f}" if abs(value) >= 99.95 or value == round(value) else f"{value:.3g}"


def measure(value: float | None, unit: str) -> str:
    if value is None:
        return UNKNOWN
    if unit == "%":
        return f"{figure(round(value * 100, 1))}%"
    return f"{figure(value)} {unit}".strip()
