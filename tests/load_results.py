"""Results as scripts/load.py writes them, made of nothing: what they say is plausible, and the same every time."""

from __future__ import annotations

import math
from typing import Any


def summary(median: float) -> dict[str, float]:
    worse = {"p90": 2, "p99": 5, "p999": 9, "max": 20}
    return {"count": 1000, "mean": median * 1.2, "p50": median} | {key: median * by for key, by in worse.items()}


def histogram(median: float) -> list[list[float]]:
    """Return buckets of 5% around a median, the slower side longer."""
    shares = [(n, math.exp(-((n / (12 if n < 0 else 25)) ** 2) / 2)) for n in range(-30, 80)]
    return [[round(median * 1.05**n, 4), round(20_000 * share)] for n, share in shares if share * 20_000 >= 0.5]


def wave(base: float, part: float, count: int = 40) -> list[float]:
    return [round(base * (1 + part * math.sin(n * base) * math.cos(n / 3)), 3) for n in range(count)]


def scenario(name: str = "steady", by: float = 1, **more: Any) -> dict[str, Any]:
    """Return a scenario of a server that is `by` times as slow."""
    times = {"ttftMs": 3.0, "firstByteMs": 1.5, "latencyMs": 0.4, "gapMs": 20.0}
    return {
        "scenario": name,
        "options": {"streams": 200, "rate": 50, "seconds": 20},
        "seconds": 20.1,
        "streams": {"asked": 200, "finished": 200, "failed": 0, "cut": 0, "mostOpen": 200},
        "errors": {},
        "deltas": 200_000,
        "frames": 200_400,
        "bytes": 18_000_000,
        "deltasPerSecond": 9950.0 / by,
        "share": 0.995 / by,
        **{key: summary(value * by) for key, value in times.items()},
        "longestSilenceMs": 80.0 * by,
        "histograms": {key: histogram(value * by) for key, value in times.items() if key != "firstByteMs"},
        "series": {
            "t": [n * 0.5 for n in range(40)],
            "streams": [min(200, n * 50) for n in range(40)],
            "deltasPerSecond": wave(9950.0 / by, 0.02),
            "latencyP50Ms": wave(0.4 * by, 0.1),
            "latencyP99Ms": wave(2.0 * by, 0.5),
            "cpu": wave(min(0.4 * by, 1), 0.05),
            "rssMb": [80 * by + n * 0.1 for n in range(40)],
            "descriptors": [min(420, 20 + n * 100) for n in range(40)],
            "threads": [4.0] * 40,
        },
        "server": {
            **{"cpuSeconds": 8.1 * by, "cpuUsPerDelta": 40.5 * by, "rssMbPerMinute": 0.2},
            **{"rssMbStart": 78.0 * by, "rssMbEnd": 84.0 * by, "rssMbMost": 85.0 * by},
            **{"descriptorsStart": 20, "descriptorsEnd": 20},
        },
        "steps": [],
        "breakingPoint": None,
        "stopMs": None,
        "closedUpstreamMs": None,
        "checks": [{"text": "latency p99, ms", "ok": by < 3, "met": round(2.0 * by, 3), "limit": 5}],
    } | more


def ramp(by: float = 1) -> dict[str, Any]:
    steps = []
    for streams in range(100, 1001, 100):
        load = streams * by / 900
        late = 0.5 * by / max(1 - load, 0.002)
        share, ok = min(1, 1 / load), load <= 0.97
        steps.append(
            {
                "streams": streams,
                "ok": ok,
                "latencyP99Ms": late,
                "gapP99Ms": 20 + late,
                "share": share,
                "cpu": min(load, 1),
            }
        )
        if not ok:
            break
    return scenario("ramp", by, steps=steps, breakingPoint=steps[-1]["streams"])


def stop(by: float = 1, **more: Any) -> dict[str, Any]:
    return scenario("stop", by, stopMs=summary(2.1 * by), closedUpstreamMs=summary(3.3 * by)) | more


def result(name: str = "ours", *scenarios: dict[str, Any], **more: Any) -> dict[str, Any]:
    scenarios = scenarios or (scenario(),)
    return {
        "chatstreamLoad": 1,
        "name": name,
        "date": "2026-11-23T04:10:00+00:00",
        "machine": {"cpu": "A processor of 3 GHz", "cores": 2, "kernel": "6.8.0", "python": "3.11.9"},
        "versions": {"chatstream": "0.9.0", "aiohttp": "3.13.2"},
        "command": ["scripts/load.py", "steady", "--name", name, "--server", "python -m chatstream --port {port}"],
        "target": {"url": "http://127.0.0.1:8000", "profile": "native", "pid": 4242},
        "scenarios": list(scenarios),
        "ok": all(check["ok"] for each in scenarios for check in each.get("checks") or []),
    } | more
