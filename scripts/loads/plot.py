"""Draws plots as SVG: round ticks, and lines told apart by colour, dash and marker alike.

Colours come from the style sheet by the class of a run (`s0` to `s5`), so that a plot follows light and dark. A plot is
as wide as a phone and is laid out beside others, not stretched: its letters keep their size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .markup import Markup, element, join, shorten

WIDTH, HEIGHT = 380, 216
LEFT, RIGHT, TOP, BOTTOM = 50, 20, 24, 36
# As many as none shares a factor with the others, so that 5 * 6 runs look each their own way.
COLOURS = 6
DASHES = (None, "7 3", "2 2.5", "10 3 2 3", "14 4")
MARKERS = {
    "circle": "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",
    "square": "M-3.2-3.2h6.4v6.4h-6.4z",
    "triangle": "M0-4.2L4 3H-4z",
    "diamond": "M0-4.6L4 0L0 4.6L-4 0z",
    "turned": "M0 4.2L4-3H-4z",
    "bar": "M-1.5-4.5h3v9h-3z",
    "beam": "M-4.5-1.5h9v3h-9z",
}
SHAPES = tuple(MARKERS.values())
LONGEST = 40  # letters of a name in a plot; the legend has all of it
MARKED = 6  # markers on a line of many points
MOST_POINTS = 600
LEAST = 1e-9  # that is told from 0
CROSS = "M-5-5L5 5M-5 5L5-5"

Point = tuple[float, float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """A run's line: x rises, y None is a gap; `crossed` are the points marked by a cross."""

    run: int
    name: str
    points: Sequence[Point]
    crossed: frozenset[float] = frozenset()


@dataclass(frozen=True, slots=True)
class Axis:
    """From `low` to `high` with its ticks, which are round; a share is written in percent."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False
    percent: bool = False

    def at(self, value: float) -> float:
        """Return how far along the axis a value is, 0 to 1."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return min(max((value - low) / (high - low), 0), 1)

    def text(self, tick: float) -> str:
        return f"{tick * 100:,.10g}%" if self.percent else f"{tick:,.10g}"


