"""Measures chatstream beside its peers, in turn and on the same work, and writes the README's table and plot.

    scripts/bench [--quick] [--rounds N] [--only NAME,NAME] [--no-install]
    scripts/bench --table .bench/bench.json      # the table again, of what was measured before

Each server is one process on one core; the fake provider and the clients of scripts/load.py have the others. In each
round every server is started anew, asked for one answer, run warm and measured, one after the other; medians over the
rounds count, as parts of hono + anthropic. The figures are in .bench/bench.json after each server, and what
scripts/load.py told is in .bench/results/. A run of all servers writes the table into the README; a run of some prints
it, and so does one that Ctrl-C ends. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import resource
import shutil
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import launch
from .bench_table import MEASURES, NoTable, place, table
from .client import Target
from .launch import LoadError
from .peers import APPS, NODE_FOLDERS, PEERS, ROOT, WORK, missing, versions
from .process import machine
from .profiles import PROFILES, Profile, fill
from .provider import STAMP, Plan

LOAD = ROOT / "scripts" / "load.py"
START_LIMIT = 30.0  # seconds from a server's listening to its first words
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
Read = Callable[[dict[str, Any]], float | None]


@dataclass(frozen=True, slots=True)
class Step:
    """What scripts/load.py is asked to do, about how many seconds that takes, and what is read of its result."""

    name: str
    arguments: tuple[str, ...]
    seconds: float
    measures: dict[str, Read] = field(default_factory=dict)


def _steady(name: str, seconds: float, options: str, **measures: Read) -> Step:
    return Step(name, ("steady", "--seconds", str(seconds), *options.split()), seconds + 1, measures)


def _of(part: str, name: str) -> Read:
    """Return what reads one value of a result, None where it is not known."""
    return lambda scenario: (scenario[part] or {}).get(name)


def _memory(scenario: dict[str, Any]) -> float | None:
    server, most = scenario["server"], scenario["streams"]["mostOpen"]
    return (server["rssMbMost"] - server["rssMbStart"]) * 1000 / most if server and most else None


def _held(scenario: dict[str, Any]) -> float:
    return max((float(step["streams"]) for step in scenario["steps"] if step["ok"]), default=0.0)


def _step(name: str, times: float = 1) -> Read:
    """Return what reads a value of a ramp's first step."""
    return lambda scenario: None if (value := scenario["steps"][0][name]) is None else value * times


def _paced_cpu(scenario: dict[str, Any]) -> float | None:
    """Return the microseconds of CPU for each delta that a ramp's first step delivered."""
    step = scenario["steps"][0]
    deltas = step["streams"] * scenario["options"]["rate"] * step["share"]
    return None if step["cpu"] is None or not deltas else step["cpu"] * 1e6 / deltas


WARM = _steady("warm", 0.6, "--streams 20 --rate 0 --deltas 50")
# One step of a ramp: it counts only once all answers are on their way.
PACED = "--rate 20 --step 200 --step-seconds 4 --max-streams 200"
LIMITS = "--rate 20 --step 100 --step-seconds 2 --max-streams 1600 --max-latency-p99 100 --min-share 0.97"


def steps(quick: bool, number: int) -> list[Step]:
    """Return what is done with a server in a round, each behind a start: what a step leaves is no part of the next."""
    paced = {"cpuPaced": _paced_cpu, "latency": _step("latencyP99Ms"), "share": _step("share", 100)}
    found = [
        Step("paced", ("ramp", *PACED.split()), 6, paced | {"limit": _of("load", "isLimit")}),
        _steady("full", 2, "--streams 50 --rate 0 --batch 16", cpuFull=_of("server", "cpuUsPerDelta")),
    ]
    if number == 1 and not quick:
        found.append(_steady("open", 3, "--streams 500 --rate 0 --silent 1", memory=_memory))
        found.append(Step("ramp", ("ramp", *LIMITS.split()), 20, {"held": _held}))
    return found


def seconds(plan: list[Step]) -> float:
    """Return about how long some steps take, each with its start."""
    return sum(4 + step.seconds for step in plan)


@contextlib.contextmanager
def on(cores: list[int]) -> Iterator[None]:
    """Run on these cores, and what is started meanwhile too; where there are none, on any."""
    before = os.sched_getaffinity(0) if cores else set()
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, before)


