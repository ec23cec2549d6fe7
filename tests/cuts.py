"""Ways to cut bytes into pieces: what is read must not depend on them."""

from __future__ import annotations

import random
from collections.abc import Iterator


def every_cut(data: bytes) -> Iterator[list[bytes]]:
    """Yield the data whole, byte by byte, cut in two at every place, and in pieces of random sizes."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(len(data) + 1):
        yield [data[:at], data[at:]]
    for seed in range(20):
        yield random_cut(data, seed)


def random_cut(data: bytes, seed: int, longest: int = 9) -> list[bytes]:
    random_size = random.Random(seed).randint
    pieces, at = [], 0
    while at < len(data):
        size = random_size(1, longest)
        pieces.append(data[at : at + size])
        at += size
    return pieces
