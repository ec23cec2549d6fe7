"""Durations in milliseconds, counted in buckets that are each 5% wider than the one before, from 1 us to hours."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

WIDTH = 1.05
LEAST = 0.001
SCALE = 1 / math.log(WIDTH)
SIZE = 480
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


class Histogram:
    """Counts of durations; `count`, `total` and `most` are exact, quantiles are those of the bucket's upper end.

    Where there are very many, `raw` takes them as whole numbers of some unit, and `fold` counts them later.
    """

    __slots__ = ("count", "counts", "most", "raw", "total")

    def __init__(self) -> None:
        self.raw: list[int] = []
        self.counts = [0] * SIZE
        self.count = 0
        self.total = 0.0
        self.most = 0.0

    def add(self, ms: float, times: int = 1) -> None:
        self.counts[min(int(math.log(ms / LEAST) * SCALE) + 1, SIZE - 1) if ms > LEAST else 0] += times
        self.count += times
        self.total += ms * times
        self.most = max(self.most, ms)

    def fold(self, unit_ms: float) -> None:
        """Count what is in `raw`."""
        for value, times in Counter(self.raw).items():
            self.add(value * unit_ms, times)
        self.raw.clear()

    def merge(self, other: Histogram) -> None:
        if not other.count:
            return
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.count += other.count
        self.total += other.total
        self.most = max(self.most, other.most)

    def quantile(self, share: float) -> float | None:
        """Return the duration that `share` of them do not exceed, None where there are none."""
        wanted = share * self.count
        seen = 0
        for index, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return min(_upper(index), self.most)
        return None

    def summary(self) -> dict[str, Any]:
        """Return {"count", "mean", "p50", "p90", "p99", "p999", "max"}; all but the count None where there are none."""
        mean, most = (self.total / self.count, self.most) if self.count else (None, None)
        told = {"mean": mean, **{name: self.quantile(share) for name, share in QUANTILES.items()}, "max": most}
        return {"count": self.count, **{name: rounded(value) for name, value in told.items()}}

    def buckets(self) -> list[list[float]]:
        """Return [upper end in ms, count] of each bucket that is not empty."""
        return [[round(_upper(index), 5), count] for index, count in enumerate(self.counts) if count]


def _upper(index: int) -> float:
    return LEAST * WIDTH**index


def rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def slope(points: list[tuple[float, float]]) -> float | None:
    """Return the rise of y for each x of the line that fits (x, y) best, None for fewer than two points."""
    if len(points) < 2:
        return None
    middle_x, middle_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    width = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / width if width else None
