"""`python -m chatstream`: a bad setting is one clear line and status 2, a signal ends it cleanly with status 0."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import pytest

from chatstream.config import Config, read_config
from chatstream.errors import ConfigError
from chatstream.testing import FakeProvider, Turn
from tests import fork

from .conftest import provider_environment
from .rig import HANG, data_lines, files, question, read_until, texts, until

TOOL = "from chatstream.tools import tool\n\n@tool\n"
FILES = {
    "broken.py": "def add(:\n",
    "raises.py": "import os\n\nraise RuntimeError('no such thing')\n",
    "exits.py": "import sys\nsys.exit(1)\n",
    "empty.py": "x = 1\n",
    "untyped.py": TOOL + "def add(a, b):\n    'Add.'\n",
    "twice.py": TOOL + "def calculate(a: int) -> int:\n    'Again.'\n    return a\n",
    "good.py": TOOL + "def add(a: int, b: int) -> int:\n    'Add.'\n    return a + b\n",
    "text.gguf": "This is no model.",
    "empty.gguf": "",
    "begun.gguf": "GGUF and no more",
    "broken.json": '[{"text": "Hello"',
    "object.json": '{"text": "Hello"}',
    "none.json": "[]",
    "word.json": '[{"txt": "Hello"}]',
    "hello.json": '[{"delay": 0, "text": "Hello"}]',
    "old/chatstream.db": "This is no database. " * 100,
    "slow.json": '[{"delay": 0.01, "chunk": 1, "text": "' + "word " * 2000 + '"}]',
}
Bad = dict[str, tuple[str, dict[str, str], list[str]]]
# Options, variables, and what the line must hold. `{dir}` is the folder of the files above, `{busy}` a port in use.
SETTINGS: Bad = {
    "port that is no number": ("--port abc", {}, ["--port", "'abc'"]),
    "port out of range": ("--port 70000", {}, ["--port", "0 to 65535", "70000"]),
    "variable that is no number": ("", {"CHATSTREAM_PORT": "abc"}, ["CHATSTREAM_PORT", "'abc'"]),
    "variable that is no choice": ("", {"CHATSTREAM_EFFORT": "huge"}, ["CHATSTREAM_EFFORT", "'huge'", "low"]),
    "unknown option": ("--prot 80", {}, ["--prot", "--help"]),
    "option without a value": ("--model", {}, ["--model", "expected"]),
    "a word": ("serve", {}, ["serve", "--help"]),
    "other host without a token": ("--host 0.0.0.0", {}, ["--host 0.0.0.0", "needs --token"]),
    "host in a variable": ("", {"CHATSTREAM_HOST": "::"}, ["--host ::", "needs --token"]),
    "short token": ("--token 1234567", {}, ["--token", "8"]),
    "token of other letters": ("--token schlüssel", {}, ["--token", "ASCII"]),
    "allowed host with a port": ("--allowed-host chat.example:80", {}, ["--allowed-host", "'chat.example:80'"]),
    "allowed host that is an address": ("--allowed-host http://a.example", {}, ["--allowed-host", "http://a.example"]),
    "empty allowed host": ("", {"CHATSTREAM_ALLOWED_HOST": "a,,b"}, ["--allowed-host", "''"]),
    "no heartbeat": ("--heartbeat 0", {}, ["--heartbeat", "above 0"]),
    "heartbeat nan": ("--heartbeat nan", {}, ["--heartbeat", "above 0"]),
    "temperature 3": ("--temperature 3", {}, ["--temperature", "0 to 2"]),
    "no tokens": ("--max-output-tokens -1", {}, ["--max-output-tokens", "above 0"]),
    "no docs": ("--docs {dir}/nowhere", {}, ["--docs", "{dir}/nowhere"]),
}
DEMO = "--port 0 --model scripted:demo"
QUIET = f"--log-level warning {DEMO}"
FOUND_OUT: Bad = {
    "port in use": ("--model scripted:demo --port {busy}", {}, ["port {busy} is in use", "--port"]),
    "host that is not ours": (f"{DEMO} --host 192.0.2.1 --token 12345678", {}, ["cannot listen", "192.0.2.1"]),
    "host that is none": (f"{DEMO} --host no.such.invalid --token 12345678", {}, ["cannot listen", "no.such.invalid"]),
    "no tools file": (f"{DEMO} --tools {{dir}}/nowhere.py", {}, ["{dir}/nowhere.py", "no such file"]),
    "no tools module": (f"{DEMO} --tools no_such_module", {}, ["no_such_module", "ModuleNotFoundError"]),
    "tools with a syntax error": (f"{DEMO} --tools {{dir}}/broken.py", {}, ["broken.py", "SyntaxError", "line 1"]),
    "tools that raise": (f"{DEMO} --tools {{dir}}/raises.py", {}, ["raises.py", "line 3", "no such thing"]),
    "tools that exit": (f"{DEMO} --tools {{dir}}/exits.py", {}, ["exits.py", "SystemExit"]),
    "tools without a tool": (f"{DEMO} --tools {{dir}}/empty.py", {}, ["empty.py", "no tool", "@tool"]),
    "tools without types": (f"{DEMO} --tools {{dir}}/untyped.py", {}, ["untyped.py", "add", "a"]),
    "tools that are there already": (f"{DEMO} --tools {{dir}}/twice.py", {}, ["two tools", "calculate"]),
    "model that is no GGUF": ("--model local:{dir}/text.gguf", {}, ["{dir}/text.gguf", "no GGUF"]),
    "model that is empty": ("--model local:{dir}/empty.gguf", {}, ["{dir}/empty.gguf", "no GGUF"]),
    "model that only begins like one": (
        "--log-level warning --port 0 --model local:{dir}/begun.gguf",
        {},
        ["begun.gguf"],
    ),
    "model that is not there": ("--model local:{dir}/nowhere.gguf", {}, ["{dir}/nowhere.gguf", "No such file"]),
    "script with broken JSON": ("--model scripted:{dir}/broken.json", {}, ["broken.json", "not valid JSON", "line 1"]),
    "script that is not there": ("--model scripted:{dir}/nowhere.json", {}, ["nowhere.json", "No such file"]),
    "script that is no list": ("--model scripted:{dir}/object.json", {}, ["object.json", "array"]),
    "script without turns": ("--model scripted:{dir}/none.json", {}, ["none.json", "non-empty"]),
    "script with an unknown word": (
        "--model scripted:{dir}/word.json",
        {},
        ["word.json", "'txt'", "known: reasoning, text"],
    ),
    "model without its key": ("--model anthropic:claude-x", {}, ["anthropic:claude-x", "ANTHROPIC_API_KEY"]),
    "model of a variable": ("", {"CHATSTREAM_MODEL": "openai:gpt-x"}, ["openai:gpt-x", "OPENAI_API_KEY"]),
    "unknown provider": ("--model nonsense:x", {}, ["nonsense:x"]),
    "data that are a file": (f"{QUIET} --data {{dir}}/good.py", {}, ["--data", "{dir}/good.py"]),
    "data in a variable": (QUIET, {"CHATSTREAM_DATA": "/proc/nowhere"}, ["--data", "/proc/nowhere"]),
    "data that are no database": (f"{QUIET} --data {{dir}}/old", {}, ["--data", "{dir}/old", "not a database"]),
}
# A program takes half a second to start: only these are tried by one that is not forked.
STARTED = {name: SETTINGS[name] for name in ("variable that is no number", "unknown option", "no docs")}


@pytest.fixture
def fill(tmp_path: Path) -> Callable[[str], str]:
    (tmp_path / "old").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return lambda text: text.replace("{dir}", str(tmp_path))


@pytest.mark.parametrize(("options", "environment", "told"), STARTED.values(), ids=STARTED)
async def test_what_cannot_start_says_why_in_a_line_and_ends_with_2(
    options: str, environment: dict[str, str], told: list[str], launch: Any, fill: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        options, *told = (fill(text).replace("{busy}", port) for text in (options, *told))
        process = await launch(*options.split(), **environment)
        async with asyncio.timeout(HANG):
            output, errors = (text.decode() for text in await process.communicate())

    check_refusal(process.returncode, errors, told)
    assert output == ""


@pytest.mark.parametrize(("options", "environment", "told"), FOUND_OUT.values(), ids=FOUND_OUT)
def test_what_is_found_out_at_the_start_ends_it_in_the_same_way(
    options: str, environment: dict[str, str], told: list[str], fill: Any, tmp_path: Path
) -> None:
    home = {"XDG_DATA_HOME": str(tmp_path / "home")}
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        options, *told = (fill(text).replace("{busy}", port) for text in (options, *told))
        process, output = fork.start(options.split(), os.environ | home | environment)
        with output:
            errors = output.read()
        process.join(HANG)

    check_refusal(process.exitcode, errors, told)


def check_refusal(status: int | None, errors: str, told: list[str]) -> None:
    assert status == 2
    assert errors.startswith("chatstream: ")
    assert [part for part in told if part not in errors] == [], errors
    assert "Traceback" not in errors
    assert len(errors.splitlines()) <= 1 + ("@tool" in errors)  # a second one says how a tools file looks


@pytest.mark.parametrize(("options", "environment", "told"), SETTINGS.values(), ids=SETTINGS)
def test_a_bad_setting_is_refused_before_anything_is_opened(
    options: str, environment: dict[str, str], told: list[str], fill: Any
) -> None:
    with pytest.raises(ConfigError) as raised:
        read_config(fill(options).split(), environment)

    assert [part for part in map(fill, told) if part not in raised.value.message] == [], raised.value.message
    assert "\n" not in raised.value.message


def test_options_win_over_variables_and_these_over_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("Be brief.")
    environment = {
        "CHATSTREAM_PORT": "1234",
        "CHATSTREAM_MODEL": "scripted:a",
        "CHATSTREAM_TOOLS": "one.py, two",
        "CHATSTREAM_ALLOWED_HOST": "a.example",
        "CHATSTREAM_MAX_OUTPUT_TOKENS": "7",
        "CHATSTREAM_HEARTBEAT": "",
        "CHATSTREAM_SYSTEM": str(tmp_path / "system.txt"),
        "XDG_DATA_HOME": str(tmp_path),
    }
    found = read_config(["--model", "scripted:b", "--tools=three.py", "--allowed-host", "b.example"], environment)

    assert found == Config(
        port=1234,
        model="scripted:b",
        tools=("three.py",),
        allowed_hosts=("b.example",),
        max_output_tokens=7,
        system="Be brief.",
        data=tmp_path / "chatstream",
    )
    assert read_config([], environment).tools == ("one.py", "two")
    assert read_config(["--system", "Be brief."], {}).system == "Be brief."


async def test_variables_reach_the_program_and_options_override_them(program: Any, fill: Any) -> None:
    # A port that needs root and a file that is not there, which options replace.
    environment = {"CHATSTREAM_PORT": "1", "CHATSTREAM_MODEL": "scripted:nowhere"}
    environment |= {"CHATSTREAM_TOOLS": fill("{dir}/good.py")}
    running = await program("--model", fill("scripted:{dir}/hello.json"), CHATSTREAM_TOKEN="12345678", **environment)
    bearer = ("Authorization", "Bearer 12345678")

    assert (await running.send("GET", "/api/models")).status == 401
    tools = (await running.send("GET", "/api/tools", [bearer])).json["tools"]
    assert tools[-1]["name"] == "add"
    answer = await running.post(json.dumps(question()).encode(), bearer)
    assert b'"content":"Hell"' in answer.body


async def test_the_line_that_says_ready_is_the_address_to_open(program: Any) -> None:
    token = "50% & a+b=c#d"
    running = await program("--model", "scripted:demo", "--token", token)

    address = running.ready.partition("ready: ")[2].split()[0]
    # What the page does with it: `new URLSearchParams(location.hash.slice(1))`.
    assert parse_qs(address.partition("#")[2], keep_blank_values=True) == {"token": [token]}
    assert running.ready.endswith("\nscripted:demo answers; Ctrl-C ends it\n")
    assert (await running.send("GET", "/")).status == 200
    assert (await running.send("GET", "/readyz")).status == 200


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
async def test_a_signal_ends_it(name: str, program: Any) -> None:
    running = await program("--model", "scripted:demo")
    await running.lives()
    status, errors = await running.end(signal.Signals[name])

    assert (status, "Traceback" in errors, "ERROR" in errors) == (0, False, False), errors


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
async def test_a_signal_ends_it_with_streams_open(name: str, program: Any, fill: Any) -> None:
    running = await program("--model", fill("scripted:{dir}/slow.json"), "--grace", "0")
    responses = [await running.open() for _ in range(5)]
    for response in responses:
        await read_until(data_lines(response), "text")
    status, errors = await running.end(signal.Signals[name])

    assert (status, "Traceback" in errors, "ERROR" in errors) == (0, False, False), errors
    for response in responses:
        response.close()


async def test_who_asks_while_it_starts_is_answered(launch: Any, fill: Any) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    await launch("--port", str(port), "--model", fill("scripted:{dir}/slow.json"))
    async with asyncio.timeout(HANG), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        while True:
            try:
                response = await session.post("/api/chat", json=question())
                break
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.001)
        assert response.status == 200
        await read_until(data_lines(response), "text")
        response.close()


async def test_a_signal_ends_it_while_a_provider_is_silent(program: Any) -> None:
    async with FakeProvider([Turn(text="never", stall=0)]) as provider:
        running = await program("--model", "anthropic:fake", "--grace=0", **provider_environment(provider.url))
        async with await running.open() as response:
            await read_until(data_lines(response), "start")
            await until(lambda: provider.requests)
            status, errors = await running.end(signal.SIGTERM)

        await provider.requests[0].ended.wait()
        assert provider.requests[0].left
    assert (status, "Traceback" in errors, "ERROR" in errors) == (0, False, False), errors


async def test_a_second_signal_does_not_wait_for_answers(program: Any, fill: Any) -> None:
    running = await program("--model", fill("scripted:{dir}/slow.json"), "--grace", "1000")
    async with await running.open() as response:
        lines = data_lines(response)
        await read_until(lines, "text")
        running.process.send_signal(signal.SIGINT)
        while (await running.send("GET", "/readyz")).status == 200:
            pass
        assert (await read_until(lines, "text"))[-1]["type"] == "text", "it goes on"
        status, errors = await running.end(signal.SIGINT)
        assert (await read_until(lines, "done"))[-1]["outcome"] == "interrupted"

    assert (status, "Traceback" in errors) == (0, False), errors


async def test_the_program_answers_by_an_sdk_and_logs_no_key(program: Any) -> None:
    async with FakeProvider([Turn(text="Hello"), Turn(status=401)]) as provider:
        environment = provider_environment(provider.url)
        running = await program("--log-level", "debug", **environment)
        assert texts(await running.ask()) == "Hello"
        assert (await running.ask())[-1]["code"] == "auth"
        _, errors = await running.end(signal.SIGTERM)

    # The first of the preferred providers that has a key is the default.
    assert "\nanthropic:" in running.ready
    assert any(environment["ANTHROPIC_API_KEY"] in value for value in provider.requests[0].headers.values())
    assert environment["ANTHROPIC_API_KEY"] not in errors


async def test_help_names_every_option(launch: Any) -> None:
    process = await launch("--help")
    output, _ = await process.communicate()

    assert process.returncode == 0
    options = (
        "host port token allowed-host model system max-output-tokens docs tools data orphan-after linger keep-runs"
    )
    for option in (*options.split(), "approve-within", "grace"):
        assert f"--{option} " in output.decode()


async def test_what_it_keeps_is_in_the_home_unless_it_is_told_otherwise(program: Any, tmp_path: Path) -> None:
    for options in ([], ["--data", ":memory:"], ["--data", str(tmp_path / "other")]):
        running = await program("--model", "scripted:demo", *options)
        assert (await running.get("/api/conversations"))["conversations"] == []
        await running.conversation()
        assert (await running.end(signal.SIGTERM))[0] == 0

    assert list(files(tmp_path)) == ["home/chatstream/chatstream.db", "other/chatstream.db"]
