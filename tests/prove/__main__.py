"""Proofs of what chatstream promises, by a server that is a process of its own and is treated badly.

    cuts      a stream cut at every byte, doubled and out of order, changes nothing
    kills     kill -9 under load loses no event that anybody saw
    stops     a stop closes the provider's socket at once, whatever the run was doing
    viewers   everybody sees every event once; what is asked many times is done once
    resets    clients that tear their connections leave nothing behind
    slow      viewers that read 1 kB/s hold little, are dropped, and come back to the rest
    shutdown  SIGTERM lets answers finish, interrupts the rest, and ends in time

`scripts/prove [PROOF] [--count N]` runs them with figures, the suite runs small counts of the same code, but for
`slow`, whose time is told by the clock (tests/server/test_slow.py scales it down). What must hold is asserted; what a
noisy machine can break is a figure with its goal beside it. Linux only (reads /proc).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path

from .rig import Report

# What a proof counts, and how many of it; 10,000 places to cut at are every byte.
COUNTS = {
    "cuts": ("places to cut at", 500),
    "kills": ("kills", 50),
    "stops": ("runs of each phase and API", 100),
    "viewers": ("rounds", 10),
    "resets": ("connections", 5000),
    "slow": ("viewers", 50),
    "shutdown": ("open streams", 200),
}


def run(name: str, count: int) -> list[str]:
    """Run one proof in a folder of its own; returns the goals that were missed, raises AssertionError."""
    print(f"{name} ({COUNTS[name][0]}: {count:,})", flush=True)
    report, began = Report(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chatstream-") as folder:
        asyncio.run(import_module(f"tests.prove.{name}").prove(report, Path(folder), count))
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    return report.missed


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/prove", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("proof", nargs="?", choices=COUNTS)
    parser.add_argument("--count", type=int)
    options = parser.parse_args()
    # The fake provider is a server too, and its clients leave all the time.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    missed, failed = [], []
    for name, (_, count) in COUNTS.items():
        if options.proof in (None, name):
            try:
                missed += run(name, options.count or count)
            except Exception as error:
                failed.append(f"{name}: {type(error).__name__}: {error}")
                traceback.print_exc()
    for text in (*missed, *failed):
        print(f"NOT AS PROMISED: {text[:300]}")
    if not (missed or failed):
        print("all as promised")
    return bool(missed or failed)


if __name__ == "__main__":
    sys.exit(main())
