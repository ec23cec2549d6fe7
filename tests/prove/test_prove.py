"""Small counts of the proofs. What each asserts has to hold at any speed: none of their times is looked at here."""

from __future__ import annotations

import asyncio
import gc
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from . import cuts, kills, resets, shutdown, stops, viewers
from .proxy import Proxy
from .rig import Report

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the proofs look into /proc")
REPORT = Report(is_quiet=True)


def test_the_proxy_leaves_nothing_open_of_a_connection_that_comes_as_it_ends() -> None:
    async def end(turns: int) -> None:
        async with Proxy(1) as proxy:
            address = urlsplit(proxy.url)
            with socket.create_connection((address.hostname or "", address.port or 0)):
                for _ in range(turns):
                    await asyncio.sleep(0)

    for turns in range(8):
        asyncio.run(end(turns))
        gc.collect()  # which is when pytest learns of a socket that nobody closed


@pytest.mark.skipif(not shutil.which("node"), reason="the page's client runs under node")
async def test_a_stream_that_is_cut_doubled_or_out_of_order_is_shown_and_stored_as_if_it_were_not(
    tmp_path: Path,
) -> None:
    await cuts.prove(REPORT, tmp_path, 40)


async def test_a_server_that_is_killed_loses_nothing_that_anybody_saw(tmp_path: Path) -> None:
    await kills.prove(REPORT, tmp_path, 3)


async def test_a_stop_closes_the_providers_socket_in_every_phase(tmp_path: Path) -> None:
    await stops.prove(REPORT, tmp_path, 2)


async def test_everybody_sees_every_event_once_and_what_is_asked_often_is_done_once(tmp_path: Path) -> None:
    await viewers.prove(REPORT, tmp_path, 2)


async def test_connections_that_are_torn_leave_nothing_behind(tmp_path: Path) -> None:
    await resets.prove(REPORT, tmp_path, 200)


async def test_a_shutdown_lets_answers_finish_and_interrupts_the_rest(tmp_path: Path) -> None:
    await shutdown.prove(REPORT, tmp_path, 24)
