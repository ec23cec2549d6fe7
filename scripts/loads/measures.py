"""What a scenario came to, as its part of the JSON result; `scripts/load.py` says the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .client import Times
from .process import Sample
from .provider import UNIT_MS
from .session import Load, Options
from .stats import rounded, slope


def measures(
    load: Load, seconds: float, offered: float | None, samples: Sequence[Sample | None], spent: dict[str, float]
) -> dict[str, Any]:
    """Return what a scenario came to: `samples` of the server at its begin, at its end and when all was quiet again.

    `spent` are the shares of a core that the load itself ran, and waited for one.
    """
    times, counts = load.meter.all, load.counts
    share = min(1.0, times.deltas / offered) if offered else None
    # Whether one of the two ran, or wanted to run and had no core, nearly all the time.
    is_limit = max(spent[name] + spent[f"{name}Waited"] for name in ("client", "provider")) > 0.9
    result = {
        "scenario": load.name,
        "options": {name: getattr(load.options, name) for name in Options.__slots__},
        "seconds": round(seconds, 3),
        "streams": {name: counts[name] for name in ("asked", "finished", "failed", "cut")}
        | {"mostOpen": load.most_open},
        "errors": dict(load.errors.most_common(10)),
        "deltas": times.deltas,
        "frames": times.frames,
        "bytes": times.bytes,
        "deltasPerSecond": round(times.deltas / seconds, 1),
        "share": rounded(share, 4),
        "ttftMs": times.ttft.summary(),
        "firstByteMs": times.first_byte.summary(),
        "latencyMs": times.latency.summary() if times.latency.count else None,
        "gapMs": times.gap.summary(),
        "resumeMs": times.resumed.summary() if times.resumed.count else None,
        "longestSilenceMs": round(times.silence * UNIT_MS, 3),
        "histograms": {
            name: histogram.buckets()
            for name, histogram in (("latencyMs", times.latency), ("gapMs", times.gap), ("ttftMs", times.ttft))
        },
        "series": _series(load),
        "server": _server(load, times, *samples),
        "load": {name: round(cpu, 3) for name, cpu in spent.items()} | {"isLimit": is_limit},
        "steps": load.steps,
        "breakingPoint": load.breaking,
        "stopMs": load.stop_times.summary() if load.stop_times.count else None,
        "closedUpstreamMs": load.close_times.summary() if load.close_times.count else None,
        **load.extra,
    }
    return result | {"checks": _checks(load.options, result)}


def _series(load: Load) -> dict[str, list[Any]]:
    rows = load.series
    names = ("t", "streams", "deltasPerSecond", "latencyP50Ms", "latencyP99Ms", "cpu")
    told: dict[str, list[Any]] = {name: [rounded(row[at]) for row in rows] for at, name in enumerate(names)}  # type: ignore[arg-type]
    samples = [row[6] for row in rows]
    told["rssMb"] = [here and round(here.rss, 2) for here in samples]
    told["descriptors"] = [here and here.descriptors for here in samples]
    told["threads"] = [here and here.threads for here in samples]
    return told


def _server(
    load: Load, times: Times, first: Sample | None, last: Sample | None, settled: Sample | None
) -> dict[str, Any] | None:
    """Return what the server used: CPU while it was asked, memory and descriptors until it had settled."""
    if first is None or last is None or settled is None:
        return None
    seen = [(row[0] / 60, row[6].rss) for row in load.series if row[6]]
    warm = seen[len(seen) // 5 :]
    cpu = last.cpu - first.cpu
    return {
        "cpuSeconds": round(cpu, 3),
        "cpuUsPerDelta": rounded(cpu * 1e6 / times.deltas if times.deltas else None),
        "rssMbStart": round(first.rss, 2),
        "rssMbEnd": round(settled.rss, 2),
        "rssMbMost": round(max([first.rss, last.rss, settled.rss, *(rss for _, rss in seen)]), 2),
        "rssMbPerMinute": rounded(slope(warm)),
        "descriptorsStart": first.descriptors,
        "descriptorsEnd": settled.descriptors,
    }


def _checks(options: Options, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the result has to meet: {"text", "ok", "met", "limit"}; what could not be measured is not met."""
    name, server, streams = result["scenario"], result["server"] or {}, result["streams"]
    growth = round(server["rssMbMost"] - server["rssMbStart"], 2) if server else None
    bad = streams["failed"] + streams["cut"]
    # Limits of a ramp say where it breaks; those of stops and closed sockets are for scenarios that have them.
    paced, closing = name != "ramp", name in ("stop", "disconnect")
    rows = [
        (paced, "answers that failed or were cut", bad, options.max_failures),
        (paced and not closing, "latency p99, ms", (result["latencyMs"] or {}).get("p99"), options.max_latency_p99),
        (paced and not closing, "gap p99, ms", result["gapMs"]["p99"], options.max_gap_p99),
        (True, "first delta p99, ms", result["ttftMs"]["p99"], options.max_ttft_p99),
        (name == "stop", "stop answered p99, ms", (result["stopMs"] or {}).get("p99"), options.max_stop_p99),
        (closing, "upstream closed p99, ms", (result["closedUpstreamMs"] or {}).get("p99"), options.max_close_p99),
        (closing, "upstreams not closed", result.get("notClosed"), None if options.max_close_p99 is None else 0),
        (True, "growth of memory, MB", growth, options.max_rss_growth_mb),
        (name in ("steady", "soak"), "memory, MB a minute", server.get("rssMbPerMinute"), options.max_rss_slope),
        (True, "descriptors at the end", server.get("descriptorsEnd"), options.max_descriptors),
    ]
    checks = [_check(text, met, limit, "at most") for asked, text, met, limit in rows if asked and limit is not None]
    shared = name in ("steady", "soak", "slow") and options.min_share is not None
    checks += [_check("share delivered", result["share"], options.min_share, "at least")] if shared else []
    held = name == "ramp" and options.min_streams is not None
    return checks + ([_check("streams held", _held(result), options.min_streams, "at least")] if held else [])


def _check(text: str, met: float | None, limit: float | None, how: str) -> dict[str, Any]:
    assert limit is not None
    is_ok = met is not None and (met <= limit if how == "at most" else met >= limit)
    return {"text": f"{text}: {how} {limit:g}", "ok": is_ok, "met": met, "limit": limit}


def _held(result: dict[str, Any]) -> int:
    return max((step["streams"] for step in result["steps"] if step["ok"]), default=0)