@contextlib.asynccontextmanager
async def serving(name: str) -> AsyncIterator[tuple[list[str], float]]:
    """Start the fake provider and a server; yields what scripts/load.py is told of them, and the ms to first words."""
    peer = PEERS[name]
    async with contextlib.AsyncExitStack() as stack:
        provider = await stack.enter_async_context(launch.provider(str(LOAD)))
        since = time.monotonic()
        with on(CORES[-1:]):
            pid, url = await stack.enter_async_context(launch.server(peer.command, provider, peer.variables))
        # Some would wait for answers that nobody reads any more.
        stack.callback(kill, pid)
        async with asyncio.timeout(START_LIMIT):
            await first_words(url, PROFILES[peer.profile])
        cold = (time.monotonic() - since) * 1000
        yield ["--url", url, "--provider", provider, "--pid", str(pid), "--profile", peer.profile], cold


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


async def first_words(url: str, profile: Profile) -> None:
    """Ask until an answer has its first delta: a server that has just begun to listen may refuse for a moment."""
    values = {"message": Plan(deltas=2).tag, "thread": "first", "turn": "first", "model": "load"}
    target, said = Target(url, ("Connection: close",)), b""
    while not STAMP.search(said):
        reader, writer = await asyncio.open_connection(target.host, target.port)
        writer.write(target.request("POST", profile.path, fill(profile.body, **values)))
        said = b""
        while not STAMP.search(said) and (data := await reader.read(65536)):
            said += data
        writer.close()
        await asyncio.sleep(0.01)


async def take(step: Step, server: list[str], title: str, out: Path) -> dict[str, float]:
    """Let scripts/load.py take one step against a server and return its measures; raises LoadError."""
    command = [sys.executable, str(LOAD), *step.arguments, *server, "--name", title, "--out", str(out), "--quiet"]
    async with launch.child(command) as (process, said):
        async with asyncio.timeout(60 + 5 * step.seconds):
            await process.wait()
        return read(step, out, said)


def read(step: Step, out: Path, said: Path) -> dict[str, float]:
    """Return the measures that are in a result; raises LoadError where there is none, or no text in it."""
    if not out.exists():
        raise LoadError(f"{step.name}: {said.read_text(errors='replace').strip()[-300:]}")
    (scenario,) = json.loads(out.read_text())["scenarios"]
    if not scenario["deltas"]:
        raise LoadError(f"{step.name}: no text came, {scenario['errors']}")
    values = {measure: of(scenario) for measure, of in step.measures.items()}
    return {measure: value for measure, value in values.items() if value is not None}


async def measured(name: str, number: int, plan: list[Step]) -> dict[str, float]:
    """Return what one round tells of a server; raises LoadError."""
    found: dict[str, float] = {}
    colds = []
    try:
        for step in plan:
            async with serving(name) as (server, cold):
                colds.append(cold)
                await take(WARM, server, PEERS[name].title, WORK / "results" / "warm.json")
                out = WORK / "results" / f"{name}-{number}-{step.name}.json"
                found |= await take(step, server, PEERS[name].title, out)
    except (TimeoutError, OSError) as error:
        raise LoadError(f"it took too long or broke off: {str(error) or type(error).__name__}") from None
    return found | {"cold": statistics.median(colds)}


async def run(bench: dict[str, Any], names: list[str], rounds: int, quick: bool) -> None:
    """Measure the servers in turn, round by round; the bench is written after each."""
    turns = [(number, name, steps(quick, number)) for number in range(1, rounds + 1) for name in names]
    expected = [seconds(plan) for _, _, plan in turns]
    print(f"{len(names)} servers, rounds: {rounds}, about {sum(expected) / 60:.0f} minutes", flush=True)
    began = time.monotonic()
    for at, (number, name, plan) in enumerate(turns, 1):
        if name in bench["failed"]:
            continue
        print(f"{number}/{rounds} {PEERS[name].title:24}", end=" ", flush=True)
        try:
            measures = await measured(name, number, plan)
        except LoadError as failure:
            bench["failed"][name] = " ".join(str(failure).split())
            print(f"failed: {failure}", flush=True)
        else:
            bench["runs"].append({"server": name, "round": number, "measures": measures})
            left = int((time.monotonic() - began) / sum(expected[:at]) * sum(expected[at:]))
            told = "  ".join(f"{measure} {value:.4g}" for measure, value in measures.items() if measure in MEASURES)
            print(f"{told}  ({left // 60}:{left % 60:02} left)", flush=True)
        save(bench)


