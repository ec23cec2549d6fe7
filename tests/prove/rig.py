"""What the proofs share: the server as a process, clients that note what they saw, and the report."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import aiohttp

from chatstream.testing import FakeProvider, Recorded

ROOT = Path(__file__).parents[2]
TOOLS = Path(__file__).parent / "tools.py"
# What takes this many seconds will never come.
HANG = 60.0
APIS = ("anthropic", "openai", "openai-chat")
LOST = (aiohttp.ClientError, ConnectionError)

Json = dict[str, Any]
Frame = tuple[int, bytes]


class Report:
    """Says how a proof goes, and what it found: `goal` notes figures that missed theirs."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        self.missed: list[str] = []
        self._is_quiet = is_quiet
        self._told_at = 0.0

    def say(self, text: str) -> None:
        if not self._is_quiet:
            print(f"  {text}", flush=True)

    def progress(self, text: str) -> None:
        """Say how far it is, every few seconds at most."""
        if time.monotonic() - self._told_at > 5:
            self._told_at = time.monotonic()
            self.say(f"... {text}")

    def goal(self, name: str, value: float, limit: float, unit: str) -> None:
        self.say(f"{name}: {value:.4g} {unit} (goal: at most {limit:g})")
        if value > limit:
            self.missed.append(f"{name}: {value:.4g} {unit}, which is more than {limit:g}")


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


def spread(values: Sequence[float], unit: str = "ms") -> str:
    """Return the figures of some times in words."""
    if not values:
        return "none"
    told = (("p50", percentile(values, 50)), ("p99", percentile(values, 99)), ("max", max(values)))
    return ", ".join(f"{name} {value:.1f}" for name, value in told) + f" {unit}"


# --- the server -------------------------------------------------------------------------------------------------------


