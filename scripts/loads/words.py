"""What is said of a load on a terminal: how it goes, and what came of it."""

from __future__ import annotations

import sys
from typing import Any

from .session import Load


def tell(load: Load) -> None:
    """Say on standard error how it goes: in one line on a terminal, else in a line each time."""
    t, streams, rate, _, p99, cpu, here = load.series[-1]
    words = [f"{load.name:10} {t:6.1f} s {streams:6} streams {rate:9,.0f} deltas/s"]
    words += [f"p99 {p99:8.2f} ms"] if p99 is not None else []
    words += [f"cpu {cpu:4.0%} {here.rss:6.0f} MB"] if cpu is not None and here else []
    words += [f"{bad} failed"] if (bad := load.counts["failed"] + load.counts["cut"]) else []
    is_terminal = sys.stderr.isatty()
    print(("\r\x1b[K" if is_terminal else "") + "  ".join(words), end="" if is_terminal else "\n", file=sys.stderr)
    sys.stderr.flush()


def summary(result: dict[str, Any]) -> str:
    """Return the result in a few lines."""
    return "\n".join(line for each in result["scenarios"] for line in _lines(each))


def _lines(each: dict[str, Any]) -> list[str]:
    streams = each["streams"]
    share = f", {each['share']:.1%} of what was to come" if each["share"] else ""
    lines = [
        f"{each['scenario']}: {each['seconds']:.1f} s, {streams['mostOpen']} streams at most,"
        f" {streams['asked']} answers ({streams['finished']} whole, {streams['failed']} failed, {streams['cut']} cut),"
        f" {each['deltas']:,} deltas ({each['deltasPerSecond']:,.0f}/s){share}"
    ]
    for name, text in _TIMES.items():
        if (times := each.get(name)) and times["count"]:
            lines.append(f"  {text:26} p50 {times['p50']:9.2f}  p99 {times['p99']:9.2f}  max {times['max']:9.2f} ms")
    if server := each["server"]:
        cost = "" if server["cpuUsPerDelta"] is None else f", {server['cpuUsPerDelta']:.1f} us a delta"
        lines.append(
            f"  {'server':26} {server['cpuSeconds']:.2f} s of CPU{cost}; {server['rssMbStart']:.0f} to"
            f" {server['rssMbEnd']:.0f} MB, at most {server['rssMbMost']:.0f};"
            f" {server['descriptorsStart']} to {server['descriptorsEnd']} descriptors"
        )
    lines += [f"  {step['streams']:6} streams  {_step(step)}" for step in each["steps"]]
    if each["breakingPoint"]:
        lines.append(f"  breaks at {each['breakingPoint']} streams")
    lines += [f"  {count} x {text}" for text, count in each["errors"].items()]
    if each["load"]["isLimit"]:
        lines.append("  the load itself was the limit, not the server: fewer streams, a lower rate, or more cores")
    lines += [f"  {'ok  ' if check['ok'] else 'FAIL'} {check['text']}: {check['met']}" for check in each["checks"]]
    return lines


_TIMES = {
    "ttftMs": "first delta", "latencyMs": "latency", "gapMs": "gap", "resumeMs": "resumed",
    "stopMs": "stop answered", "closedUpstreamMs": "upstream closed",
}  # fmt: skip


def _step(step: dict[str, Any]) -> str:
    told = {"latency p99": step["latencyP99Ms"], "gap p99": step["gapP99Ms"]}
    words = [f"{name} {value:8.2f} ms" for name, value in told.items() if value is not None]
    words += [f"{step['share']:.1%} delivered"] if step["share"] is not None else []
    words += [f"cpu {step['cpu']:.0%}"] if step["cpu"] is not None else []
    return "  ".join([*words, "" if step["ok"] else "broke"])
