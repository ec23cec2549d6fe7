"""What the tests of the server share: a client that sees bytes, readers of frames, and the form of every error."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
from multidict import CIMultiDict

from chatstream.server import Server
from chatstream.tools import Tool, tool

ROOT = Path(__file__).parents[2]
# The closed list of design.md.
CODES = {
    *("bad_request", "auth", "forbidden", "not_found", "conflict", "too_large", "rate_limit", "overloaded"),
    *("context_overflow", "tool", "timeout", "network", "internal"),
}
MODELS = ["anthropic:fake", "openai-chat:fake"]
# What takes this many seconds will never come: no test is about time.
HANG = 45
JSON = ("Content-Type", "application/json")

Frame = dict[str, Any]


def question(text: str = "Hello", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def turn(conversation: str, message: str | None = "Hello", **more: Any) -> dict[str, Any]:
    """Return the body of a new turn of a stored conversation, without a message where that is None."""
    asked = {} if message is None else {"message": message}
    return {"conversationId": conversation, "turnId": f"turn_{uuid4().hex}", **asked, **more}


async def data_lines(response: aiohttp.ClientResponse) -> AsyncIterator[Frame]:
    """Yield what a reader sees that looks at nothing but the lines which begin with `data: `."""
    async for line in response.content:
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


def numbered(body: bytes) -> list[tuple[int, Frame | None]]:
    """Return each block of a whole stream as its number and its frame, None where it is a number alone."""
    assert body.endswith(b"\n\n"), body[-100:]
    found: list[tuple[int, Frame | None]] = []
    for block in body.removesuffix(b"\n\n").split(b"\n\n"):
        if block != b":":
            id, _, data = block.partition(b"\n")
            assert id.startswith(b"id: ") and (not data or data.startswith(b"data: ")), block
            found.append((int(id[4:]), json.loads(data[6:]) if data else None))
    return found


async def read_until(lines: AsyncIterator[Frame], kind: str) -> list[Frame]:
    """Return the frames up to the first of this type, it included."""
    seen = []
    async for frame in lines:
        seen.append(frame)
        if frame["type"] == kind:
            return seen
    raise AssertionError(f"the stream ended without {kind}: {seen}")


async def comments(response: aiohttp.ClientResponse, count: int) -> None:
    """Wait for so many comments with no frame among them."""
    while count:
        line = await response.content.readline()
        assert line in (b":\n", b"\n"), line
        count -= line == b":\n"


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds that nothing tells of."""
    for _ in range(HANG * 100):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to pass")


def texts(frames: Iterable[Frame]) -> str:
    return "".join(frame["content"] for frame in frames if frame["type"] == "text")


def told(body: dict[str, Any]) -> list[str]:
    """Return the conversation that a provider was sent, by either API, a line for each text, call and result.

    It must be one that the APIs take: a user begins, each call is followed by its result, and no result is alone.
    """
    lines, waiting = [], list[str]()
    for message in body["messages"]:
        content, role = message["content"], message["role"]
        if role in ("system", "developer"):
            continue
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        results = [(part["tool_use_id"], part["content"]) for part in parts if part["type"] == "tool_result"]
        if role == "tool":
            parts, results = [], [(message["tool_call_id"], content)]
        for id, text in results:
            assert id == waiting.pop(0)
            lines.append(f"{id}: {text}")
        texts = [part["text"] for part in parts if part["type"] == "text"]
        assert all(texts) and not (texts and waiting), body
        lines += [f"{role}: {text}" for text in texts]
        calls = [(part["id"], part["name"], part["input"]) for part in parts if part["type"] == "tool_use"]
        for call in message.get("tool_calls", ()):
            function = call["function"]
            calls.append((call["id"], function["name"], json.loads(function["arguments"])))
        lines += [f"{id} {name} {json.dumps(input)}" for id, name, input in calls]
        waiting += [id for id, _, _ in calls]
    assert not waiting and lines[0].startswith("user: "), body
    return lines


def kinds(frames: Iterable[Frame]) -> list[str]:
    """Return the types in their order, a run of the same as one."""
    types = [frame["type"] for frame in frames]
    return [kind for before, kind in zip(["", *types], types, strict=False) if kind != before]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response as it came: its body is cut out of its chunks."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def problem(answer: Answer, status: int, code: str) -> str:
    """Return the message of an error, which has the one form that all have."""
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json; charset=utf-8"), answer
    error = answer.json["error"]
    assert answer.json.keys() == {"error"}
    assert error.keys() - {"details"} == {"code", "message", "requestId"}
    assert error["code"] == code
    assert code in CODES
    assert error["requestId"] == answer.headers["X-Request-Id"] != ""
    assert "Traceback" not in answer.body.decode()
    return str(error["message"])


