"""A fake provider that streams as told: Anthropic's Messages, OpenAI's Responses and chat completions, for their SDKs.

What comes is told by the last `[load deltas=500 rate=50 batch=1 first=0 silent=0 id=x]` in the request, in any order,
what is left out by the command line: so many deltas in all, so many a second (0: as fast as they are read), so many in
each write, the first after so many seconds; where `silent` is not 0 the answer goes silent behind that many deltas,
until its client leaves. A delta's text is its stamp: `~` and the moment of writing, CLOCK_MONOTONIC in units of
1.024 us as 10 hexadecimal digits. In one answer every stamp is later than the one before, so that text can be counted
in bytes, through any server that relays text, joined or not, told once or twice.

`GET /load` tells {"pid", "open", "asked", "deltas", "closed": {id: moment}}: `closed` are the answers whose client
left before their end and when that was seen (CLOCK_MONOTONIC, seconds), each told once.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import os
import re
import time
from dataclasses import dataclass, replace
from typing import Any

STAMP = re.compile(rb"~([0-9a-f]{10})")
UNIT_MS = 1.024e-3
MASK = 0xFFFFFFFFFF  # a stamp begins again after 13 days
WANTED = re.compile(rb"\[load ([^\]]*)\]")
TOKENS = 20
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"Request-Id: req_load\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def clock() -> int:
    """Return the moment in the units of a stamp."""
    return time.monotonic_ns() >> 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What an answer is to be like."""

    deltas: int = 500
    rate: float = 50.0
    batch: int = 1
    first: float = 0.0
    silent: int = 0
    id: str = ""

    @property
    def tag(self) -> str:
        """The plan in the words of a request."""
        return (
            f"[load deltas={self.deltas} rate={self.rate:g} batch={self.batch} first={self.first:g}"
            f" silent={self.silent} id={self.id}]"
        )

    @property
    def seconds(self) -> float:
        """How long the answer takes; 0 at full speed."""
        return self.deltas / self.rate if self.rate else 0.0

    def told(self, body: bytes) -> Plan:
        """Return the plan with what a request says of it; raises ValueError for what cannot be read."""
        if not (found := WANTED.findall(body)):
            return self
        pairs = dict(pair.split("=", 1) for pair in found[-1].decode().split())
        kinds = {"deltas": int, "rate": float, "batch": int, "first": float, "silent": int, "id": str}
        plan = replace(self, **{name: kinds[name](value) for name, value in pairs.items() if name in kinds})
        if plan.deltas < 0 or plan.rate < 0 or plan.batch < 1:
            raise ValueError(f"deltas and rate are 0 or more, batch is 1 or more: {found[-1].decode()}")
        return plan


@dataclass(frozen=True, slots=True)
class Shape:
    """An API's stream: what comes before the deltas, one delta around its stamp, what comes after all of them.

    `%d` in `begin` is the sequence number, where the API has one; `after` holds TEXT where the API repeats it.
    """

    before: bytes
    begin: bytes
    end: bytes
    after: bytes
    is_numbered: bool = False


def _events(*values: dict[str, Any]) -> bytes:
    return b"".join(f"event: {value['type']}\ndata: {_dumps(value)}\n\n".encode() for value in values)


def _dumps(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _cut(event: bytes) -> tuple[bytes, bytes]:
    begin, _, end = event.partition(b"STAMP")
    return begin, end


def _messages() -> Shape:
    usage = {"input_tokens": TOKENS, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}
    message = {"id": "msg_load", "type": "message", "role": "assistant", "model": "load", "content": []}
    ended = {"stop_reason": None, "stop_sequence": None, "usage": usage}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "~STAMP"}}
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    return Shape(
        _events(
            {"type": "message_start", "message": message | ended},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "ping"},
        ),
        *_cut(_events(delta)),
        _events(
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": stop, "usage": {"output_tokens": TOKENS}},
            {"type": "message_stop"},
        ),
    )


