#!/usr/bin/env python3
"""Loads a streaming chat server, says how it did, and fails where it did worse than asked.

    load.py steady --server 'python -m chatstream --port {port} --model anthropic:any --data {folder}'
    load.py ramp --url http://127.0.0.1:8000 --profile openai --rate 20 --max-gap-p99 100 --out result.json
    load.py provider --port 9100
    load.py report result.json other.json -o report.html

The answers come from a fake provider, which speaks Anthropic's Messages, OpenAI's Responses and chat completions, and
stamps each delta with the moment it was written: so latency is measured for each, through any server that relays text.
With --server the provider and the server are started, and ended. In the command {port}, {provider} (its address) and
{folder} (one that goes away) are filled in, and ANTHROPIC_BASE_URL, OPENAI_BASE_URL, their keys and PORT are set. With
--url the server is yours: point it at `load.py provider`, whose address --provider tells; a server that asks a real
model is measured without latencies and what the provider saw.

scenarios
  steady      --streams at one --rate: latency, gaps, time to the first delta, CPU for each delta
  ramp        --step more streams at a time, up to the breaking point: a p99 over its limit (latency 100 ms, gap 50 ms
              over the pace, unless said), or a share under 97%
  burst       --streams at once, again --every so many seconds
  soak        steady with one answer in ten left in the middle: the slope of memory
  slow        --slow readers that stop (or read --read-rate bytes/s) beside --streams that do not
  disconnect  all leave at once, before the answer, in its middle, in its silence: when the provider's socket is closed
  reconnect   all are cut --every so many seconds and resume by cursor: the text must be whole
  stop        all are stopped at once: when the request is answered, when the provider's socket is closed

A result is written as JSON (--out). Exit status: 0, 1 where a limit was not kept, 2 where nothing could be measured.
One Python process makes the load and another the answers. A delta costs each of them about 6 us of CPU at full speed,
and 10 to 20 paced, where it is a wake-up of its own; on one core the two come to about 45,000 paced deltas/s. A
result says where one of them was the limit, and not the server: where it ran or waited for a core 90% of the time. With
--pin the server has the last core for itself. Server figures are read in /proc, of --pid or of who listens at the port.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import datetime
import importlib
import ipaddress
import json
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loads import launch, process, provider, scenarios, session, words
from loads.client import Target
from loads.launch import LoadError
from loads.profiles import PROFILES, Profile

LARGEST = {"streams": 20_000, "max_streams": 20_000, "slow": 1000, "seconds": 7200, "deltas": 1_000_000, "batch": 1000}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="load.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("scenarios", nargs="+", metavar="SCENARIO", help=", ".join(scenarios.SCENARIOS))
    add = parser.add_argument_group("the server").add_argument
    add("--server", metavar="COMMAND", help="start it, beside a fake provider")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="a variable for it")
    add("--url", help="or: where it is")
    add("--provider", metavar="URL", help="where its fake provider is")
    add("--pid", type=int, help="its process")
    add("--allow-remote", action="store_true", help="let it be another machine, of yours")
    add("--pin", action="store_true", help="give the last core to the server, the others to the load")
    add = parser.add_argument_group("how it is asked").add_argument
    add("--profile", default="native", choices=PROFILES, help="whose wire (%(choices)s; %(default)s)")
    for name in ("path", "body", "delta", "end", "error", "stop", "resume"):
        add(f"--{name}", metavar="TEXT", help=_PROFILE_HELP[name])
    add("--header", action="append", default=[], metavar="'NAME: VALUE'", help="sent with each request")
    add("--model", default="load", help="what $model stands for")
    _add_numbers(parser)
    add = parser.add_argument_group("the result").add_argument
    add("--out", metavar="FILE", help="write it as JSON")
    add("--name", default="server", help="what the report calls it")
    add("--version", action="append", default=[], metavar="NAME=VALUE", help="a version to note in it")
    add("--quiet", action="store_true", help="no progress")
    return parser


_PROFILE_HELP = {
    "path": "instead of the profile's own: where to ask",
    "body": 'with what: \'{"prompt": "$message"}\'; $thread and $turn are new ids',
    "delta": "what is in each frame of text",
    "end": "what is in the end of a whole answer",
    "error": "what is in an error",
    "stop": "where to stop: /runs/$run/stop ($run is the header X-Run-Id)",
    "resume": "where to resume: /runs/$run/events?after=$after (the last id)",
}
_NUMBERS = {
    "how much": {
        "streams": "at once", "seconds": "how long", "deltas": "of an answer",
        "rate": "deltas/s of a stream; 0: as fast as they are read", "batch": "deltas in each write of the provider",
        "silent": "the provider goes silent behind so many deltas", "step": "ramp: streams more in each step",
        "step_seconds": "ramp: of a step", "max_streams": "ramp: where it ends", "every": "burst, reconnect: seconds",
        "slow": "slow: readers that are", "read_rate": "slow: bytes/s that they read, 0: none",
        "slow_deltas": "slow: of their answers, at full speed", "wait": "disconnect, stop: s for an upstream to close",
    },
    "limits: what does not keep them fails": {
        "max_latency_p99": "ms from the provider's write to here", "max_gap_p99": "ms between two reads with deltas",
        "max_ttft_p99": "ms to the first delta", "max_stop_p99": "ms from a stop to its answer",
        "max_close_p99": "ms until the provider's socket is closed", "min_share": "of the deltas that were to come",
        "min_streams": "held (ramp: by the last step that was well)", "max_failures": "answers that failed or were cut",
        "max_rss_growth_mb": "of the server's memory", "max_rss_slope": "MB a minute",
        "max_descriptors": "that the server has open in the end",
    },
}  # fmt: skip


def _add_numbers(parser: argparse.ArgumentParser) -> None:
    fields = {field.name: field for field in dataclasses.fields(session.Options)}
    for title, options in _NUMBERS.items():
        group = parser.add_argument_group(title)
        for name, text in options.items():
            kind = int if "int" in str(fields[name].type) else float
            default = "" if fields[name].default is None else f" ({fields[name].default:g})"
            group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=text + default)


def _options(given: argparse.Namespace) -> session.Options:
    """Return what was asked for; raises LoadError for numbers that make no sense."""
    numbers = {name for options in _NUMBERS.values() for name in options}
    values = {name: value for name, value in vars(given).items() if name in numbers and value is not None}
    for name, value in values.items():
        least = 1 if name in ("streams", "deltas", "batch", "step", "slow") else 0
        if not least <= value <= LARGEST.get(name, 1e9):
            raise LoadError(f"--{name.replace('_', '-')} is {least} to {LARGEST.get(name, 10**9)}, and not {value:g}")
    return session.Options(**values, model=given.model)


def _profile(given: argparse.Namespace) -> Profile:
    changes = {name: getattr(given, name) for name in _PROFILE_HELP if getattr(given, name) is not None}
    return dataclasses.replace(PROFILES[given.profile], **changes)


def _target(url: str, allow_remote: bool, headers: Sequence[str] = ()) -> Target:
    """Return where to ask; raises LoadError for an address that is none, or of another machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as error:
        raise LoadError(f"{url!r} is no address: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise LoadError(f"an address begins with http:// or https://, and not {url!r}")
    try:
        is_local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = False
    if not (is_local or allow_remote):
        raise LoadError(f"{host} is another machine: --allow-remote, if it is yours to load")
    if strange := [header for header in headers if ":" not in header or "\n" in header]:
        raise LoadError(f"a header is 'Name: value', and not {strange[0]!r}")
    return Target(url, tuple(headers))


def _pairs(given: Sequence[str], option: str) -> dict[str, str]:
    if strange := [each for each in given if "=" not in each]:
        raise LoadError(f"{option} is NAME=VALUE, and not {strange[0]!r}")
    return dict(each.split("=", 1) for each in given)


def _raise_descriptors(wanted: int) -> None:
    """Let this process and its children open as many files as the system allows; raises LoadError for too few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < wanted + 100:
        raise LoadError(f"{wanted} streams want {wanted + 100} descriptors, and ulimit -n allows {hard}")


async def _load(given: argparse.Namespace) -> dict[str, Any]:
    """Start what is to be started, run the scenarios and return the result."""
    names = [name for each in given.scenarios for name in each.split(",")]
    if strange := [name for name in names if name not in scenarios.SCENARIOS]:
        raise LoadError(f"no scenario {strange[0]!r}: there are {', '.join(scenarios.SCENARIOS)}, provider and report")
    if bool(given.server) == bool(given.url):
        raise LoadError("say where the server is (--url), or how to start it (--server)")
    options, profile = _options(given), _profile(given)
    variables, versions = _pairs(given.env, "--env"), _pairs(given.version, "--version")
    scenarios.check(names, profile, options, has_provider=bool(given.server or given.provider))
    _raise_descriptors(max(options.streams, options.max_streams if "ramp" in names else 0) + options.slow)
    async with contextlib.AsyncExitStack() as stack:
        pid, url, upstream = given.pid, given.url, given.provider
        if given.server:
            upstream = upstream or await stack.enter_async_context(launch.provider(__file__))
            with _pinned(given.pin):
                pid, url = await stack.enter_async_context(launch.server(given.server, upstream, variables))
        target = _target(url, given.allow_remote, given.header)
        if pid is None and _is_here(target):
            pid = process.listening(target.port)
        link = session.Link(_target(upstream, given.allow_remote) if upstream else None)
        await session.warm_up(target, profile, options, link)
        done = []
        for name in names:
            load = session.Load(name, options, target, profile, link, pid)
            done.append(await scenarios.run(load, (lambda load: None) if given.quiet else words.tell))
    told = {"url": target.url, "profile": given.profile, "pid": pid}
    about = {
        "chatstreamLoad": 1,
        "name": given.name,
        "date": _now(),
        "machine": process.machine(),
        "versions": versions,
    }
    is_ok = all(check["ok"] for each in done for check in each["checks"])
    return about | {"command": sys.argv, "target": told, "scenarios": done, "ok": is_ok}


@contextlib.contextmanager
def _pinned(is_wanted: bool) -> Any:
    """Give what is started meanwhile the last core, and the others to this process."""
    cores = sorted(os.sched_getaffinity(0))
    if is_wanted and len(cores) < 2:
        raise LoadError("--pin wants two cores")
    if is_wanted:
        os.sched_setaffinity(0, cores[-1:])
    yield
    if is_wanted:
        os.sched_setaffinity(0, cores[:-1])


def _is_here(target: Target) -> bool:
    return target.host == "localhost" or target.host.startswith("127.") or target.host == "::1"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _main_provider(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="load.py provider", description=provider.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9100)
    default = provider.Plan()
    for name in ("deltas", "rate", "batch", "first", "silent"):
        value = getattr(default, name)
        parser.add_argument(f"--{name}", type=type(value), default=value, metavar="N", help="(%(default)s)")
    given = parser.parse_args(arguments)
    _raise_descriptors(100)
    _target(f"http://{given.host}:{given.port}", False)
    plan = provider.Plan(given.deltas, given.rate, given.batch, given.first, given.silent)
    _run(provider.serve(given.host, given.port, plan))


def _main_report(arguments: Sequence[str]) -> None:
    from loads import report

    parser = argparse.ArgumentParser(prog="load.py report", description="Writes results as one HTML file.")
    parser.add_argument("files", nargs="+", metavar="RESULT")
    parser.add_argument("-o", "--out", default="report.html", metavar="FILE", help="(%(default)s)")
    given = parser.parse_args(arguments)
    Path(given.out).write_text(report.render(report.read(given.files)), "utf-8")


def _main_load(arguments: Sequence[str]) -> None:
    given = _parser().parse_args(arguments)
    if given.out and not Path(given.out).absolute().parent.is_dir():
        raise LoadError(f"there is no folder for {given.out}")
    result = _run(_load(given))
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(words.summary(result))
    if given.out:
        Path(given.out).write_text(json.dumps(result, indent=1))
    sys.exit(0 if result["ok"] else 1)


def _run(main: Any) -> Any:
    """Run a coroutine, on uvloop where it is installed."""
    try:
        factory: Any = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_stoppable(main))


async def _stoppable(main: Any) -> Any:
    """Let SIGTERM end a coroutine as Ctrl-C does: what it started is ended too."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await main


def main(arguments: Sequence[str]) -> None:
    commands = {"provider": _main_provider, "report": _main_report}
    command = commands.get(arguments[0] if arguments else "")
    try:
        command(arguments[1:]) if command else _main_load(arguments)
    except (LoadError, OSError) as error:
        sys.exit(_refused(str(error)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)


def _refused(message: str) -> int:
    print(f"load.py: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main(sys.argv[1:])
