"""Makes the README's table and plot of what scripts/bench measured: medians, as parts of one baseline.

A bench is the object that `scripts/bench` keeps in `.bench/bench.json`:

    {"chatstreamBench": 1, "date": ISO 8601, "machine": {...} as in scripts/load.py's results, "quick": bool,
     "pinned": bool, "titles": {server: its name for people}, "versions": {where: {package: version}},
     "skipped": {server: why}, "failed": {server: why},
     "runs": [{"server": str, "round": int, "measures": {measure: float}}]}

Beside those of MEASURES there is `limit`: 1 where the load was the limit of the paced answers, and not the server.
"""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass
from typing import Any

BASELINE = "hono-anthropic"
OURS = "chatstream"
OPEN, CLOSE = "<!-- bench -->", "<!-- /bench -->"
WIDTH = 40  # of the longest bar, in characters
EIGHTHS = " ▏▎▍▌▋▊▉"


class NoTable(ValueError):
    """A bench that makes no table, or a text that has no place for it; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A column: its heading, the unit of what was measured, and whether that stands beside no baseline."""

    heading: str
    unit: str
    absolute: bool = False


MEASURES = {
    "cpuPaced": Measure("CPU a delta, paced", "us"),
    "cpuFull": Measure("CPU a delta, full speed", "us"),
    "latency": Measure("added latency p99, paced", "ms"),
    "share": Measure("delivered in time, paced", "%", absolute=True),
    "memory": Measure("memory an open answer", "kB"),
    "held": Measure("answers held at once", "answers"),
    "cold": Measure("start to first words", "ms"),
}


def medians(bench: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return for each server that did not fail the median of each of its measures."""
    values: dict[str, dict[str, list[float]]] = {}
    for run in (run for run in bench["runs"] if run["server"] not in bench["failed"]):
        for measure, value in run["measures"].items():
            values.setdefault(run["server"], {}).setdefault(measure, []).append(value)
    return {
        server: {measure: statistics.median(each) for measure, each in measures.items()}
        for server, measures in values.items()
    }


def number(value: float) -> str:
    """Return a value with as many digits as a noisy measurement deserves."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 3 else f"{value:.2f}"


def cell(measure: str, value: float | None, base: float | None) -> str:
    """Return what a measure says of a server, beside what it says of the baseline; empty where it says nothing."""
    if value is None:
        return ""
    if MEASURES[measure].absolute:
        return f"{value:.0f}{MEASURES[measure].unit}"
    return number(value / base) if base else ""


def bars(values: dict[str, float]) -> str:
    """Return a bar for each title: block characters in a fenced block, in the colours of the page they are on."""
    longest, widest = max(values.values()), max(map(len, values))
    lines = []
    for title, value in values.items():
        whole, rest = divmod(round(value / longest * WIDTH * 8), 8)
        lines.append(f"{title:{widest}}  {('█' * whole + EIGHTHS[rest]).rstrip() or EIGHTHS[1]} {number(value)}")
    return "\n".join(["```text", *lines, "```"])


def table(bench: dict[str, Any]) -> str:
    """Return the section of the README: plot, table, what its unit was, date, machine, versions and what was left out.

    Raises NoTable where the baseline was not measured.
    """
    found, titles = medians(bench), bench["titles"]
    base = found.get(BASELINE, {})
    if not base.get("cpuPaced"):
        raise NoTable(f"{titles.get(BASELINE, BASELINE)}, the baseline of the table, was not measured")
    shown = [measure for measure in MEASURES if measure in base]
    order = sorted(found, key=lambda server: found[server].get("cpuPaced", float("inf")))
    rows = [
        [titles[server], *(cell(measure, found[server].get(measure), base[measure]) for measure in shown)]
        for server in order
    ]
    heads = [f"{titles[BASELINE]} = 1", *(MEASURES[measure].heading for measure in shown)]
    lines = [heads, ["---", *("--:" for _ in shown)]]
    lines += [[f"**{each}**" if row[0].startswith(titles[OURS]) and each else each for each in row] for row in rows]
    plot = {titles[each]: found[each]["cpuPaced"] / base["cpuPaced"] for each in order if "cpuPaced" in found[each]}
    return "\n\n".join(
        [
            f"CPU for each delta, paced ({titles[BASELINE]} = 1; shorter is better):",
            bars(plot),
            "\n".join(f"| {' | '.join(line)} |" for line in lines),
            notes(bench, {measure: base[measure] for measure in shown if not MEASURES[measure].absolute}),
        ]
    )


def notes(bench: dict[str, Any], base: dict[str, float]) -> str:
    """Return what the reader of the table has to know of this bench."""
    machine, rounds = bench["machine"], max(run["round"] for run in bench["runs"])
    what = "one quick round, noisy" if bench["quick"] else f"medians of {rounds} round{'s' if rounds > 1 else ''}"
    where = ", ".join([machine["cpu"], f"{machine['cores']} cores", machine["kernel"]])
    unit = ", ".join(f"{number(value)} {MEASURES[measure].unit}" for measure, value in base.items())
    missing = {**bench["skipped"], **bench["failed"]}
    limited = [bench["titles"][server] for server, measures in medians(bench).items() if measures.get("limit", 0) > 0.5]
    return "\n".join(
        [
            f"Measured on {bench['date'][:10]}, {what}, on {where}{'' if bench['pinned'] else ', nothing pinned'}.",
            f"There 1 was, in the order of the columns: {unit}.",
            "; ".join(f"{where}: {packages(each)}" for where, each in bench["versions"].items()) + ".",
            *([f"The load was the limit, and not the server: {', '.join(limited)}."] if limited else []),
            *(f"Without {bench['titles'][server]}: {why}." for server, why in missing.items()),
        ]
    )


def packages(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def place(text: str, section: str) -> str:
    """Return a README with the section between its marks; raises NoTable where they are missing."""
    marks = re.compile(f"({re.escape(OPEN)}\n).*?({re.escape(CLOSE)})", re.DOTALL)
    if not marks.search(text):
        raise NoTable(f"the README has no place for the table: the lines {OPEN} and {CLOSE}")
    return marks.sub(lambda found: f"{found[1]}\n{section}\n\n{found[2]}", text, count=1)
