"""The plots of a scenario, each with its legend, how to read it, and the same in figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from . import plot
from .markup import Markup, element, join
from .plot import Axis, Line
from .results import Run, figure, measure
from .stats import WIDTH
from .tables import head, scrolled

MOST_ROWS = 25  # of a plot's table; the rest is in the result file
BINS = 12  # of a histogram, in each power of ten


@dataclass(frozen=True)
class Series:
    """A plot over time of one key of `series`."""

    key: str
    title: str
    unit: str
    reading: str
    axis: Callable[[str, list[float]], Axis] = plot.linear


def spread(label: str, values: list[float]) -> Axis:
    """Make a linear axis, or a logarithmic one where the values are far apart."""
    positive = sorted(value for value in values if value > 0)
    if positive and positive[-1] > 30 * positive[len(positive) // 20]:
        return plot.logarithmic(f"{label}, log scale", positive)
    return plot.linear(label, values)


def cores(label: str, values: list[float]) -> Axis:
    return plot.linear(label, values, percent=True)


SERIES = (
    Series(
        "latencyP50Ms",
        "Latency over time, median",
        "ms",
        "Half of the deltas of each moment came faster than the line: low and flat is good.",
        spread,
    ),
    Series(
        "latencyP99Ms",
        "Latency over time, p99",
        "ms",
        "99 of 100 deltas of each moment came faster than the line: a line that rises is a server that falls behind.",
        spread,
    ),
    Series(
        "deltasPerSecond",
        "Deltas per second",
        "deltas/s",
        "What reached the clients in each second: at the offered rate a flat line, below it a server at its limit.",
    ),
    Series(
        "streams",
        "Open streams",
        "streams",
        "How many streams were open at each moment: the load that the other plots were taken under.",
    ),
    Series(
        "cpu",
        "CPU",
        "of one core",
        "The server's share of one core, 100% is one core busy: at the same deltas per second lower is better.",
        cores,
    ),
    Series(
        "rssMb",
        "Memory",
        "MB resident",
        "The server's resident memory: it may rise with the streams, and has to stay level while they stay level.",
    ),
    Series(
        "descriptors",
        "Descriptors",
        "open sockets and files",
        "The server's open sockets and files: they follow the streams, and have to come back down with them.",
    ),
    Series(
        "threads", "Threads", "threads", "The server's threads: a number that grows with the streams will not last."
    ),
)
HISTOGRAMS = {
    "latencyMs": ("Latency", "deltas"),
    "ttftMs": ("First delta", "answers"),
    "gapMs": ("Gap", "gaps"),
}
STEPS = (
    ("latencyP99Ms", "Latency at each step, p99", "ms", "Where the line leaves the ground the server is at its limit."),
    (
        "gapP99Ms",
        "Gap at each step, p99",
        "ms",
        "Level while the server keeps up; it rises where clients begin to see pauses.",
    ),
    (
        "share",
        "Delivered at each step",
        "of what was offered",
        "100% while the server keeps up; what is missing waits inside of it.",
    ),
    (
        "cpu",
        "CPU at each step",
        "of one core",
        "At 100% one core is busy, which ends the climb of a server of one process.",
    ),
)
PERCENTILES = {
    "stopMs": ("Stop to its answer", "How long a request to stop took until its answer."),
    "closedUpstreamMs": (
        "Provider closed",
        "How long the provider still had to write after a client had stopped or gone.",
    ),
}


def charts(runs: list[Run], prefix: str) -> Markup:
    """Draw all plots of a scenario; `prefix` makes their ids unique."""
    kinds = {
        "At each step": steps,
        "How fast it ended": storms,
        "How long it took": distributions,
        "Over time": over_time,
    }
    drawn = {title: list(kind(runs, prefix)) for title, kind in kinds.items()}
    return join(
        *(
            join(
                element("h3", f"{runs[0].scenario.capitalize()}: {title.lower()}"),
                element("div", *plots, class_="plots"),
            )
            for title, plots in drawn.items()
            if plots
        )
    )


def shown(title: str, drawing: Markup, reading: str, runs: Sequence[Run], table: Markup) -> Markup:
    """Put a plot together with its title, legend, how to read it, and the same in figures."""
    legend = element(
        "ul", *(element("li", plot.sample(run.number), element("span", run.name)) for run in runs), class_="legend"
    )
    return element(
        "figure",
        element("h4", title),
        legend,
        drawing,
        element("figcaption", reading),
        element(
            "details", element("summary", "In figures"), scrolled(table, f"{title} ({runs[0].scenario}), in figures")
        ),
    )


def figures(column: str, runs: Sequence[Run], rows: Iterable[tuple[str, Sequence[str]]]) -> Markup:
    """Write the table of a plot: a row for each place on its horizontal axis, a column for each run."""
    body = [
        element("tr", element("th", label, scope="row"), *(element("td", value, class_="number") for value in values))
        for label, values in rows
    ]
    names = head(column, *(run.name for run in runs))
    return element("table", names, element("tbody", *body))


def summary(runs: Sequence[Run], values: Sequence[Sequence[float]], unit: str, percent: bool = False) -> str:
    """Say in words what a plot shows, for those who do not see it."""
    unit = "%" if percent else unit
    said = []
    for run, each in zip(runs, values, strict=True):
        low, middle, high = (measure(value, unit) for value in (min(each), median(each), max(each)))
        said.append(f"{run.name}: from {low} to {high}, median {middle}")
    return "; ".join(said)


def over_time(runs: list[Run], prefix: str) -> Iterator[Markup]:
    for each in SERIES:
        drawn = [run for run in runs if run.series(each.key)]
        if not drawn:
            continue
        points = [run.series(each.key) for run in drawn]
        y = each.axis(each.unit, [value for line in points for value in known(line)])
        x, unit = plot.minutes_or_seconds([at for line in points for at, _ in line])
        lines = [
            Line(run.number, run.name, [(at / unit, value) for at, value in line])
            for run, line in zip(drawn, points, strict=True)
        ]
        about = summary(drawn, [known(line) for line in points], each.unit, y.percent)
        drawing = plot.plot(f"{prefix}-{each.key}", each.title, about, lines, x, y)
        table = figures("Second", drawn, sampled(points, y.percent))
        yield shown(each.title, drawing, each.reading, drawn, table)


def sampled(lines: Sequence[Sequence[plot.Point]], percent: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield some moments of a plot with the newest value of each run at it."""
    times = sorted({at for line in lines for at, _ in line})
    for at in times[:: -(-len(times) // MOST_ROWS)]:
        values = [next((value for moment, value in reversed(line) if moment <= at), None) for line in lines]
        yield figure(round(at, 1)), [measure(value, "%" if percent else "") for value in values]


def distributions(runs: list[Run], prefix: str) -> Iterator[Markup]:
    """Yield histograms, then their tails."""
    tails = []
    for key, (title, things) in HISTOGRAMS.items():
        if drawn := [run for run in runs if run.buckets(key)]:
            buckets = [run.buckets(key) for run in drawn]
            x = plot.logarithmic("ms, log scale", [upper for each in buckets for upper, _ in each])
            yield histogram(f"{prefix}-{key}", title, things, drawn, x, [binned(each, x) for each in buckets])
            tails.append(tail(f"{prefix}-{key}-tail", title, things, drawn, x, [slower(each) for each in buckets]))
    yield from tails


def histogram(name: str, title: str, things: str, runs: list[Run], x: Axis, bins: list[list[plot.Point]]) -> Markup:
    y = plot.linear(f"share of the {things}", [value for each in bins for value in known(each)], percent=True)
    lines = [Line(run.number, run.name, outline(each)) for run, each in zip(runs, bins, strict=True)]
    peaks = [
        f"{run.name}: most at about {figure(max(each, key=lambda bin: bin[1] or 0)[0])} ms"
        for run, each in zip(runs, bins, strict=True)
    ]
    heading = f"{title}: histogram"
    drawing = plot.plot(name, heading, "; ".join(peaks), lines, x, y, filled=len(runs) <= 2)
    rows = [
        (f"{figure(bin[0])} to {figure(after[0])}", [measure(each[n][1], "%") for each in bins])
        for n, (bin, after) in enumerate(pairwise(bins[0]))
        if any(each[n][1] for each in bins)
    ]
    reading = f"Most {things} are where the hill is: further left is faster, narrower is steadier."
    return shown(heading, drawing, reading, runs, figures("ms", runs, rows))


def outline(bins: list[plot.Point]) -> list[plot.Point]:
    """Return both upper corners of each bin, and where the line leaves and meets the ground."""
    filled = [n for n, (_, share) in enumerate(bins) if share]
    first, last = filled[0], filled[-1] + 1
    corners = [(at, bins[n][1]) for n in range(first, last) for at in (bins[n][0], bins[n + 1][0])]
    return [(bins[first][0], 0), *corners, (bins[last][0], 0)]


def binned(buckets: Sequence[tuple[float, float]], axis: Axis) -> list[plot.Point]:
    """Return the share in each of `BINS` bins a decade as (lower edge, share), the last with none.

    Buckets are narrower than can be seen and do not fit into the bins: one's count is parted among those that it meets.
    """
    low = math.floor(math.log10(axis.low) * BINS + 1e-9)
    bins = [0.0] * (math.ceil(math.log10(axis.high) * BINS - 1e-9) - low + 1)
    widths = [after / upper for (upper, _), (after, _) in pairwise(buckets) if after > upper]
    width = math.log10(min(widths, default=WIDTH)) * BINS
    for upper, count in buckets:
        end = math.log10(upper) * BINS - low
        start = end - min(width, 1)
        for n in range(math.floor(start), math.ceil(end)):
            bins[min(max(n, 0), len(bins) - 2)] += (min(end, n + 1) - max(start, n)) / (end - start) * count
    total = sum(bins)
    return [(10 ** ((n + low) / BINS), share / total) for n, share in enumerate(bins)]


def tail(name: str, title: str, things: str, runs: list[Run], x: Axis, lines: list[list[plot.Point]]) -> Markup:
    """Draw the share that was slower than a time, from all to one of many."""
    shares = [share for each in lines for share in known(each) if share]
    y = plot.logarithmic(f"share of the {things} that took longer, log scale", [1, 0.01, *shares], percent=True)
    heading = f"{title}: share that took longer"
    ends = [f"{run.name}: none over {figure(each[-1][0])} ms" for run, each in zip(runs, lines, strict=True)]
    drawn = [Line(run.number, run.name, each) for run, each in zip(runs, lines, strict=True)]
    drawing = plot.plot(name, heading, "; ".join(ends), drawn, x, y)
    rows = [
        (text, [figure(next(at for at, share in each if (share or 0) <= left)) for each in lines])
        for text, left in {"50%": 0.5, "90%": 0.1, "99%": 0.01, "99.9%": 0.001, "99.99%": 0.0001}.items()
    ]
    reading = "A line crosses 1% at its p99 (99 of 100 were faster), 0.1% at its p999: further left is faster."
    return shown(heading, drawing, reading, runs, figures("Share within, ms", runs, rows))


def slower(buckets: Sequence[tuple[float, float]]) -> list[plot.Point]:
    """Return (time, share that took longer), from all to none."""
    left = total = sum(count for _, count in buckets)
    points: list[plot.Point] = [(buckets[0][0] / WIDTH, 1.0)]
    for upper, count in buckets:
        left -= count
        points.append((upper, round(left / total, 12)))
    return points


def steps(runs: list[Run], prefix: str) -> Iterator[Markup]:
    for key, title, unit, reading in STEPS:
        if not (drawn := [run for run in runs if run.steps(key)]):
            continue
        points = [run.steps(key) for run in drawn]
        values = [value for each in points for value in known(each)]
        percent = key in ("share", "cpu")
        y = plot.linear(unit, values, percent=True) if percent else spread(unit, values)
        x = plot.linear("streams", [at for each in points for at, _ in each])
        breaks = [(run.number, at) for run in drawn if (at := run.value("breakingPoint")) is not None]
        lines = [Line(run.number, run.name, each, run.broken) for run, each in zip(drawn, points, strict=True)]
        about = summary(drawn, [known(each) for each in points], unit, percent)
        drawing = plot.plot(f"{prefix}-step-{key}", title, about, lines, x, y, breaks=breaks)
        rows = [
            (figure(at), [measure(dict(each).get(at), "%" if percent else "") for each in points])
            for at in sorted({at for each in points for at, _ in each})
        ]
        told = (
            f"{reading} A cross is a step at which it did not keep up." if any(run.broken for run in drawn) else reading
        )
        yield shown(title, drawing, told, drawn, figures("Streams", drawn, rows))


def storms(runs: list[Run], prefix: str) -> Iterator[Markup]:
    for key, (title, reading) in PERCENTILES.items():
        if not (drawn := [run for run in runs if run.percentiles(key)]):
            continue
        found = [run.percentiles(key) for run in drawn]
        x = plot.logarithmic("ms, log scale", [value for each in found for value in each.values()])
        rows = [(run.number, run.name, each) for run, each in zip(drawn, found, strict=True)]
        about = "; ".join(
            f"{name}: median {figure(each['p50'])}, p99 {figure(each['p99'])} ms" for _, name, each in rows
        )
        drawing = plot.bars(f"{prefix}-{key}", title, about, rows, x)
        table = figures("ms", drawn, [(p, [figure(each[p]) for each in found]) for p in found[0]])
        yield shown(
            title,
            drawing,
            f"{reading} The marker is the median, the bar ends at p99, the line at the worst.",
            drawn,
            table,
        )


def known(points: Iterable[plot.Point]) -> list[float]:
    return [value for _, value in points if value is not None]
