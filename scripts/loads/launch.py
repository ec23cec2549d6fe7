"""Starts what a load needs, and ends it: the fake provider and the server, each a process of its own."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

PATIENCE = 60.0


class LoadError(Exception):
    """What the user has to mend; the message says what was met and what was expected."""


@asynccontextmanager
async def child(command: Sequence[str], **variables: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Path]]:
    """Run a command in a process group of its own, which is ended; yields it and the file that it writes to."""
    with tempfile.TemporaryDirectory(prefix="load_") as folder:
        said = Path(folder) / "output"
        with said.open("wb") as output:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    env=os.environ | variables,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            except OSError as error:
                raise LoadError(f"cannot start {command[0]!r}: {error.strerror}") from None
        try:
            yield process, said
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process and those that it started, kindly at first."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        with suppress(TimeoutError):
            async with asyncio.timeout(3):  # its answers are left already
                await process.wait()
                return


@asynccontextmanager
async def provider(script: str) -> AsyncIterator[str]:
    """Run the fake provider; yields its address."""
    async with child([sys.executable, script, "provider", "--port", "0"]) as (process, said):
        while "http://" not in (text := said.read_text()):
            if process.returncode is not None:
                raise LoadError(f"the fake provider ended: {text[-500:]}")
            await asyncio.sleep(0.02)
        yield text.split()[-1]


@asynccontextmanager
async def server(command: str, upstream: str, variables: dict[str, str]) -> AsyncIterator[tuple[int, str]]:
    """Run a server on a free port, with the SDKs' variables pointed at the provider; yields its pid and address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="load_") as folder:
        values = {"{port}": str(port), "{provider}": upstream, "{folder}": folder}
        words = [_replaced(word, values) for word in shlex.split(command)]
        given = {name: _replaced(value, values) for name, value in variables.items()}
        async with child(words, **(environment(upstream) | {"PORT": str(port)} | given)) as (process, said):
            began = time.monotonic()
            while not _listens(port):
                if process.returncode is not None or time.monotonic() - began > PATIENCE:
                    what = "ended" if process.returncode is not None else f"does not listen at port {port}"
                    raise LoadError(f"the server {what}: {said.read_text(errors='replace')[-800:].strip()}")
                await asyncio.sleep(0.02)
            yield process.pid, f"http://127.0.0.1:{port}"


def environment(upstream: str) -> dict[str, str]:
    """Return the variables that point the official SDKs at the fake provider."""
    keys = {f"{name}_API_KEY": "load" for name in ("ANTHROPIC", "OPENAI")}
    return keys | {"ANTHROPIC_BASE_URL": upstream, "OPENAI_BASE_URL": f"{upstream}/v1"}


def _replaced(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
