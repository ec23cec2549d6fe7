"""R17: SIGTERM. Not ready at once; what finishes within the grace period does; the rest is interrupted; then the end.

Half of the answers wait in a tool for a file that the proof makes once the server says that it is stopping. The
others would go on for ever: in a tool, in a stream, or with a provider that is silent. Half of all are stored. Some
viewers read nothing at all, and nobody waits for them.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from chatstream.testing import Call, FakeProvider, Recorded, Turn, chat_stream

from .kills import check_requests, has_results
from .rig import Client, Program, Report, Viewer, contents, environment_of, run_in, text_of, turn_of, until, values

GRACE = 3.0
KINDS = ("quick", "tool", "quick", "stream", "quick", "silent")
DEAF = 3  # viewers that read nothing
BIG = chat_stream(Turn(text="x" * 8_000_000, chunk=100_000))  # more than the buffers between two sockets hold
SPEECH = chat_stream(Turn(text="word " * 10_000))


@dataclass(slots=True)
class Stream:
    kind: str
    conversation: str
    viewer: Viewer
    task: asyncio.Task[None]


def turn(recorded: Recorded) -> Turn:
    last = recorded.body["messages"][-1]
    said = str(last["content"])
    if has_results(last):
        return Turn(text="Just in time.")
    if "quick" in said or "tool" in said:
        return Turn(text="Wait.", tools=[Call("hold", {"file": "quick" if "quick" in said else "never"})])
    if "stream" in said:
        return Turn(raw=SPEECH, delay=0.1, write=200)
    if "big" in said:
        return Turn(raw=BIG)
    return Turn(text="Well.") if "next" in said else Turn(first=600.0)


async def prove(report: Report, folder: Path, count: int) -> None:
    """Shut the server down with `count` open streams, and look at what is left when it is back."""
    options = ("--model", "openai-chat:fake", "--grace", str(GRACE))
    async with FakeProvider(turn) as fake, Program(folder, *options, **environment_of(fake)) as program:
        async with Client(program.url) as client:
            streams = await _open(client, program, count)
            deaf = await _open_deaf(client, program)
            ready, took = await _shut_down(client, program, folder, [stream.task for stream in streams])
            told = Counter(_outcome(stream) for stream in streams)
            for each in deaf:
                each.close()
        await program.start()
        async with Client(program.url) as client:
            for stream in streams:
                await _check(client, stream)
            check_requests(fake.requests)
    report.say(
        f"{count} open streams and {DEAF} more that nobody read: "
        + ", ".join(f"{times} {kind}" for kind, times in sorted(told.items()))
    )
    report.say(f"/readyz said 503 after {ready * 1000:.0f} ms; what was shown is stored, and can be continued")
    report.goal(f"exit, with a grace period of {GRACE:g} s", took, GRACE + 1, "s")


async def _open(client: Client, program: Program, count: int) -> list[Stream]:
    """Open the streams, and wait until each is where it is to be."""
    streams = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        conversation = await client.conversation() if number % 4 < 2 else ""
        stored = turn_of(conversation, "turn", kind)
        body = stored if conversation else {"messages": [{"role": "user", "content": kind}]}
        viewer = Viewer(client)
        reading = asyncio.create_task(viewer.read(await client.ask(body)))
        streams.append(Stream(kind, conversation, viewer, reading))
    held = sum(stream.kind in ("quick", "tool") for stream in streams)
    await until(lambda: program.noted("hold") == held, "the tools run")
    speaking = [stream.viewer for stream in streams if stream.kind == "stream"]
    await until(lambda: all(text_of(viewer.seen) for viewer in speaking), "the streams speak")
    return streams


async def _open_deaf(client: Client, program: Program) -> list[socket.socket]:
    """Let viewers ask for more than there is room for, and read none of it."""
    async with await client.ask({"messages": [{"role": "user", "content": "big"}]}) as response:
        await response.read()
    request = f"GET /api/runs/{response.headers['X-Run-Id']}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    deaf = []
    for _ in range(DEAF):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", program.port))
        connection.sendall(request)
        deaf.append(connection)
    return deaf


async def _shut_down(
    client: Client, program: Program, folder: Path, reading: list[asyncio.Task[None]]
) -> tuple[float, float]:
    """Return the seconds until the server was not ready, and until it was gone."""
    began = time.monotonic()
    program.process.send_signal(signal.SIGTERM)

    async def is_stopping() -> bool:
        return await client.status("/readyz") == 503

    await until(is_stopping, "/readyz says 503", 0.001)
    ready = time.monotonic() - began
    assert await client.status("/healthz") == 200
    status, told = await client.post("/api/chat", {"messages": [{"role": "user", "content": "next"}]})
    assert status == 503, told
    assert not any(task.done() for task in reading), "it did not wait"
    (folder / "quick").touch()
    async with asyncio.timeout(60):
        status = await program.process.wait()
    took = time.monotonic() - began
    assert status == 0, program.log.read_text()[-2000:]
    await asyncio.gather(*reading)
    assert "Traceback" not in program.log.read_text(), program.log.read_text()[-3000:]
    return ready, took


def _outcome(stream: Stream) -> str:
    """Return how a stream ended on the wire, which depends on its kind."""
    last = values(stream.viewer.seen)[-1]
    assert last["type"] == "done", f"{stream.kind}: {last}"
    assert last["outcome"] == ("completed" if stream.kind == "quick" else "interrupted"), f"{stream.kind}: {last}"
    return str(last["outcome"])


async def _check(client: Client, stream: Stream) -> None:
    """Hold what is stored against what was shown, and go on where something was interrupted."""
    viewer = stream.viewer
    assert await client.events(viewer.run) == viewer.seen
    if not stream.conversation:
        return
    tree = await client.tree(stream.conversation)
    assert run_in(tree, viewer.run)["outcome"] == values(viewer.seen)[-1]["outcome"]
    assert contents(tree, viewer.run) == text_of(viewer.seen)
    told = await client.answer(turn_of(stream.conversation, "next", "next"))
    assert told[-1]["outcome"] == "completed", told[-1]
