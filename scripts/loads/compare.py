"""The table that compares the runs of a scenario, with ratios to the first of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from . import plot
from .markup import Markup, element, join
from .results import UNKNOWN, Run, measure
from .tables import head, scrolled

TIMES = "\N{MULTIPLICATION SIGN}"
MICRO = "\N{MICRO SIGN}s"
BAR = 84  # pixels, of the highest value of a row
SAME = 0.05  # ratios nearer to 1 than this are noise


@dataclass(frozen=True, slots=True)
class Metric:
    """A row; `better` is -1 where less is better, 1 where more is, else 0; `is_first` ones are always shown."""

    label: str
    path: str
    unit: str = ""
    better: int = -1
    is_first: bool = False


def _times(label: str, path: str, first: str, more: str = "", better: int = -1) -> Iterable[Metric]:
    for p in f"{first} {more}".split():
        # What is usual for a gap is the pace of the provider.
        yield Metric(f"{label}, {p}", f"{path}.{p}", "ms", 0 if p in ("p50", "p90") and not better else -1, p in first)


METRICS = {
    "What arrived": (
        Metric("Deltas per second", "deltasPerSecond", "", 1, True),
        Metric("Delivered of what was offered", "share", "%", 1, True),
        Metric("Streams held", "held", "", 1, True),
        Metric("Breaks at so many streams", "breakingPoint", "", 0, True),
        Metric("Answers that failed", "streams.failed", "", -1, True),
        Metric("Answers that were cut off", "streams.cut", "", -1, True),
        Metric("Answers asked for", "streams.asked", "", 0),
        Metric("Answers finished", "streams.finished", "", 0),
        Metric("Answers resumed", "resumed", "", 0),
        Metric("Upstreams not closed", "notClosed", "", -1, True),
        Metric("Most streams open at once", "streams.mostOpen", "", 0),
        Metric("Deltas", "deltas", "", 0),
        Metric("Frames", "frames", "", 0),
        Metric("Bytes", "bytes", "", 0),
    ),
    "How long it took": (
        *_times("Latency of a delta", "latencyMs", "p50 p99", "p90 p999 max"),
        *_times("Time to the first delta", "ttftMs", "p50 p99", "p90 max"),
        *_times("Time to the first byte", "firstByteMs", "", "p50 p99 max"),
        *_times("Gap between two reads with deltas", "gapMs", "p99", "p50 p90 p999 max", better=0),
        Metric("Longest silence in a stream", "longestSilenceMs", "ms"),
        *_times("Resume to its first byte", "resumeMs", "p50 p99", "max"),
        *_times("Stop to its answer", "stopMs", "p50 p99", "max"),
        *_times("Stop or leave to provider closed", "closedUpstreamMs", "p50 p99", "max"),
    ),
    "What it cost the server": (
        Metric("CPU per delta", "server.cpuUsPerDelta", MICRO, -1, True),
        Metric("CPU", "server.cpuSeconds", "s"),
        Metric("Memory at most", "server.rssMbMost", "MB", -1, True),
        Metric("Memory at the start", "server.rssMbStart", "MB"),
        Metric("Memory at the end", "server.rssMbEnd", "MB"),
        Metric("Memory growth per minute", "server.rssMbPerMinute", "MB", 0),
        Metric("Descriptors at the start", "server.descriptorsStart", "", 0),
        Metric("Descriptors at the end", "server.descriptorsEnd", "", 0),
    ),
    "What it cost the load tool": (
        Metric("CPU of its clients, of one core", "load.client", "%", 0),
        Metric("CPU of its provider, of one core", "load.provider", "%", 0),
    ),
}


def comparison(runs: list[Run]) -> Markup:
    """Write what matters most, and behind a fold all there is."""
    name = runs[0].scenario
    first, everything = _table(name, runs, True), _table(f"{name}, all figures", runs, False)
    notes = [f"Ratios are to {runs[0].name}; within {SAME:.0%} they count as the same."] if runs[1:] else []
    notes += [f"{UNKNOWN} means not measured, or no part of this scenario."] if UNKNOWN in everything else []
    return join(
        element("p", " ".join(notes), class_="note") if notes else None,
        first,
        element("details", element("summary", f"All figures of {name}"), everything, class_="all"),
    )


def _table(label: str, runs: list[Run], is_first: bool) -> Markup:
    groups = []
    for title, metrics in METRICS.items():
        rows = [
            element("tr", element("th", metric.label, scope="row"), *_cells(runs, metric))
            for metric in metrics
            if (metric.is_first or not is_first) and any(run.value(metric.path) is not None for run in runs)
        ]
        if rows:
            heading = element("th", element("span", title), scope="rowgroup", colspan=len(runs) + 1)
            groups.append(element("tbody", element("tr", heading, class_="group"), *rows))
    names = [join(plot.sample(run.number), " ", run.name) for run in runs]
    return scrolled(
        element("table", head("", *names), *groups, class_=f"comparison {'many' if len(runs) > 4 else ''}".strip()),
        f"Comparison: {label}",
    )


def _cells(runs: list[Run], metric: Metric) -> Iterable[Markup]:
    values = [run.value(metric.path) for run in runs]
    most = max(value for value in values if value is not None)
    for run, value in zip(runs, values, strict=True):
        words = "" if run is runs[0] else ratio(value, values[0], metric.better)
        kind = words.rpartition(" ")[2]
        length = f"width: {BAR * value / most:.1f}px" if value and value > 0 and metric.better and runs[1:] else None
        yield element(
            "td",
            element("span", measure(value, metric.unit)),
            element("small", words, class_=kind if kind in ("better", "worse") else None) if words else None,
            element("i", style=length, class_=f"s{run.number % plot.COLOURS}", aria_hidden="true") if length else None,
            class_="number",
        )


def ratio(value: float | None, base: float | None, better: int) -> str:
    """Say a value as a multiple of the first run's, and whether that is better; empty where it means nothing."""
    if value is None or base is None or not better:
        return ""
    if value == base:
        return "same"
    verdict = "better" if (value - base) * better > 0 else "worse"
    if base <= 0 or value <= 0:
        return verdict
    times = value / base
    return f"{times:.2f}{TIMES} same" if abs(times - 1) <= SAME else f"{_multiple(times)}{TIMES} {verdict}"


def _multiple(times: float) -> str:
    return f"{times:.0f}" if times >= 9.95 else f"{times:.1f}" if times >= 1.95 else f"{times:.2g}"
