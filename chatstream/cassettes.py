"""Runs as files: what was asked, what came over the wire, and what was made of it, a file for each run.

A cassette is a bug report, a demo and a regression test: `replay` plays it with neither the provider nor the tools. It
is JSON lines. The first says what it is and what was asked; each other one says what happened `at` so many seconds
after the run began:

    {"at", "attempt": n}                   the provider is asked, for the nth time
    {"at", "request": {...}, "told"}       the body that is sent, and who is asked; not where nothing is sent. Without
                                           "told" no bytes are kept, for the model said a key
    {"at", "read": "..."}                  what one read of the answer brought; "base64" where it is not UTF-8
    {"at", "end": true}                    the answer's end; neither this nor an error where the run left it
    {"at", "error": {...}}                 how that attempt failed
    {"at", "event": n, "value": [...]}     event n of the run, as `event_to_json` tells it; results of tools are events

Headers are not in it, and the configured keys are blotted out wherever they stand or are said. It is written by a
thread when a turn or the run ends; a disk that fails costs the recording and never the run.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from . import __version__, errors, events
from .agent import Settings
from .calls import Answer
from .events import Event, Outcome, event_from_json, event_to_json
from .messages import Message, ToolCall, ToolResult, message_to_json, messages_from_json
from .providers import ModelInfo, ModelRequest, Provider
from .providers.base import Take, Told
from .tools import Toolbox

log = logging.getLogger("chatstream.cassettes")

FORMAT, VERSION = "chatstream cassette", 1
# What is sent by which API; a provider that is none of these sends nothing.
APIS = {
    "anthropic": "messages",
    "openai": "responses",
    "openai-chat": "chat/completions",
    "local": "chat/completions",
}
_Said = events.TextDelta | events.ReasoningDelta | events.ArgumentsDelta
_OF_A_TOOL = {"name", "description", "parameters", "readOnly", "approval", "byCaller"}
# A shorter key is a word like any other ("none"), and would be blotted out of the middle of words.
_SHORTEST_KEY = 8


# --- recording --------------------------------------------------------------------------------------------------------


class Recorder:
    """Records runs in `folder`, without the `secrets`. `open` comes first; `aclose` waits until all is written."""

    def __init__(self, folder: Path, secrets: Iterable[str] = ()) -> None:
        self._folder = folder
        # A key may begin with another one.
        as_json = {orjson.dumps(secret)[1:-1] for secret in secrets}
        longest_first = sorted(as_json | {secret.encode() for secret in secrets}, key=len, reverse=True)
        self._secrets = [secret for secret in longest_first if len(secret) >= _SHORTEST_KEY]
        self._writer = ThreadPoolExecutor(1, "chatstream-cassettes")

    async def open(self) -> None:
        """Make the folder; raises ConfigError where nothing can be written there."""
        try:
            await asyncio.to_thread(self._try_folder)
        except OSError as error:
            raise errors.ConfigError(f"--record: cannot write to {self._folder}: {error.strerror}") from error

    def _try_folder(self) -> None:
        self._folder.mkdir(0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._folder):
            pass

    def begin(
        self,
        started: events.RunStarted,
        provider: Provider,
        messages: Sequence[Message],
        toolbox: Toolbox,
        settings: Settings,
        answers: Sequence[Answer] = (),
    ) -> Tape:
        """Return the tape of a run that begins now."""
        begins = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

        def head() -> dict[str, Any]:
            what = {"format": FORMAT, "version": VERSION, "chatstream": __version__, "startedAt": begins}
            who = {"runId": started.run_id, "model": started.model, "api": APIS.get(provider.name, "")}
            asked = {
                "messages": [message_to_json(message) for message in messages],
                "answers": [_answer_to_json(answer) for answer in answers],
                "tools": [tool.to_json() | {"byCaller": tool.by_caller} for tool in toolbox],
                "settings": _settings_to_json(settings),
            }
            return what | who | asked

        return Tape(self._folder / f"{started.run_id}.jsonl", head, provider, self._submit, self._secrets)

    def _submit(self, work: Callable[[], None]) -> None:
        self._writer.submit(work)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._writer.shutdown)


class Tape:
    """What is recorded of one run: its `provider` is asked in place of the run's own, `note` is told its events."""

    def __init__(
        self,
        path: Path,
        head: Callable[[], dict[str, Any]],
        provider: Provider,
        submit: Callable[[Callable[[], None]], None],
        secrets: Sequence[bytes],
    ) -> None:
        self.provider = _Listening(provider, self)
        self._path = path
        self._submit = submit
        self._secrets = secrets
        self._began = time.monotonic()
        self._noted: list[tuple[float, str, Any]] = [(0.0, "head", head)]
        self._attempts = 0
        self._has_ended = False
        self._is_broken = False

    def note(self, first: int, batch: Sequence[Event]) -> None:
        """Note events, the first of which is number `first` of the run."""
        self._add("events", (first, batch))
        if isinstance(batch[-1], events.TurnFinished | events.RunFinished | events.RunFailed):
            noted, self._noted = self._noted, []
            self._submit(lambda: self._append(noted))

    def attempt(self) -> None:
        self._attempts += 1
        self._has_ended = False
        self._add("attempt", self._attempts)

    def sent(self, told: Told, body: dict[str, Any]) -> None:
        self._add("request", (told, body))

    def read(self, chunk: bytes) -> None:
        if chunk:
            self._add("read", chunk)
        else:
            self.end()

    def end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._add("end", True)

    def failed(self, error: errors.ProviderError) -> None:
        self._add("error", error)

    def _add(self, kind: str, value: Any) -> None:
        self._noted.append((time.monotonic() - self._began, kind, value))

    def _append(self, noted: list[tuple[float, str, Any]]) -> None:
        """Write what was noted, in the thread."""
        if self._is_broken:
            return
        try:
            data = b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in self._lines(noted))
            with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as file:
                file.write(self._blot(data))
        except Exception as error:
            self._is_broken = True
            log.error("%s cannot be recorded: %s", self._path.name, error)

    def _lines(self, noted: list[tuple[float, str, Any]]) -> Iterator[dict[str, Any]]:
        # Blotted out together: a key may lie across two reads.
        reads = [value for _, kind, value in noted if kind == "read"]
        clean, start = self._blot(b"".join(reads)), 0
        said = self._said([event for _, kind, value in noted if kind == "events" for event in value[1]])
        for at, kind, value in noted:
            when = {"at": round(at, 6)}
            match kind, value:
                case "head", head:
                    yield head()
                case "events", (first, batch):
                    for number, event in enumerate(batch, first):
                        event = said.get(id(event), event)
                        yield when | {"event": number, "value": event_to_json(event)}
                case "read", chunk:
                    if not said:
                        yield when | _bytes_to_json(clean[start : start + len(chunk)])
                    start += len(chunk)
                case "request", (told, body):
                    yield when | {"request": body} | ({} if said else {"told": asdict(told)})
                case "error", error:
                    yield when | {"error": _error_to_json(error)}
                case _:
                    yield when | {kind: value}

    def _said(self, told: Sequence[Event]) -> dict[int, Event]:
        """Return the deltas in which the model says a key or a piece of one, blotted out, by their identity.

        Where there are any the bytes are not kept: in them the pieces may stand far apart.
        """
        parts: dict[int, list[_Said]] = {}
        for event in told:
            if isinstance(event, _Said):
                parts.setdefault(event.part, []).append(event)
        found: dict[int, Event] = {}
        for pieces in parts.values():
            clean = self._blot("".join(piece.text for piece in pieces).encode()).decode()
            start = 0
            for piece in pieces:
                text = clean[start : start + len(piece.text)]
                start += len(piece.text)
                if text != piece.text:
                    found[id(piece)] = replace(piece, text=text)
        return found

    def _blot(self, data: bytes) -> bytes:
        for secret in self._secrets:
            data = data.replace(secret, b"*" * len(secret))
        return data