def _responses() -> Shape:
    response: dict[str, Any] = {"id": "resp_load", "object": "response", "created_at": 1, "model": "load"}
    response |= {"error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "tools": []}
    response |= {"parallel_tool_calls": True, "tool_choice": "auto", "temperature": 1.0, "top_p": 1.0}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    item = {"type": "message", "id": "msg_load", "role": "assistant", "status": "in_progress", "content": []}
    place, inner = {"output_index": 0}, {"item_id": "msg_load", "output_index": 0, "content_index": 0}
    said = part | {"text": "TEXT"}
    done = item | {"status": "completed", "content": [said]}
    usage = {"input_tokens": TOKENS, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": TOKENS}
    usage |= {"output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 2 * TOKENS}
    begun = response | {"status": "in_progress", "output": [], "usage": None}
    before: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", **place, "item": item},
        {"type": "response.content_part.added", **inner, "part": part},
    ]
    delta = {"type": "response.output_text.delta", "sequence_number": "NUMBER", **inner}
    delta |= {"delta": "~STAMP", "logprobs": []}
    after: list[dict[str, Any]] = [
        {"type": "response.output_text.done", **inner, "text": "TEXT", "logprobs": []},
        {"type": "response.content_part.done", **inner, "part": said},
        {"type": "response.output_item.done", **place, "item": done},
        {
            "type": "response.completed",
            "response": response | {"status": "completed", "output": [done], "usage": usage},
        },
    ]
    numbered = [value | {"sequence_number": number} for number, value in enumerate(before)]
    # The deltas' numbers begin behind those; what comes after them is numbered as if there were a million.
    late = [value | {"sequence_number": 1_000_000 + number} for number, value in enumerate(after)]
    begin, end = _cut(_events(delta).replace(b'"NUMBER"', b"%d"))
    return Shape(_events(*numbered), begin, end, _events(*late), is_numbered=True)


def _chat() -> Shape:
    head = {"id": "chatcmpl-load", "object": "chat.completion.chunk", "created": 1, "model": "load"}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return f"data: {_dumps(head | {'choices': [choice]})}\n\n".encode()

    usage = {"prompt_tokens": TOKENS, "completion_tokens": TOKENS, "total_tokens": 2 * TOKENS}
    last = f"data: {_dumps(head | {'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n".encode()
    first = chunk({"role": "assistant", "content": ""})
    return Shape(first, *_cut(chunk({"content": "~STAMP"})), chunk({}, "stop") + last)


SHAPES = {b"/messages": _messages(), b"/responses": _responses(), b"/chat/completions": _chat()}


class Answer:
    """One answer on its way. `due` is when the next write is, of `time.monotonic`; it may be late and catches up."""

    __slots__ = ("due", "is_paused", "last", "peer", "plan", "sent", "shape", "text", "write")

    def __init__(self, peer: Peer, shape: Shape, plan: Plan) -> None:
        self.peer, self.shape, self.plan = peer, shape, plan
        self.write = peer.transport.write
        self.due = 0.0
        self.sent = 0
        self.last = 0
        self.is_paused = False
        self.text: list[bytes] | None = [] if b"TEXT" in shape.after else None

    def deltas(self) -> bytes:
        """Return the next write: one chunk of the body with a batch of deltas in it."""
        shape, stamp = self.shape, max(clock(), self.last + 1)
        count = min(self.plan.batch, self.plan.deltas - self.sent)
        events = []
        for at in range(count):
            digits = b"%010x" % ((stamp + at) & MASK)
            begin = shape.begin % (4 + self.sent + at) if shape.is_numbered else shape.begin
            events.append(begin + digits + shape.end)
            if self.text is not None:
                self.text.append(b"~" + digits)
        self.last = stamp + count - 1
        self.sent += count
        return _chunk(b"".join(events))

    def end(self) -> bytes:
        return _chunk(self.shape.after.replace(b"TEXT", b"".join(self.text or ()))) + b"0\r\n\r\n"


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body) if body else b""


class Provider:
    """Writes all answers, each at its pace."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.answers: set[Answer] = set()
        self.closed: dict[str, float] = {}
        self.asked = 0
        self.deltas = 0
        self._paced: list[tuple[float, int, Answer]] = []
        self._order = itertools.count()
        self._eager: list[Answer] = []
        self._is_pumping = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def begin(self, answer: Answer) -> None:
        self.asked += 1
        self.answers.add(answer)
        answer.write(HEAD + _chunk(answer.shape.before))
        answer.due = time.monotonic() + answer.plan.first
        if answer.plan.rate or answer.plan.first:
            self._pace(answer)
        else:
            self._hurry(answer)

    def leave(self, answer: Answer) -> None:
        """Note that the client of an answer went before its end."""
        self.closed[answer.plan.id] = time.monotonic()
        self.answers.discard(answer)

    def _pace(self, answer: Answer) -> None:
        heapq.heappush(self._paced, (answer.due, next(self._order), answer))
        if self._timer is None or self._paced[0][2] is answer:
            self._wait()

    def _wait(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None
        if self._paced:
            # uvloop's timers count whole milliseconds: a shorter one would not wait at all, again and again.
            self._timer = self._loop.call_later(max(0.001, self._paced[0][0] - time.monotonic()), self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        for _ in range(1000):  # then the loop looks for other things to do
            if not self._paced or self._paced[0][0] > now:
                break
            answer = heapq.heappop(self._paced)[2]
            if answer not in self.answers:
                continue
            if answer.is_paused:  # what is due meanwhile comes when it is read again: a model does not wait
                heapq.heappush(self._paced, (now + 0.005, next(self._order), answer))
            elif self._say(answer):
                if answer.plan.rate:
                    answer.due += answer.plan.batch / answer.plan.rate
                    heapq.heappush(self._paced, (answer.due, next(self._order), answer))
                else:
                    self._hurry(answer)
        self._wait()

    def _hurry(self, answer: Answer) -> None:
        self._eager.append(answer)
        if not self._is_pumping:
            self._is_pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Write once into each answer of no pace: uvloop joins the writes of one turn of the loop."""
        eager, self._eager = self._eager, []
        self._eager += [
            answer for answer in eager if answer in self.answers and not answer.is_paused and self._say(answer)
        ]
        self._is_pumping = bool(self._eager)
        if self._eager:
            self._loop.call_soon(self._pump)

    def resume(self, answer: Answer) -> None:
        answer.is_paused = False
        if not answer.plan.rate and answer in self.answers and answer not in self._eager:
            self._hurry(answer)

    def _say(self, answer: Answer) -> bool:
        """Write what is next of an answer; returns whether there is more to come."""
        plan = answer.plan
        before = answer.sent
        if before < plan.deltas:
            answer.write(answer.deltas())
            self.deltas += answer.sent - before
        if plan.silent and answer.sent >= plan.silent:
            return False
        if answer.sent < plan.deltas:
            return True
        answer.write(answer.end())
        self.answers.discard(answer)
        answer.peer.answer = None
        return False

    def told(self) -> bytes:
        closed, self.closed = self.closed, {}
        counts = {"pid": os.getpid(), "open": len(self.answers), "asked": self.asked, "deltas": self.deltas}
        return json.dumps(counts | {"closed": closed}).encode()


class Peer(asyncio.Protocol):
    """One connection of a client, which asks one thing at a time."""

    transport: asyncio.Transport

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.answer: Answer | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer is not None:
            self.provider.leave(self.answer)

    def pause_writing(self) -> None:
        if self.answer is not None:
            self.answer.is_paused = True

    def resume_writing(self) -> None:
        if self.answer is not None:
            self.provider.resume(self.answer)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if not found or len(body) < (size := int(length[1]) if length else 0):
            return
        self._buffer = body[size:]
        method, path, *_ = head.split(b" ", 2)
        path = path.partition(b"?")[0]
        shape = next((shape for end, shape in SHAPES.items() if path.endswith(end)), None)
        if method == b"GET":
            models = b'{"object":"list","data":[{"id":"load","object":"model","created":1,"owned_by":"load"}]}'
            self._reply(200, self.provider.told() if path == b"/load" else models)
        elif shape is None:
            self._reply(404, _error(f"no API of this provider: {path.decode(errors='replace')}"))
        elif not re.search(rb'"stream"\s*:\s*true', body):
            self._reply(400, _error("this provider only streams: ask with stream: true and a Content-Length"))
        else:
            try:
                plan = self.provider.plan.told(body[:size])
            except ValueError as error:
                return self._reply(400, _error(str(error)))
            self.answer = Answer(self, shape, plan)
            self.provider.begin(self.answer)

    def _reply(self, status: int, body: bytes) -> None:
        head = b"HTTP/1.1 %d Told\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)


def _error(message: str) -> bytes:
    return json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": message}}).encode()


async def serve(host: str, port: int, plan: Plan) -> None:
    """Serve until cancelled, and say where on standard output; raises OSError for a port that cannot be had."""
    loop = asyncio.get_running_loop()
    provider = Provider(plan)
    server = await loop.create_server(lambda: Peer(provider), host, port, backlog=4096)
    print(f"the fake provider is ready: http://{host}:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()
