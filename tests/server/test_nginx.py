"""Behind a real nginx with its stock proxy settings a stream passes as it is written (R14, R15), and a leave too."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from chatstream.testing import Turn

from .rig import HANG, Client, Gate, data_lines, question, read_until, texts

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
# One process, in the foreground, that writes nowhere but into its own folder. What matters is what it does not set:
# proxy_buffering, proxy_http_version and gzip are nginx's own defaults, and its limits are the test's.
CONFIG = """
daemon off; master_process off; pid nginx.pid; error_log stderr error;
events {{}}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_read_timeout 1s; }}
    }}
}}
"""

Behind = Callable[[int], Awaitable[Client]]


@pytest.fixture
async def behind_nginx(stack: AsyncExitStack, tmp_path: Path) -> Behind:
    """Start an nginx before a port and return a client of it."""
    if NGINX is None:
        missing = "nginx is not installed: apt-get install nginx-light"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)

    async def start(upstream: int) -> Client:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config = tmp_path / "nginx.conf"
        config.write_text(CONFIG.format(port=port, upstream=upstream))
        process = await asyncio.create_subprocess_exec(
            *(NGINX, "-p", str(tmp_path), "-c", str(config), "-e", "stderr"), stderr=asyncio.subprocess.PIPE
        )

        async def end() -> None:
            if process.returncode is None:
                process.terminate()
            await process.communicate()

        stack.push_async_callback(end)
        while True:
            try:
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
                break
            except ConnectionError:
                assert process.returncode is None, (await process.stderr.read()).decode()
                await asyncio.sleep(0.02)
        client = Client(port)
        stack.push_async_callback(client.session.close)
        return client

    return start


async def test_each_turn_is_read_before_the_next_one_begins(
    start: Any, write_script: Any, gate: Gate, behind_nginx: Behind
) -> None:
    turns = [{"text": f"word {number} ", "tools": [{"name": "wait"}]} for number in range(5)]
    running = await start(write_script(*turns, {"text": "end"}), tools=gate.tools, heartbeat=0.2)
    client = await behind_nginx(running.port)
    async with await client.open() as response:
        lines = data_lines(response)
        for number in range(5):
            # What the model says next waits for this reader: a proxy that gathers would hold both for ever.
            assert texts(await read_until(lines, "tool_call")) == f"word {number} "
            gate.opened.put_nowait("go on")
        assert texts(await read_until(lines, "done")) == "end"


@pytest.mark.parametrize("model", ["anthropic:fake", "openai-chat:fake"])
async def test_half_an_answer_is_read_while_the_provider_holds_back_the_rest(
    model: str, start: Any, fake: Any, behind_nginx: Behind
) -> None:
    provider = await fake(Turn(text="half of it " * 50, stall=1500))
    running = await start(model, heartbeat=0.2)
    client = await behind_nginx(running.port)
    async with await client.open(question()) as response:
        assert texts(await read_until(data_lines(response), "text")).startswith("half")

    # A viewer that leaves is seen through the proxy.
    assert "gone" in await running.over()
    async with asyncio.timeout(HANG):
        await provider.requests[0].ended.wait()
    assert provider.requests[0].left


async def test_a_tool_that_is_silent_for_longer_than_the_limit_of_the_proxy_survives(
    start: Any, write_script: Any, gate: Gate, behind_nginx: Behind
) -> None:
    model = write_script({"tools": [{"name": "wait"}]}, {"text": "It is over."})
    running = await start(model, tools=gate.tools, heartbeat=0.2)
    client = await behind_nginx(running.port)
    async with await client.open() as response:
        lines = data_lines(response)
        await read_until(lines, "tool_call")
        await asyncio.sleep(3)
        gate.opened.put_nowait("done")
        assert texts(await read_until(lines, "done")) == "It is over."


async def test_it_is_the_heartbeat_that_saves_it(
    start: Any, write_script: Any, gate: Gate, behind_nginx: Behind
) -> None:
    running = await start(write_script({"tools": [{"name": "wait"}]}), tools=gate.tools, heartbeat=1000)
    client = await behind_nginx(running.port)
    async with await client.open() as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await read_until(data_lines(response), "done")

    assert "gone" in await running.over()
    await gate.cancelled.wait()