class _Listening(Provider):
    """The provider of a run with a tape that runs beside it."""

    def __init__(self, provider: Provider, tape: Tape) -> None:
        self.name = provider.name
        self.default_model = provider.default_model
        self._provider = provider
        self._tape = tape

    def info(self, model: str) -> ModelInfo:
        return self._provider.info(model)

    async def push(self, request: ModelRequest, take: Take) -> None:
        self._tape.attempt()
        try:
            await self._provider.push(replace(request, tap=self._tape), take)
        except errors.ProviderError as error:
            self._tape.failed(error)
            raise
        self._tape.end()


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Attempt:
    """One time that the provider was asked, and what came of it.

    `told` is None where nothing was sent: the answer is then known by the `said` events alone, and by how its turn was
    `finished`. `over` is when the answer ended or failed; it is None where the run left it.
    """

    at: float
    told: Told | None = None
    body: dict[str, Any] | None = None
    reads: list[tuple[float, bytes]] = field(default_factory=list)
    said: list[tuple[float, Event]] = field(default_factory=list)
    finished: events.TurnFinished | None = None
    has_ended: bool = False
    over: float | None = None
    error: dict[str, Any] | None = None

    def failure(self) -> errors.ProviderError:
        """Return the error that it failed with, anew each time."""
        value = dict(self.error or {})
        kind = getattr(errors, value.pop("kind"), None)
        if not (isinstance(kind, type) and issubclass(kind, errors.ProviderError)):
            kind = errors.ProviderBroken
        return kind(value.pop("message"), **value)