def linear(label: str, values: Iterable[float], from_zero: bool = True, percent: bool = False, count: int = 5) -> Axis:
    """Make an axis in steps of 1, 2 or 5, from 0 or, without `from_zero`, where values far from it begin."""
    values = [*values, 0.0] if from_zero else list(values)
    low, high = min(values), max(values)
    width = high - low if high - low > LEAST else abs(high) if abs(high) > LEAST else 1.0
    step = nice(width / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last += first == last
    return Axis(label, first * step, last * step, tuple(n * step for n in range(first, last + 1)), percent=percent)


def minutes_or_seconds(values: Sequence[float]) -> tuple[Axis, float]:
    """Make an axis of time since the start; returns it and the seconds of its unit."""
    unit = 60.0 if max(values, default=0) > 300 else 1.0
    axis = linear("minutes since the start" if unit > 1 else "seconds since the start", [v / unit for v in values])
    # It ends with the data: no empty room on the right.
    high = max(values, default=0) / unit
    high = high if high > LEAST else axis.high
    return Axis(axis.label, axis.low, high, tuple(tick for tick in axis.ticks if tick <= high)), unit


def nice(step: float) -> float:
    """Return the next of 1, 2, 5, 10, ... in any power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return power * next(n for n in (1, 2, 5, 10) if step <= n * power * (1 + 1e-9))


def logarithmic(label: str, values: Iterable[float], percent: bool = False) -> Axis:
    """Make an axis between two of 1, 2, 5, 10, ...; values that are not positive lie at its beginning."""
    positive = [value for value in values if value > LEAST] or [1.0]
    low, high = 1 / nice(1 / min(positive)), nice(max(positive))
    # The reciprocal of 5 is 2: what was rounded up there may lie over the value.
    low = low if low <= min(positive) else low / 2
    if low == high:
        low, high = low / 2, high * 2
    decades = math.log10(high / low)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = max(1, round(decades / 6))
    each = (1, 2, 5) if decades <= 2 else (1,)
    ticks = [n * 10.0**power for power in exponents if power % every == 0 for n in each]
    inside = tuple(tick for tick in ticks if low * 0.999 <= tick <= high * 1.001)
    return Axis(label, low, high, inside, log=True, percent=percent)


def plot(
    name: str,
    title: str,
    description: str,
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    *,
    filled: bool = False,
    breaks: Sequence[tuple[int, float]] = (),
) -> Markup:
    """Draw lines over two axes; `breaks` are vertical lines of runs, `name` is unique in the document."""
    return frame(
        name,
        title,
        description,
        axes(x, y),
        *(fall(run, index, px(x, at)) for index, (run, at) in enumerate(breaks)),
        *(draw(line, index, len(lines), x, y, filled) for index, line in enumerate(lines)),
        x=x,
        y=y,
    )


def fall(run: int, index: int, left: float) -> Markup:
    """Draw where a run broke, the labels of several above each other."""
    is_right = left > WIDTH / 2
    return element(
        "g",
        element(
            "path", d=f"M{left} {TOP}V{HEIGHT - BOTTOM}", class_="break", stroke_dasharray=DASHES[run % len(DASHES)]
        ),
        element(
            "text",
            "breaks here",
            x=left + (-5 if is_right else 5),
            y=HEIGHT - BOTTOM - 8 - 14 * index,
            class_="run end" if is_right else "run",
        ),
        class_=f"s{run % COLOURS}",
    )


def frame(
    name: str, title: str, description: str, *children: Markup, x: Axis, y: Axis | None, height: int = HEIGHT
) -> Markup:
    """Put a drawing into an SVG that tells readers of the screen what it shows, and the page's script its axes."""
    area: dict[str, Any] = {"left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "bottom": height - BOTTOM}
    area |= {name: asdict(axis) for name, axis in (("x", x), ("y", y)) if axis}
    return element(
        "svg",
        element("title", title, id=f"{name}-t"),
        element("desc", description, id=f"{name}-d"),
        *children,
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        aria_labelledby=f"{name}-t {name}-d",
        data_area=json.dumps(area) if y else None,
    )


def axes(x: Axis, y: Axis) -> Markup:
    bottom = HEIGHT - BOTTOM
    across = [(py(y, tick), y.text(tick)) for tick in y.ticks]
    return join(
        *(element("path", d=f"M{LEFT} {at}H{WIDTH - RIGHT}", class_="grid") for at, _ in across),
        *(element("text", text, x=LEFT - 6, y=at + 4, class_="tick end") for at, text in across),
        element("text", y.label, x=2, y=12, class_="label"),
        below(x, bottom),
    )


def below(x: Axis, bottom: float) -> Markup:
    """Draw the horizontal axis at `bottom`."""
    ticks = [(px(x, tick), x.text(tick)) for tick in x.ticks]
    return join(
        element("path", d=f"M{LEFT} {bottom}H{WIDTH - RIGHT}", class_="axis"),
        *(element("path", d=f"M{at} {bottom}v4", class_="axis") for at, _ in ticks),
        *(element("text", text, x=at, y=bottom + 15, class_="tick middle") for at, text in ticks),
        element("text", x.label, x=WIDTH - RIGHT, y=bottom + 31, class_="label end"),
    )


def px(axis: Axis, value: float) -> float:
    return round(LEFT + axis.at(value) * (WIDTH - LEFT - RIGHT), 1)


def py(axis: Axis, value: float) -> float:
    return round(HEIGHT - BOTTOM - axis.at(value) * (HEIGHT - TOP - BOTTOM), 1)


def draw(line: Line, index: int, count: int, x: Axis, y: Axis, filled: bool) -> Markup:
    """Draw a line and its markers, those of different lines at different places."""
    places = [(px(x, at), None if value is None else py(y, value)) for at, value in thin(line.points)]
    path, pen = "", "M"
    for left, top in places:
        path += "" if top is None else f"{pen}{left} {top}"
        pen = "M" if top is None else "L"
    broken = [(px(x, at), py(y, value)) for at, value in line.points if at in line.crossed and value is not None]
    known = [(left, top) for left, top in places if top is not None]
    every = max(1, len(known) // MARKED)
    first = index * every // count if len(known) > 1 else 0
    area = f"{path}V{HEIGHT - BOTTOM}H{known[0][0]}z" if filled and known else None
    return element(
        "g",
        element("path", d=area, class_="area") if area else None,
        element("path", d=path, class_="line", stroke_dasharray=DASHES[line.run % len(DASHES)]),
        *(mark(line.run, *place) for place in known[first::every] if place not in broken),
        *(element("path", d=CROSS, class_="cross", transform=f"translate({left} {top})") for left, top in broken),
        class_=f"s{line.run % COLOURS}",
        data_name=line.name,
    )


def thin(points: Sequence[Point]) -> Sequence[Point]:
    """Keep the lowest and the highest of every so many points, where there are more than can be seen."""
    width = math.ceil(len(points) * 2 / MOST_POINTS)
    if width <= 2:
        return points
    kept: list[Point] = []
    for first in range(0, len(points), width):
        known = [(at, value) for at, value in points[first : first + width] if value is not None]
        ends = {min(known, key=lambda p: p[1]), max(known, key=lambda p: p[1])} if known else {(points[first][0], None)}
        kept += sorted(ends, key=lambda p: p[0])
    return kept


def mark(run: int, left: float, top: float) -> Markup:
    return element("path", d=SHAPES[run % len(SHAPES)], class_="mark", transform=f"translate({left} {top})")


def sample(run: int) -> Markup:
    """Draw a piece of a run's line, for the legend."""
    return element(
        "svg",
        element("path", d="M0 6H36", class_="line", stroke_dasharray=DASHES[run % len(DASHES)]),
        mark(run, 18, 6),
        viewBox="0 0 36 12",
        class_=f"sample s{run % COLOURS}",
        aria_hidden="true",
    )


def bars(name: str, title: str, description: str, rows: Sequence[tuple[int, str, dict[str, float]]], x: Axis) -> Markup:
    """Draw a row for each run: a marker at its p50, a bar to its p99 and a thin line to its max."""
    height = TOP + 34 * len(rows) + BOTTOM - 14
    bottom = height - BOTTOM
    drawn = []
    for index, (run, label, found) in enumerate(rows):
        top = TOP + 34 * index
        left, right, end = (px(x, found[key]) for key in ("p50", "p99", "max"))
        drawn += [
            element(
                "g",
                element("text", shorten(label, LONGEST), x=LEFT, y=top - 5, class_="tick"),
                element("path", d=f"M{right} {top + 6}H{end}M{end} {top + 2}v8", class_="line"),
                element("path", d=f"M{left} {top + 2}H{right}v8H{left}z", class_="bar"),
                mark(run, left, top + 6),
                class_=f"s{run % COLOURS}",
            )
        ]
    grid = [element("path", d=f"M{px(x, tick)} {TOP - 4}V{bottom}", class_="grid") for tick in x.ticks]
    return frame(name, title, description, *grid, *drawn, below(x, bottom), x=x, y=None, height=height)
