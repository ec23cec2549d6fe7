"""What /proc tells of a process and its children: CPU, memory, descriptors, threads. Linux only; elsewhere nothing."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Sample:
    """`cpu` in seconds of all threads so far, `rss` in MB; of the process and all that it started."""

    cpu: float
    rss: float
    descriptors: int
    threads: int


def sample(pid: int | None) -> Sample | None:
    """Return what a process uses, None where it is not known or has ended."""
    if pid is None or not (PROC / str(pid) / "stat").exists():
        return None
    cpu, rss, descriptors, threads = 0.0, 0.0, 0, 0
    for each in _tree(pid):
        try:
            fields = (PROC / str(each) / "stat").read_text().rpartition(")")[2].split()
            descriptors += len(os.listdir(PROC / str(each) / "fd"))  # noqa: PTH208
        except OSError:
            continue
        cpu += (int(fields[11]) + int(fields[12])) / TICKS
        threads += int(fields[17])
        rss += int(fields[21]) * PAGE_MB
    return Sample(cpu, rss, descriptors, threads)


def wanted(pid: int | None) -> tuple[float, float]:
    """Return the seconds that a process's first thread has run, and that it waited for a core; 0 where not known."""
    try:
        ran, waited, *_ = map(int, (PROC / str(pid) / "schedstat").read_text().split())
    except (OSError, ValueError):
        return 0.0, 0.0
    return ran / 1e9, waited / 1e9


def _tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for each in found:
        for children in (PROC / str(each)).glob("task/*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:
                continue
    return found


def listening(port: int) -> int | None:
    """Return the process that listens at a TCP port of this machine, None where it cannot be told."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            rows = [line.split() for line in (PROC / "net" / table).read_text().splitlines()[1:]]
        except OSError:
            continue
        inodes |= {f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}
    owners = [int(path.name) for path in PROC.glob("[0-9]*") if inodes and inodes & _open(path)]
    return min(owners, default=None)


def _open(process: Path) -> set[str]:
    """Return what the descriptors of a process lead to, as far as it may be seen."""
    found = set()
    with suppress(OSError):
        for path in (process / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile, as the one that reads this folder
                found.add(str(path.readlink()))
    return found


def machine() -> dict[str, Any]:
    """Return {"cpu", "cores", "kernel", "python"} of this machine."""
    try:
        lines = (PROC / "cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    kernel = f"{platform.system()} {platform.release()}"
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": kernel, "python": platform.python_version()}
