#!/usr/bin/env python3
"""Measures the server's CPU time for each text delta that it passes on, and for each request.

    .venv/bin/python scripts/cpu_per_delta.py [--streams 50] [--deltas 500] [--pause 0.02] [--rounds 3]

A provider on loopback (this process) streams `--deltas` deltas into each of `--streams` answers at once, one event in
each write, `--pause` seconds between two; 0 is full speed. The server is `python -m chatstream` in a process of its
own, and what is counted is the user and system time that the kernel charges to it. The cost of a request is measured
by answers of one delta and taken off. Each API is asked twice: with the log in memory, and with the one in SQLite that
makes the answers durable. Then the first of them is asked by the wires of other front ends. Quote ratios between two
runs on one machine: the machine decides the rest.
Linux only (reads /proc).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from chatstream.testing import Turn, chat_stream, messages_stream, responses_stream

TEXT = " token"
APIS = {
    "anthropic": (messages_stream, "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", ""),
    "openai": (responses_stream, "OPENAI_API_KEY", "OPENAI_BASE_URL", "/v1"),
    "openai-chat": (chat_stream, "OPENAI_API_KEY", "OPENAI_BASE_URL", "/v1"),
}
# For each wire its path, a question in the words of its clients, and how its answer ends well.
ASKED = '{"id":"1","role":"user","content":"deltas=%d"}'
SAID = '{"id":"1","role":"user","parts":[{"type":"text","text":"deltas=%d"}]}'
WIRES = {
    "native": ("/api/chat", '{"messages":[{"role":"user","content":"deltas=%d"}]}', '"type":"done"'),
    "ag-ui": ("/ag-ui", f'{{"threadId":"THREAD","runId":"RUN","messages":[{ASKED}]}}', '"type":"RUN_FINISHED"'),
    "ai-sdk": ("/ai-sdk/chat", f'{{"id":"THREAD","trigger":"submit-message","messages":[{SAID}]}}', '"type":"finish"'),
    "openai": ("/v1/chat/completions", f'{{"model":"MODEL","stream":true,"messages":[{ASKED}]}}', "[DONE]"),
}


@asynccontextmanager
async def provider(api: str, pause: float) -> AsyncIterator[int]:
    """Serve streams of as many deltas as the last number in the request says; yields the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                count = int((await reader.readexactly(length)).split(b"deltas=")[1].split(b'"')[0])
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                stream = APIS[api][0](Turn(text=TEXT * count, chunk=len(TEXT)))
                for event in stream.split(b"\n\n")[:-1]:
                    writer.write(b"%x\r\n%b\n\n\r\n" % (len(event) + 2, event))
                    await (asyncio.sleep(pause) if pause else writer.drain())
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=4096)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def chatstream(api: str, upstream: int, data: str, under: Sequence[str] = ()) -> AsyncIterator[tuple[int, int]]:
    """Start the server on the folder `data`, `under` a command if one is given; yields its process id and port."""
    _, key, base, path = APIS[api]
    process = await asyncio.create_subprocess_exec(
        *under,
        *(sys.executable, "-m", "chatstream", "--port", "0", "--model", api, "--log-level", "warning", "--data", data),
        env=os.environ | {key: "none", base: f"http://127.0.0.1:{upstream}{path}"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    try:
        yield process.pid, int(line.split("http://127.0.0.1:")[1].split()[0])
    finally:
        process.terminate()
        await process.wait()


def cpu(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def ask(port: int, api: str, wire: str, deltas: int) -> int:
    """Ask for one answer and return how many deltas of text came."""
    path, question, end = WIRES[wire]
    for name, value in {"THREAD": uuid4().hex, "RUN": uuid4().hex, "MODEL": f"{api}:any"}.items():
        question = question.replace(name, value)
    body = (question % deltas).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)
    )
    answer = await reader.read()
    writer.close()
    if end.encode() not in answer:
        raise SystemExit(f"an answer did not end well: {answer[-500:]!r}")
    # The text is also in the end of the native wire, as the new message.
    return answer.count(TEXT.encode()) - (deltas if wire == "native" else 0)


async def measure(
    api: str, data: str, wire: str, streams: int, deltas: int, pause: float, rounds: int
) -> tuple[float, float]:
    """Return the microseconds of CPU for a delta and for a request."""
    async with provider(api, pause) as upstream, chatstream(api, upstream, data) as (pid, port):

        async def spend(count: int, times: int) -> float:
            before = cpu(pid)
            for _ in range(times):
                counts = await asyncio.gather(*(ask(port, api, wire, count) for _ in range(streams)))
                assert all(each == count for each in counts)
            return (cpu(pid) - before) * 1e6 / streams / times

        await spend(10, 2)
        requests = [await spend(1, 10) for _ in range(rounds)]
        answers = [await spend(deltas, 1 if pause else 4) for _ in range(rounds)]
    request = statistics.median(requests)
    return (statistics.median(answers) - request) / (deltas - 1), request


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind, default in (("streams", int, 50), ("deltas", int, 500), ("pause", float, 0.0), ("rounds", int, 3)):
        parser.add_argument(f"--{name}", type=kind, default=default)
    options = vars(parser.parse_args())
    with tempfile.TemporaryDirectory() as folder:
        logs = {"memory": ":memory:", "sqlite": folder}
        first, *others = WIRES
        rows = [*itertools.product(APIS, logs, [first]), *itertools.product(list(APIS)[:1], ["memory"], others)]
        for api, log, wire in rows:
            delta, request = asyncio.run(measure(api, logs[log], wire, **options))
            cost = f"{delta:6.1f} us CPU a delta, {request / 1000:5.2f} ms a request"
            print(f"{api:12} {log:6} {wire:6} {cost}", flush=True)


if __name__ == "__main__":
    main()
