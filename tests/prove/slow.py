"""R42: viewers that read 1 kB/s hold little of the server, are dropped, and miss nothing when they come back.

All of them follow one long answer, which is over. What they cost is read from outside: the growth of the process and
the bytes that its sockets have not got rid of. Another viewer reads all of it meanwhile.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from pathlib import Path

from chatstream.testing import FakeProvider, Turn

from .resets import request_of
from .rig import Client, Frame, Program, Report, all_frames, environment_of, spread, status_of, turn_of

RATE = 1024  # bytes a second
SPEECH = Turn(text="word " * 60_000, chunk=20, write=2000)
_BLOCK = re.compile(rb"id: (\d+)\n(?:data: (.*)\n)?\n")


async def prove(report: Report, folder: Path, count: int) -> None:
    # Of several arenas glibc keeps the free memory of each: which thread happened to work would be the figure.
    arenas = {"MALLOC_ARENA_MAX": "1"}
    async with (
        FakeProvider(lambda asked: SPEECH) as fake,
        Program(folder, "--model", "openai-chat:fake", **environment_of(fake), **arenas) as program,
        Client(program.url) as client,
    ):
        asked = await client.ask(turn_of(await client.conversation(), "turn", "Speak."))
        run = asked.headers["X-Run-Id"]
        whole = await all_frames(asked)
        await client.events(run)
        before = _megabytes(program)
        viewers = [asyncio.create_task(_trickle(program, run)) for _ in range(count)]
        await asyncio.sleep(10)
        grown, queued = _megabytes(program) - before, _queued(program)
        assert await client.events(run) == whole, "another viewer noticed"
        lasted = []
        for seconds, seen in await asyncio.gather(*viewers):
            lasted.append(seconds)
            assert 0 < len(seen) < len(whole), "it was told all, and not dropped"
            assert seen + await all_frames(await client.follow(run, seen[-1][0])) == whole, "it missed something"
    report.say(f"{count} viewers that read 1 kB/s saw their connection end after {spread(lasted, 's')},")
    report.say("  when they had read what was on its way, and came back to the rest")
    report.goal("the kernel held for each, at most", max(queued) / 1024, 64, "KiB")
    report.goal("the process grew by, for each", grown / count * 1024, 1024, "KiB")


async def _trickle(program: Program, run: str) -> tuple[float, list[Frame]]:
    """Read slowly until the connection breaks; return for how long, and the frames that came whole."""
    began = time.monotonic()
    with socket.socket() as viewer:
        viewer.setblocking(False)
        viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(viewer, ("127.0.0.1", program.port))
        # One that knows no chunks is told the frames alone.
        await loop.sock_sendall(viewer, request_of(f"/api/runs/{run}/events").replace(b"HTTP/1.1", b"HTTP/1.0"))
        told = b""
        try:
            while data := await loop.sock_recv(viewer, RATE // 4):
                told += data
                await asyncio.sleep(len(data) / RATE)
        except ConnectionError:
            pass
    return time.monotonic() - began, [(int(number), data) for number, data in _BLOCK.findall(told)]


def _megabytes(program: Program) -> float:
    return int(status_of(program.process.pid)["VmRSS"].split()[0]) / 1024


def _queued(program: Program) -> list[int]:
    """Return how many bytes wait in each socket of the server's port, as /proc/net/tcp tells."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(line[4].partition(":")[0], 16) for line in lines if int(line[1].partition(":")[2], 16) == program.port]
