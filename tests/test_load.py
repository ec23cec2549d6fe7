"""The load tool: what it counts is what came, what it says of a server is so, and what it refuses it says in words."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.cuts import every_cut

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import load as tool  # noqa: E402
from loads import client, process, report, scenarios, session, stats  # noqa: E402
from loads.profiles import PROFILES  # noqa: E402
from loads.provider import Peer, Plan, Provider  # noqa: E402


@asynccontextmanager
async def fake(plan: Plan) -> AsyncIterator[tuple[Provider, str]]:
    provider = Provider(plan)
    server = await asyncio.get_running_loop().create_server(lambda: Peer(provider), "127.0.0.1", 0)
    try:
        yield provider, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for answer in list(provider.answers):
            answer.peer.transport.abort()
        await asyncio.sleep(0)


# --- What is counted --------------------------------------------------------------------------------------------------


def test_quantiles_are_within_a_bucket_of_the_truth() -> None:
    histogram, half = stats.Histogram(), stats.Histogram()
    for ms in range(1, 1001):
        (half if ms % 2 else histogram).add(ms)
    histogram.merge(half)
    summary = histogram.summary()

    assert (summary["count"], summary["mean"], summary["max"]) == (1000, 500.5, 1000)
    for name, truth in {"p50": 500, "p90": 900, "p99": 990, "p999": 999}.items():
        assert truth <= summary[name] <= truth * stats.WIDTH
    assert sum(count for _, count in histogram.buckets()) == 1000
    assert stats.slope([(0, 5), (1, 7), (2, 9)]) == pytest.approx(2)


def stamp(number: int) -> str:
    return f"~{number:010x}"


def chunked(*bodies: str) -> bytes:
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nTransfer-Encoding: chunked\r\nX-Run-Id: run_1\r\n\r\n"
    )
    return head + b"".join(b"%x\r\n%b\r\n" % (len(body), body.encode()) for body in bodies) + b"0\r\n\r\n"


NATIVE = chunked(
    ':\n\nid: 1\ndata: {"type":"start"}\n\n',
    f'id: 2\ndata: {{"type":"text","content":"{stamp(1)}"}}\n\n',
    f'id: 3\ndata: {{"type":"text","content":"{stamp(2)}{stamp(3)}"}}\n\nid: 4\ndata: {{"type":"te',
    f'xt","content":"{stamp(4)[:5]}',
    f'{stamp(4)[5:]}"}}\n\n',
    f'id: 9\ndata: {{"type":"done","messages":["{"".join(map(stamp, range(1, 5)))}"]}}\n\n',
)


class Wire(asyncio.Transport):
    def write(self, data: Any) -> None:
        pass

    def abort(self) -> None:
        pass


def read(pieces: list[bytes], delta: str = "") -> tuple[client.Stream, client.Times]:
    meter = client.Meter()
    profile = PROFILES["native"]
    stream = client.Stream(meter, client.Marks(delta.encode(), profile.end.encode(), profile.error.encode()))
    stream.connection_made(Wire())
    stream.ask(b"")
    for piece in pieces:
        stream.data_received(piece)
    return stream, meter.turn()


async def test_what_is_counted_does_not_depend_on_how_the_bytes_arrive() -> None:
    for pieces in every_cut(NATIVE):
        stream, times = read(pieces)
        assert (stream.kind, stream.deltas, stream.repeated) == ("finished", 4, 0)
        assert (stream.run, stream.cursor, times.deltas, times.frames) == ("run_1", "9", 4, 5)
        assert (times.latency.count, times.ttft.count) == (4, 1)


async def test_texts_without_stamps_are_counted_by_their_frames() -> None:
    frames = ["a", "", "b"]
    body = chunked(*(f'data: {{"content":"{text}"}}\n\n' for text in frames), 'data: {"type":"done"}\n\n')
    for pieces in every_cut(body):
        stream, times = read(pieces, delta='"content":"')
        assert (stream.kind, times.deltas, times.latency.count) == ("finished", 2, 0)


@pytest.mark.parametrize(
    ("answer", "kind", "why"),
    [
        (chunked("data: 1\n\n"), "cut", "without its end"),
        (chunked('data: {"type":"error","message":"it broke"}\n\n'), "failed", "it broke"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy", "failed", "HTTP 503: busy"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnothing of the kind\r\n", "failed", "no HTTP"),
    ],
)
async def test_an_answer_that_is_not_whole_says_why(answer: bytes, kind: str, why: str) -> None:
    stream, _ = read([answer])
    assert stream.kind == kind
    assert why in stream.why


async def test_text_that_comes_again_is_not_counted_again() -> None:
    said = [f'data: {{"type":"text","content":"{stamp(at)}"}}\n\n' for at in (1, 2, 3)]
    again = [f'data: {{"type":"text","content":"{stamp(1)}{stamp(2)}{stamp(4)}"}}\n\n']
    body = chunked(*said, *again, 'data: {"type":"done"}\n\n')
    for pieces in ([body], [body[at : at + 1] for at in range(len(body))]):
        stream, times = read(pieces)
        assert (stream.deltas, stream.repeated, times.deltas) == (4, 2, 4)


# --- The fake provider ------------------------------------------------------------------------------------------------

ASKED = "Hello [load deltas=40 rate=0 batch=16]"


async def by_messages(url: str) -> str:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=0) as sdk:
        messages: Any = [{"role": "user", "content": ASKED}]
        async with sdk.messages.stream(model="load", max_tokens=9, messages=messages) as stream:
            return await stream.get_final_text()


async def by_responses(url: str) -> str:
    sdk = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
    async with sdk, sdk.responses.stream(model="load", input=ASKED) as stream:
        text = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
        assert (await stream.get_final_response()).output_text == text
        return text


async def by_chat(url: str) -> str:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as sdk:
        messages: Any = [{"role": "user", "content": ASKED}]
        async with sdk.chat.completions.stream(model="load", messages=messages) as stream:
            return (await stream.get_final_completion()).choices[0].message.content or ""


@pytest.mark.parametrize("ask", [by_messages, by_responses, by_chat])
async def test_the_official_sdks_read_the_fake_provider(ask: Any) -> None:
    async with fake(Plan()) as (_, url):
        text = await ask(url)

    stamps = re.findall(r"~[0-9a-f]{10}", text)
    assert text == "".join(stamps)
    assert len(stamps) == 40
    assert stamps == sorted(set(stamps))


async def test_the_provider_tells_when_a_client_left_its_silence() -> None:
    async with fake(Plan(rate=0, silent=2, id="mine")) as (provider, url):
        target, meter = client.Target(url), client.Meter()
        stream = await client.connect(target, meter, client.Marks(b"", b"[DONE]", b"error"))
        stream.ask(target.request("POST", "/v1/chat/completions", '{"stream": true}'))
        await stream.started.wait()
        told = json.loads((await client.fetch(target, "GET", "/load"))[1])
        assert (told["open"], told["closed"]) == (1, {})
        stream.leave()
        async with asyncio.timeout(10):
            while not provider.closed:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        told = json.loads((await client.fetch(target, "GET", "/load"))[1])
        assert list(told["closed"]) == ["mine"]
        assert (stream.deltas, told["open"], provider.closed) == (2, 0, {})


async def test_the_provider_says_what_it_cannot_do() -> None:
    async with fake(Plan()) as (_, url), openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as sdk:
        assert [model.id async for model in sdk.models.list()] == ["load"]
        with pytest.raises(openai.BadRequestError, match="only streams"):
            await sdk.responses.create(model="load", input="Hello")
        with pytest.raises(openai.BadRequestError, match="deltas"):
            await sdk.responses.create(model="load", input="[load deltas=-1]", stream=True)


# --- Scenarios --------------------------------------------------------------------------------------------------------


async def measured(name: str, url: str, *, profile: str = "openai", has_provider: bool = True, **given: Any) -> Any:
    options = session.Options(**given)
    target = client.Target(url)
    link = session.Link(target if has_provider else None)
    await session.warm_up(target, PROFILES[profile], options, link)
    load = session.Load(name, options, target, PROFILES[profile], link, process.listening(target.port))
    return await scenarios.run(load, lambda load: None)


async def test_a_steady_load_says_what_came() -> None:
    async with fake(Plan()) as (_, url):
        result = await measured("steady", url, streams=5, rate=100, deltas=20, seconds=0.7, min_share=2)

    streams = result["streams"]
    assert streams["finished"] >= 5
    assert (streams["failed"], streams["cut"], streams["mostOpen"]) == (0, 0, 5)
    assert 20 * streams["finished"] <= result["deltas"] <= 20 * streams["asked"]
    assert result["latencyMs"]["count"] == result["deltas"]
    assert result["ttftMs"]["count"] <= streams["asked"]
    assert result["server"]["cpuSeconds"] >= 0
    assert len({len(values) for values in result["series"].values()}) == 1
    failures, share = result["checks"]
    assert (failures["ok"], share["ok"], share["limit"]) == (True, False, 2)


async def test_the_ramp_ends_at_the_step_that_does_not_keep_the_limits() -> None:
    async with fake(Plan()) as (_, url):
        asked = {"step": 2, "max_streams": 4, "step_seconds": 0.2, "rate": 50}
        broken = await measured("ramp", url, **asked, max_gap_p99=1)
        held = await measured("ramp", url, **asked, max_gap_p99=1e6, max_latency_p99=1e6, min_share=0.01, min_streams=4)

    assert (broken["breakingPoint"], [step["ok"] for step in broken["steps"]]) == (2, [False])
    assert (held["breakingPoint"], [step["streams"] for step in held["steps"]]) == (None, [2, 4])
    assert [check["ok"] for check in held["checks"]] == [True]


async def test_bursts_slow_readers_and_leavers_are_told_apart() -> None:
    async with fake(Plan()) as (_, url):
        burst = await measured("burst", url, streams=4, rate=0, deltas=5, seconds=0.2, every=0.1)
        slow = await measured("slow", url, streams=2, slow=2, rate=50, deltas=5, seconds=0.3)
        left = await measured("disconnect", url, streams=6, rate=50, seconds=0.1, max_close_p99=1e6)

    assert burst["streams"]["mostOpen"] == 4
    assert burst["streams"]["asked"] == burst["streams"]["finished"] > 4
    assert (slow["slow"]["readers"], slow["slow"]["cut"], slow["streams"]["cut"]) == (2, 0, 0)
    assert slow["streams"]["finished"] > 0
    assert (left["notClosed"], left["closedUpstreamMs"]["count"]) == (0, left["streams"]["asked"] * 4 // 6)
    assert all(check["ok"] for check in left["checks"])


async def test_who_leaves_in_a_soak_is_no_failure_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.01)  # all leave, early
    async with fake(Plan()) as (_, url):
        soak = await measured("soak", url, streams=5, rate=50, deltas=20, seconds=0.8, max_rss_slope=1e9)

    streams = soak["streams"]
    assert (streams["finished"], streams["failed"], streams["cut"], streams["asked"] > 5) == (0, 0, 0, True)
    assert [check["ok"] for check in soak["checks"]] == [True, True]


async def test_a_server_that_loses_text_is_found_out() -> None:
    """It says every delta of a small answer, and leaves one out of a larger one."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        count = int(asked.split(b"deltas=")[1].split()[0])
        stamps = [stamp(at) for at in range(1, count + 1) if at != 4]
        writer.write(chunked(*(f"data: {text}\n\n" for text in stamps), "data: [DONE]\n\n"))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        result = await measured("steady", url, has_provider=False, streams=1, deltas=9, seconds=0.3)

    assert result["streams"]["finished"] == 0
    assert list(result["errors"]) == ["8 of 9 deltas came"]
    assert not result["checks"][0]["ok"]


