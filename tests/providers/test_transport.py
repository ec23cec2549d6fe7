"""Our own HTTP: bodies in every framing and cut anywhere, connections used again or never, TLS, and clear failures."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chatstream import errors, user
from chatstream.providers import Limits, ModelRequest, transport
from chatstream.providers.openai_chat import OpenAIChat
from chatstream.providers.transport import Transport
from chatstream.testing import FakeProvider, Turn

OK = b"HTTP/1.1 200 OK\r\n"
TEXT = b"Of many words. \r\n\r\n0\r\n\r\n" * 5
CHUNKS = (
    b"5\r\n" + TEXT[:5] + b'\r\n1A;name="x"\r\n' + TEXT[5:31] + b"\r\n%x \r\n" % len(TEXT[31:]) + TEXT[31:] + b"\r\n"
)
WHOLE = {
    "chunks": OK + b"Transfer-Encoding: Chunked\r\n\r\n" + CHUNKS + b"0\r\n\r\n",
    "chunks and a trailer": OK + b"transfer-encoding:chunked\r\n\r\n" + CHUNKS + b"0\r\nA: b\r\nC: d\r\n\r\n",
    "a length": OK + b"Content-Length: %d\r\n\r\n" % len(TEXT) + TEXT,
    "hints before it": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    + OK
    + b"Content-Length: %d\r\n\r\n" % len(TEXT)
    + TEXT,
    "no reason": b"HTTP/1.1 200\r\nContent-Length: %d\r\n\r\n" % len(TEXT) + TEXT,
}
ONCE = {
    "its end": OK + b"\r\n" + TEXT,
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(TEXT) + TEXT,
    "a wish to close": OK + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(TEXT) + TEXT,
    "more than was asked for": WHOLE["chunks"] + b"HTTP/1.1 200 OK\r\n",
}
BROKEN = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "an endless head": OK + b"A: " + b"b" * 70_000,
    "no size": OK + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n",
    "a negative size": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
    "a size as Python writes it": OK + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "an endless size": OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 70_000,
    "an unknown coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "a length that is none": OK + b"Content-Length: 5, 6\r\n\r\nhello",
    "a chunk cut short": OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhello",
    "no last chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "a length cut short": OK + b"Content-Length: 9\r\n\r\nhello",
    "nothing": b"",
}


@asynccontextmanager
async def answering(*pieces: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, list[int]]]:
    """Answer each request with these pieces, one a read; yields the address and the ports that asked."""
    asked: list[int] = []
    tasks: set[Any] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                asked.append(writer.get_extra_info("peername")[1])
                for piece in pieces:
                    writer.write(piece)
                    for _ in range(5):  # turns of the loop, until the other side has read it
                        await asyncio.sleep(0)
                if b"".join(pieces) not in WHOLE.values():
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with asyncio.timeout(30), server:
        yield f"http{'s' if tls else ''}://localhost:{server.sockets[0].getsockname()[1]}/", asked
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def client() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=Transport(), timeout=10)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 2, 7, 100, 10_000])
@pytest.mark.parametrize("answer", WHOLE.values(), ids=WHOLE)
async def test_a_body_is_whole_wherever_it_is_cut_and_its_connection_is_used_again(answer: bytes, size: int) -> None:
    async with answering(*cut(answer, size)) as (url, asked), client() as http:
        for _ in range(2):
            assert (await http.get(url)).content == TEXT
    assert len(asked) == 2 and len(set(asked)) == 1


@pytest.mark.parametrize("answer", ONCE.values(), ids=ONCE)
async def test_a_connection_that_does_not_stay_is_used_once(answer: bytes) -> None:
    async with answering(answer) as (url, asked), client() as http:
        for _ in range(2):
            assert (await http.get(url)).content == TEXT
    assert len(set(asked)) == 2


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
async def test_what_is_no_answer_is_an_error_and_never_a_short_one(answer: bytes) -> None:
    async with answering(answer) as (url, asked), client() as http:
        with pytest.raises(httpx2.TransportError):
            await http.get(url)
        assert len(asked) == 1, "what the provider may have taken is not sent again unasked"


async def test_a_free_connection_that_the_server_closed_or_that_waited_too_long_is_not_used(monkeypatch: Any) -> None:
    monkeypatch.setattr(transport, "KEEP", 0.05)
    async with answering(WHOLE["chunks"]) as (url, asked), client() as http:
        await http.get(url)
        await asyncio.sleep(0.2)
        await http.get(url)
    assert len(set(asked)) == 2


@pytest.mark.parametrize("size", [b"1  ", b"1;x", b"001"])
async def test_a_size_whose_line_end_is_cut_is_none_yet(size: bytes) -> None:
    body = OK + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\na\r\n"
    async with answering(body, size + b"\r", b"\na\r\n0\r\n\r\n") as (url, _), client() as http:
        assert (await http.get(url)).content == b"aa"


@pytest.mark.parametrize("trailer", [[b"5\r\nhello\r\n", b"\r\n"], [b"5\r\nhello\r\n\r\n"]])
async def test_what_stands_behind_the_last_chunk_is_none_however_it_looks(trailer: list[bytes]) -> None:
    body = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhello\r\n0\r\n"
    async with answering(body, *trailer) as (url, _), client() as http:
        assert (await http.get(url)).content == b"hellohello"


async def test_many_hints_are_no_trouble() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5000
    async with answering(hints + ONCE["its end"]) as (url, _), client() as http:
        assert (await http.get(url)).content == TEXT


@pytest.mark.parametrize("head", [OK + b"Content-Type: application/json\r\n", b"HTTP/1.1 500 No\r\n"])
async def test_who_gives_up_a_body_that_is_awaited_closes_its_connection(head: bytes) -> None:
    left = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + b"Content-Length: 9\r\n\r\n{")
        try:
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass
        left.set()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(30), server, OpenAIChat(api_key="k", base_url=f"http://127.0.0.1:{port}/v1") as provider:
        with pytest.raises(errors.ProviderTimeout):
            request = ModelRequest("m", [user("Hi")], limits=Limits(first=0.2))
            await provider.push(request, lambda batch: None)
        await left.wait()


async def test_answers_at_once_have_a_connection_each_and_the_connections_stay() -> None:
    async with answering(WHOLE["chunks"]) as (url, asked), client() as http:
        for _ in range(2):
            answers = await asyncio.gather(*(http.get(url) for _ in range(20)))
            assert {answer.content for answer in answers} == {TEXT}
    assert len(asked) == 40 and len(set(asked)) == 20


async def test_a_header_with_a_line_break_is_not_sent() -> None:
    async with answering(WHOLE["chunks"]) as (url, asked), client() as http:
        with pytest.raises(httpx2.LocalProtocolError):
            await http.get(url, headers={"X": "y\r\nEvil: 1"})
    assert asked == []


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for localhost, with its key."""
    file = tmp_path / "both.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
    ]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "-", "-out", "-"]
    try:
        made = subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed: apt-get install openssl")
    file.write_bytes(made.stdout)
    return file