class Client:
    """Talks to a server at `port`: by aiohttp where a stream is read, by bytes where the wire is what matters."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.host = f"127.0.0.1:{port}"
        self.url = f"http://{self.host}"
        self.session = aiohttp.ClientSession(self.url, timeout=aiohttp.ClientTimeout(HANG))

    async def open(self, body: dict[str, Any] | None = None) -> aiohttp.ClientResponse:
        """Ask, and return the response with its stream unread."""
        return await self.session.post("/api/chat", json=body or question())

    async def ask(self, body: dict[str, Any] | None = None) -> list[Frame]:
        """Ask, and return every frame of the answer."""
        async with await self.open(body) as response:
            assert response.status == 200, await response.text()
            return [frame async for frame in data_lines(response)]

    async def send(
        self,
        method: str = "GET",
        path: str = "/",
        headers: Iterable[tuple[str, str | bytes]] = (),
        body: Iterable[bytes] = (),
    ) -> Answer:
        """Send exactly this; only a Host is added where none is given, and what ends the connection."""
        lines = [f"{method} {path} HTTP/1.1".encode("utf-8", "surrogateescape"), b"Connection: close"]
        if not any(name.lower() == "host" for name, _ in headers):
            lines.append(f"Host: {self.host}".encode())
        lines += [f"{name}: ".encode() + (v if isinstance(v, bytes) else v.encode()) for name, v in headers]
        async with asyncio.timeout(HANG):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**26)
            with suppress(ConnectionError):  # it may answer, and close, before it has all of a body
                for piece in (b"\r\n".join(lines) + b"\r\n\r\n", *body):
                    writer.write(piece)
                    await writer.drain()
            answer = await self._read(reader, method)
            writer.close()
            return answer

    async def post(self, body: bytes, *headers: tuple[str, str | bytes], path: str = "/api/chat") -> Answer:
        return await self.send("POST", path, [JSON, ("Content-Length", str(len(body))), *headers], [body])

    async def request(self, method: str, path: str, value: Any = None) -> Answer:
        """Send a value as JSON, or no body where it is None."""
        if value is None:
            return await self.send(method, path)
        body = json.dumps(value).encode()
        return await self.send(method, path, [JSON, ("Content-Length", str(len(body)))], [body])

    async def conversation(self, **body: Any) -> str:
        """Make a conversation and return its id."""
        answer = await self.request("POST", "/api/conversations", body)
        assert answer.status == 201, answer
        return str(answer.json["id"])

    async def tree(self, conversation: str) -> Any:
        return await self.get(f"/api/conversations/{conversation}")

    async def get(self, path: str) -> Any:
        """Return the JSON that is there."""
        answer = await self.send("GET", path)
        assert answer.status == 200, answer
        return answer.json

    async def follow(self, run: str, after: str = "") -> list[tuple[int, Frame | None]]:
        """Return the blocks of a run to its end, from behind a cursor."""
        async with asyncio.timeout(HANG):
            answer = await self.send("GET", f"/api/runs/{run}/events" + (f"?after={after}" if after else ""))
        assert (answer.status, answer.headers["X-Run-Id"]) == (200, run)
        return numbered(answer.body)

    async def exchange(self, data: bytes) -> bytes:
        """Send bytes that need not be HTTP, and return what comes back until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        answer = await reader.read()
        writer.close()
        return answer

    @staticmethod
    async def _read(reader: asyncio.StreamReader, method: str) -> Answer:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = CIMultiDict(line.split(": ", 1) for line in lines)
        body = b""
        if method != "HEAD" and headers.get("Transfer-Encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
        elif method != "HEAD":
            body = await reader.readexactly(int(headers.get("Content-Length", 0)))
        return Answer(int(first.split()[1]), headers, body)

    async def lives(self) -> None:
        """Assert that the server still answers."""
        assert (await self.send("GET", "/healthz")).json == {"status": "ok"}


class Running(Client):
    """A server in this process. `access` holds the lines of its access log, one when each request is over."""

    def __init__(self, port: int, server: Server) -> None:
        super().__init__(port)
        self.server = server
        self.access = AccessLog()

    async def over(self) -> str:
        """Wait until a request is over, and return its line of the access log."""
        async with asyncio.timeout(HANG):
            return await self.access.lines.get()


class AccessLog(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put_nowait(record.getMessage())


def files(folder: Path) -> dict[str, bytes]:
    """Return what the files of a folder hold, by their place in it."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


class Gate:
    """A tool that is silent until it is let through, `wait`, and one that may not start, `note`."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.opened = asyncio.Queue[str]()
        self.notes = 0

    @property
    def tools(self) -> list[Tool]:
        @tool(read_only=True)
        async def wait() -> str:
            "Wait."
            self.entered.set()
            try:
                return await self.opened.get()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

        @tool
        async def note() -> str:
            "Take a note."
            self.notes += 1
            return "noted"

        return [wait, note]


class Eraser:
    """Tools of which one needs an approval; `erased` is what it did."""

    def __init__(self) -> None:
        self.erased: list[str] = []

    @property
    def tools(self) -> list[Tool]:
        @tool(approval="always")
        async def erase(name: str) -> str:
            "Erase a file."
            self.erased.append(name)
            return f"erased {name}"

        @tool
        def look() -> str:
            "Look."
            return "a.txt b.txt"

        return [erase, look]