def test_chatstream_is_started_stopped_cut_and_ended(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    server = f"{sys.executable} -m chatstream --port {{port}} --model anthropic:any --data {{folder}}"
    command = [sys.executable, SCRIPTS / "load.py", "stop", "reconnect", "--server", server, "--out", out]
    numbers = {"streams": 6, "seconds": 0.6, "deltas": 20, "every": 0.2, "max-stop-p99": 1e6, "max-close-p99": 1e6}
    options = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=SCRIPTS.parent)
    result = json.loads(out.read_text())

    assert (done.returncode, result["chatstreamLoad"], result["ok"]) == (0, 1, True), done.stderr + done.stdout
    stop, reconnect = result["scenarios"]
    assert [len(each["checks"]) for each in result["scenarios"]] == [4, 1]
    assert stop["notClosed"] == 0
    assert stop["stopMs"]["count"] == stop["streams"]["finished"] == stop["streams"]["asked"]
    assert reconnect["resumed"] > 0
    assert (reconnect["streams"]["finished"] > 0, reconnect["streams"]["cut"], reconnect["errors"]) == (True, 0, {})
    assert process.sample(result["target"]["pid"]) is None
    assert "upstream closed" in done.stdout
    assert "<html" in report.render([result])


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_what_was_started_ends_with_it(kind: signal.Signals, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    server = f"sh -c 'echo $$ > {told}.new; mv {told}.new {told}; exec sleep 60'"
    command = [sys.executable, SCRIPTS / "load.py", "steady", "--server", server]
    # A shell that puts the tests into the background has them ignore SIGINT, and so whatever they start.
    child = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        while not told.exists() and child.poll() is None:
            time.sleep(0.02)
        child.send_signal(kind)
        assert child.wait(20) == 130
    finally:
        child.kill()
        child.wait()
    assert process.sample(int(told.read_text())) is None


# --- What is refused --------------------------------------------------------------------------------------------------

LOCAL = ["--url", "http://127.0.0.1:9"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["steady"], "--url"),
        (["nonsense", *LOCAL], "no scenario 'nonsense': there are steady"),
        (["steady", "--url", "http://example.com"], "--allow-remote"),
        (["steady", "--url", "http://127.0.0.1:x"], "is no address"),
        (["steady", "--url", "ftp://127.0.0.1"], "http://"),
        (["steady", *LOCAL, "--streams", "0"], "--streams is 1 to 20000, and not 0"),
        (["steady", *LOCAL, "--header", "nonsense"], "Name: value"),
        (["steady", *LOCAL, "--env", "nonsense"], "NAME=VALUE"),
        (["steady", *LOCAL, "--provider", "http://127.0.0.1:9"], "no fake provider at http://127.0.0.1:9"),
        (["stop", *LOCAL, "--profile", "openai"], "no way to stop"),
        (["reconnect", *LOCAL, "--profile", "agui"], "no way to resume"),
        (["steady", *LOCAL, "--max-close-p99", "5"], "--provider"),
        (["steady", *LOCAL, "--out", "/nowhere/at/all.json"], "no folder"),
        (["steady", "--server", "/nowhere/at/all"], "cannot start '/nowhere/at/all'"),
        (["steady", "--server", "sh -c 'echo I break; exit 3'"], "the server ended: I break"),
        (["report", str(SCRIPTS / "load.py")], "no JSON"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments: list[str], message: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as refused:
        tool.main(arguments)
    said = capsys.readouterr().err
    assert refused.value.code == 2
    assert message in said
    assert len(said.splitlines()) == 1