def save(bench: dict[str, Any]) -> None:
    part = WORK / "bench.json.part"
    part.write_text(json.dumps(bench, indent=1))
    part.replace(WORK / "bench.json")


def opened(names: list[str], quick: bool) -> tuple[dict[str, Any], list[str]]:
    """Return a bench in which nothing was measured yet, and those servers that can be measured here."""
    skipped = {name: why for name in names if (why := missing(PEERS[name]))}
    there = [name for name in names if name not in skipped]
    bench: dict[str, Any] = {"chatstreamBench": 1, "date": datetime.now(UTC).isoformat(timespec="seconds")}
    bench |= {"machine": machine(), "quick": quick, "pinned": len(CORES) > 1}
    bench["titles"] = {name: peer.title for name, peer in PEERS.items()}
    bench["versions"] = versions([PEERS[name] for name in there])
    return bench | {"skipped": skipped, "failed": {}, "runs": []}, there


def parse(arguments: list[str]) -> argparse.Namespace:
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("scripts/bench", description=__doc__, formatter_class=about)
    parser.add_argument("--only", metavar="NAMES", help=f"some of them, with commas between: {', '.join(PEERS)}")
    parser.add_argument(
        "--rounds", type=int, default=0, help="how often each is measured (default: 3, or 1 with --quick)"
    )
    parser.add_argument("--quick", action="store_true", help="one short round, without the capacity: under 4 minutes")
    parser.add_argument("--no-install", action="store_true", help="take the peers as they are in .bench/")
    parser.add_argument("--table", metavar="FILE", type=Path, help="measure nothing, write the table of an earlier run")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.names = options.only.split(",") if options.only else list(PEERS)
    if unknown := set(options.names) - set(PEERS):
        parser.error(f"no server is named {', '.join(sorted(unknown))}: there are {', '.join(PEERS)}")
    if not 1 <= options.rounds <= 20:
        parser.error("--rounds is 1 to 20")
    return options


def show(bench: dict[str, Any], readme: Path | None) -> None:
    """Write the table into the README, or print it where there is none to write."""
    try:
        section = table(bench)
    except NoTable as error:
        if readme:
            raise
        section = f"no table: {error}"
    if readme is None:
        print(f"\n{section}\n")
    else:
        readme.write_text(place(readme.read_text(), section))
        print(f"the table is in {readme.relative_to(ROOT)}; the figures are in .bench/bench.json")


def prepare() -> None:
    """Make room for the results, and for many connections; Node looks for packages from where the program is."""
    shutil.rmtree(WORK / "results", ignore_errors=True)
    (WORK / "results").mkdir(parents=True)
    for folder, app in itertools.product(NODE_FOLDERS, APPS.glob("node/*.mjs")):
        if folder.is_dir():
            shutil.copy(app, folder)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.environ.update(dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1"))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has ignored in the background
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def measure(options: argparse.Namespace) -> int:
    """Measure, keep the figures and show them; returns the exit status."""
    prepare()
    bench, names = opened(options.names, options.quick)
    for name, why in bench["skipped"].items():
        print(f"without {PEERS[name].title}: {why}")
    status = 0
    try:
        with on(CORES[:-1]):
            asyncio.run(run(bench, names, options.rounds, options.quick))
    except KeyboardInterrupt:
        status = 130
        print("\nstopped; what was measured until then:")
    is_whole = not (status or options.only)
    if is_whole or bench["runs"]:
        show(bench, ROOT / "README.md" if is_whole else None)
    return status


def main() -> int:
    options = parse(sys.argv[1:])
    try:
        if options.table is None:
            return measure(options)
        show(json.loads(options.table.read_text()), ROOT / "README.md")
    except (NoTable, OSError, json.JSONDecodeError) as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
