"""Tools that the server of a proof has (`--tools`): each writes a line where the proof can read what was done."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path

from chatstream import tool

NOTES = Path(os.environ["PROVE_NOTES"])


def note(line: str) -> None:
    with NOTES.open("a") as notes:
        notes.write(f"{line}\n")


@tool(timeout=600)
async def hold(file: str) -> str:
    """Wait until a file is there."""
    note("hold")
    try:
        while not NOTES.with_name(file).exists():  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.005)
    except asyncio.CancelledError:
        note("hold ended")
        raise
    return "held"


@tool
async def mark() -> str:
    """Do nothing but leave a mark."""
    note("mark")
    return "marked"


@tool(approval="always")
async def guarded(key: str) -> str:
    """Do what may be done once."""
    note(f"guarded {key}")
    await asyncio.sleep(0.01)
    return "done"


@tool(read_only=True)
async def look() -> dict[str, int]:
    """Count what lives in the server's process, and what was left in circles since the last look; collect it then only.

    Memory that is free is given back.
    """
    left = gc.collect()
    gc.disable()
    with suppress(AttributeError):  # not every libc has it
        ctypes.CDLL(None).malloc_trim(0)
    return {"tasks": len(asyncio.all_tasks()), "objects": len(gc.get_objects()), "left": left}