class Program:
    """`python -m chatstream` on a folder of data, which can be killed and started again at the same address.

    What it logs is in `log`, what its tools did in `notes`: `tools.py` writes a line for each thing.
    """

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.folder = folder
        self.options = options
        self.environment = environment
        self.port = 0
        self.log = folder / "server.log"
        self.notes = folder / "notes"
        self.notes.touch()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    def noted(self, line: str = "") -> int:
        """Return how many lines the tools wrote, or how many of these."""
        lines = self.notes.read_text().splitlines()
        return lines.count(line) if line else len(lines)

    async def spawn(self) -> None:
        """Start the process, without waiting until it is ready."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "chatstream", "--port", str(self.port), "--data", str(self.folder / "data")),
                *("--tools", str(TOOLS), "--log-level", "warning", *self.options),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": str(ROOT), "PROVE_NOTES": str(self.notes)} | self.environment,
            )

    async def ready(self) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(HANG):
            line = (await self.process.stdout.readline()).decode()
        assert line.startswith("chatstream is ready: "), self.log.read_text()[-2000:]
        self.port = int(line.split()[3].rpartition(":")[2])

    async def start(self) -> None:
        await self.spawn()
        await self.ready()

    async def end(self, name: signal.Signals = signal.SIGKILL, within: float = HANG) -> int:
        """Send a signal, and return the status with which the process ended."""
        if self.process.returncode is None:
            self.process.send_signal(name)
        async with asyncio.timeout(within):
            return await self.process.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *raised: object) -> None:
        if self._process is not None:
            await self.end()
            # Its pipe is closed with the loop otherwise, which warns.
            self._process._transport.close()  # type: ignore[attr-defined]


def sent(recorded: Recorded) -> list[Json]:
    """Return the history that a provider was sent."""
    history: list[Json] = recorded.body.get("messages") or recorded.body["input"]
    return history


def environment_of(fake: FakeProvider | str) -> dict[str, str]:
    """Return the variables that point both SDKs at a provider."""
    url = fake if isinstance(fake, str) else fake.url
    keys = {"ANTHROPIC_API_KEY": "sk-ant-none", "OPENAI_API_KEY": "sk-none"}
    return keys | {"ANTHROPIC_BASE_URL": url, "OPENAI_BASE_URL": f"{url}/v1"}


def descriptors(pid: int) -> list[Path]:
    """Return the open file descriptors of a process."""
    return list(Path(f"/proc/{pid}/fd").iterdir())


def status_of(pid: int) -> dict[str, str]:
    """Return what /proc says of a process."""
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


def link(descriptor: Path) -> str:
    """Return what a descriptor leads to, empty where it is closed."""
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""


# --- clients ----------------------------------------------------------------------------------------------------------


class Client:
    """One client of the server. `ask` and `follow` open streams, which are read by `frames`."""

    def __init__(self, url: str) -> None:
        self._session = aiohttp.ClientSession(
            url, timeout=aiohttp.ClientTimeout(HANG), connector=aiohttp.TCPConnector(limit=0)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._session.close()

    async def get(self, path: str) -> Any:
        async with self._session.get(path) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def post(self, path: str, body: Json | None = None) -> tuple[int, Any]:
        async with self._session.post(path, json=body or {}) as response:
            return response.status, await response.json()

    async def status(self, path: str) -> int:
        async with self._session.get(path) as response:
            return response.status

    async def conversation(self) -> str:
        status, told = await self.post("/api/conversations")
        assert status == 201, told
        return str(told["id"])

    async def tree(self, conversation: str) -> Json:
        return dict(await self.get(f"/api/conversations/{conversation}"))

    async def ask(self, body: Json) -> aiohttp.ClientResponse:
        response = await self._session.post("/api/chat", json=body)
        assert response.status == 200, await response.text()
        return response

    async def follow(self, run: str, after: int = 0, *, by_header: bool = False) -> aiohttp.ClientResponse:
        path, headers = f"/api/runs/{run}/events", {}
        if by_header:
            headers["Last-Event-ID"] = str(after)
        else:
            path += f"?after={after}"
        response = await self._session.get(path, headers=headers)
        assert response.status == 200, await response.text()
        return response

    async def stop(self, run: str) -> Json:
        status, receipt = await self.post(f"/api/runs/{run}/stop")
        assert status == 200, receipt
        return dict(receipt)

    async def answer(self, body: Json) -> list[Json]:
        """Ask, and return every frame of the answer as what it says."""
        return values(await all_frames(await self.ask(body)))

    async def events(self, run: str) -> list[Frame]:
        """Return all frames of a run, to its end."""
        return await all_frames(await self.follow(run))


async def frames(response: aiohttp.ClientResponse) -> AsyncIterator[Frame]:
    """Yield number and data of each whole frame, empty data for an id alone; closes the response at the end."""
    number, data = 0, b""
    async with response:
        async for line in response.content:
            if line.startswith(b"id: "):
                number = int(line[4:])
            elif line.startswith(b"data: "):
                data = line[6:-1]
            elif line == b"\n" and number:
                yield number, data
                number, data = 0, b""


async def all_frames(response: aiohttp.ClientResponse) -> list[Frame]:
    return [frame async for frame in frames(response)]


def values(seen: Sequence[Frame]) -> list[Json]:
    return [json.loads(data) for _, data in seen if data]


def text_of(seen: Sequence[Frame]) -> str:
    return "".join(value["content"] for value in values(seen) if value["type"] == "text")


def is_last(data: bytes) -> bool:
    return data.startswith((b'{"type":"done"', b'{"type":"error"'))


class Viewer:
    """Follows one run over as many connections as it takes, and notes each frame: all, once, and in order."""

    def __init__(self, client: Client, run: str = "") -> None:
        self.client = client
        self.run = run
        self.seen: list[Frame] = []
        self.connections = 0

    @property
    def has_ended(self) -> bool:
        return bool(self.seen) and is_last(self.seen[-1][1])

    async def read(self, response: aiohttp.ClientResponse, most: int = 2**31) -> None:
        """Read to the end, or until so many frames came, or until the connection is lost."""
        self.connections += 1
        self.run = self.run or response.headers["X-Run-Id"]
        with suppress(*LOST):
            async for number, data in frames(response):
                assert number == len(self.seen) + 1, f"after {len(self.seen)} came {number}"
                self.seen.append((number, data))
                most -= 1
                if most <= 0:
                    response.close()
                    return

    async def resume(self, most: int = 2**31) -> None:
        """Go on where it was, by the one way to say so or by the other."""
        with suppress(*LOST):
            after = len(self.seen)
            await self.read(await self.client.follow(self.run, after, by_header=self.connections % 2 == 0), most)


async def until(condition: Any, what: str, pause: float = 0.005) -> None:
    """Wait until something holds that nothing tells of; `condition` may be async."""
    ends = time.monotonic() + HANG
    while time.monotonic() < ends:
        met = condition()
        if await met if asyncio.iscoroutine(met) else met:
            return
        await asyncio.sleep(pause)
    raise AssertionError(f"it never came to pass: {what}")


def turn_of(conversation: str, turn: str, message: str = "", **more: Any) -> Json:
    return {"conversationId": conversation, "turnId": turn} | ({"message": message} if message else {}) | more


def contents(tree: Json, run: str) -> str:
    """Return the text that is stored of a run."""
    messages = [message for message in tree["messages"] if message["runId"] == run]
    parts = [part for message in messages for part in message["content"]]
    return "".join(part["text"] for part in parts if part["type"] == "text")


def run_in(tree: Json, run: str) -> Json:
    return next(each for each in tree["runs"] if each["id"] == run)


@asynccontextmanager
async def fake_and_server(folder: Path, fake: FakeProvider, *options: str) -> AsyncIterator[Program]:
    async with fake, Program(folder, *options, **environment_of(fake)) as program:
        yield program