async def test_tls_is_checked_and_works(certificate: Path, monkeypatch: Any) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    async with answering(*cut(WHOLE["chunks"], 40), tls=tls) as (url, asked):
        async with client() as http:
            with pytest.raises(httpx2.ConnectError, match="certificate"):
                await http.get(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with client() as http:
            assert [(await http.get(url)).content for _ in range(2)] == [TEXT, TEXT]
    assert len(asked) == 2 and len(set(asked)) == 1


async def test_a_proxy_of_the_environment_is_asked_in_its_place(monkeypatch: Any) -> None:
    async with FakeProvider([Turn(text="By proxy.")]) as fake:
        monkeypatch.setenv("HTTP_PROXY", fake.url)
        async with OpenAIChat(api_key="key", base_url="http://provider.invalid/v1") as provider:
            said = [text async for text in provider.text([user("Hi")])]
        assert "".join(said) == "By proxy."
        assert fake.requests[0].headers["host"] == "provider.invalid"


@pytest.mark.parametrize("name", ["NO_PROXY", "FTP_PROXY"])
async def test_a_proxy_that_is_for_others_changes_nothing(name: str, monkeypatch: Any) -> None:
    opened: list[Transport] = []
    monkeypatch.setattr(transport, "Transport", lambda: opened.append(Transport()) or opened[-1])
    async with FakeProvider([Turn(text="By itself.")]) as fake:
        monkeypatch.setenv("HTTP_PROXY" if name == "NO_PROXY" else "HTTPS_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv(name, "127.0.0.1")
        async with fake.openai_chat() as provider:
            assert "".join([text async for text in provider.text([user("Hi")])]) == "By itself."
    assert opened


async def test_a_server_that_is_not_there_is_a_clear_error() -> None:
    async with OpenAIChat(api_key="key", base_url="http://127.0.0.1:9/v1") as provider:
        with pytest.raises(errors.ProviderUnreachable, match="could not be reached"):
            await provider.push(ModelRequest("m", [user("Hi")]), lambda batch: None)