@dataclass(slots=True)
class Cassette:
    """A recorded run, as `read_cassette` returns it. `entries` are its events, each with its seconds and its number."""

    model: str
    api: str
    chatstream: str
    started_at: str
    messages: list[Message]
    answers: list[Answer]
    tools: list[dict[str, Any]]
    settings: Settings
    attempts: list[Attempt] = field(default_factory=list)
    entries: list[tuple[float, int, Event]] = field(default_factory=list)

    @property
    def events(self) -> list[Event]:
        return [event for _, _, event in self.entries]

    @property
    def outcome(self) -> Outcome | None:
        """How the run ended, None where it failed."""
        last = self.entries[-1][2]
        return last.outcome if isinstance(last, events.RunFinished) else None


def read_cassette(path: str | Path) -> Cassette:
    """Read the file of a run; raises ConfigError for one that is none, that broke off, or of another version."""
    name = Path(path).name
    try:
        first, *lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise errors.ConfigError(f"cannot read {path}: {error.strerror}") from error
    head = _parse(first)
    if head.get("format") != FORMAT:
        raise errors.ConfigError(f"{name} is no cassette: --record writes them, one for each run")
    if head.get("version") != VERSION:
        raise errors.ConfigError(f"{name} is a cassette of version {head.get('version')}; this program reads {VERSION}")
    number = 1
    try:
        cassette = _begin(head)
        for line in lines[:-1]:
            number += 1
            _play(cassette, _parse(line))
    except (AssertionError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise errors.ConfigError(f"{name} is damaged in line {number}: {error!r}") from error
    last = cassette.entries[-1][2] if cassette.entries else None
    if lines[-1:] != [b""] or not isinstance(last, events.RunFinished | events.RunFailed):
        raise errors.ConfigError(f"{name} broke off: it has no end of its run")
    return cassette


def _begin(head: dict[str, Any]) -> Cassette:
    known = {each.name for each in fields(Settings)}
    if not (isinstance(head["model"], str) and head["api"] in ("", *APIS.values()) and head["messages"]):
        raise ValueError("no model, API and messages that could be played")
    for tool in head["tools"]:
        if missing := _OF_A_TOOL - tool.keys():
            raise KeyError(*sorted(missing))
    return Cassette(
        model=head["model"],
        api=head["api"],
        chatstream=head["chatstream"],
        started_at=head["startedAt"],
        messages=messages_from_json(head["messages"]),
        answers=[_answer_from_json(value) for value in head["answers"]],
        tools=head["tools"],
        settings=Settings(**{name: value for name, value in head["settings"].items() if name in known}),
    )


def _play(cassette: Cassette, line: dict[str, Any]) -> None:
    """Add what one line says."""
    at = float(line["at"])
    if "event" in line:
        event = event_from_json(line["value"])
        if isinstance(event, events.RunStarted) is bool(cassette.entries):
            raise ValueError("a run starts once, with its first event")
        cassette.entries.append((at, line["event"], event))
        if cassette.attempts and cassette.attempts[-1].over is None:
            cassette.attempts[-1].said.append((at, event))
        if cassette.attempts and isinstance(event, events.TurnFinished):
            cassette.attempts[-1].finished = event
        return
    if "attempt" in line:
        cassette.attempts.append(Attempt(at))
        return
    attempt = cassette.attempts[-1]
    if "request" in line:
        attempt.body = line["request"]
        attempt.told = Told(**line["told"]) if "told" in line else None
    elif "read" in line:
        attempt.reads.append((at, line["read"].encode()))
    elif "base64" in line:
        attempt.reads.append((at, base64.b64decode(line["base64"])))
    else:
        attempt.over, attempt.error = at, line.get("error")
        attempt.has_ended = attempt.has_ended or "end" in line


def _parse(line: bytes) -> dict[str, Any]:
    """Return the object in a line, an empty one where there is none."""
    try:
        value = orjson.loads(line)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}


# --- values -----------------------------------------------------------------------------------------------------------


def _bytes_to_json(chunk: bytes) -> dict[str, str]:
    try:
        return {"read": chunk.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(chunk).decode()}


def _error_to_json(error: errors.ProviderError) -> dict[str, Any]:
    what = {"kind": type(error).__name__, "message": error.message, "detail": error.detail}
    return what | {"retry_after": error.retry_after} | error.details


def _settings_to_json(settings: Settings) -> dict[str, Any]:
    """Return the settings that are values: how long to wait and how often to try are the program's own affair."""
    given = {each.name: getattr(settings, each.name) for each in fields(settings)}
    return {name: value for name, value in given.items() if isinstance(value, str | int | float | list | tuple)}


def _answer_to_json(answer: Answer) -> dict[str, Any]:
    parts = (answer.call,) if answer.result is None else (answer.call, answer.result)
    return message_to_json(Message("tool", parts))


def _answer_from_json(value: dict[str, Any]) -> Answer:
    call, *results = messages_from_json([value])[0].parts
    result = results[0] if results else None
    assert isinstance(call, ToolCall) and isinstance(result, ToolResult | None)
    return Answer(call, result)
