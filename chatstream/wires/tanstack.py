"""A thread as TanStack AI's client shows it, for a page that is loaded again.

The client keeps a thread as `UIMessage`s and posts it as AG-UI messages (`uiMessagesToWire` of @tanstack/ai). `Thread`
goes the way back: it takes the messages that were posted, and the frames of the run that answered them as the client
itself takes them (`StreamProcessor`), so that a page which goes on from here has every id and every part that it would
have had.

    {"id","role","parts":[...],"createdAt"?,"metadata"?}
    {"type":"text","content"}                    {"type":"thinking","content","stepId"?,"signature"?}
    {"type":"tool-call","id","name","arguments","state","input"?,"output"?,"approval"?,"metadata"?}
    {"type":"tool-result","toolCallId","content","state","error"?}

A page that comes back to a run which is not over builds its answer anew from the run's first event
(`ChatClient.resumeInFlightRun`). Of what it shows it drops the last message, where that is an assistant's, and no
other: the earlier steps of the answer would then be there twice, and a call that was approved would be gone with its
message. So `Rejoin` tells such a page behind the first event what there was before the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import orjson

from .. import events
from ..conversations import Approval
from ..events import Event
from .agui import Encoder

UIMessage = dict[str, Any]
Part = dict[str, Any]


class Rejoin(Encoder):
    """Tells a run to a page that was loaded again: behind its first event stands what there was `before` it.

    That is no event of the run and has no id, so a client whose cursor is the first event has to be told from there.
    """

    def __init__(
        self, before: Sequence[UIMessage], thread_id: str, run_id: str, parent_run_id: str, answered: Iterable[str]
    ) -> None:
        super().__init__(thread_id, run_id, parent_run_id, answered)
        self._before = before

    def encode(self, number: int, event: Event, skip: int = 0) -> bytes:
        data = super().encode(number, event, skip)
        if not isinstance(event, events.RunStarted):
            return data
        snapshot = {"type": "MESSAGES_SNAPSHOT", "messages": self._before}
        return data + b"data: " + orjson.dumps(snapshot) + b"\n\n"


class Thread:
    """The messages of a thread: those that were `posted`, and behind them what the frames of a run tell.

    `pending` are the interrupts of the run that nobody answered; `at` is the time of what it says (ISO 8601).
    """

    def __init__(self, posted: Iterable[dict[str, Any]], at: str = "") -> None:
        self.pending: list[dict[str, Any]] = []
        self._messages: dict[str, UIMessage] = {}
        self._last: UIMessage = {"parts": []}
        self._calls: dict[str, tuple[Part, UIMessage]] = {}
        self._steps: dict[str, str] = {}  # the thought that each message is at
        self._thoughts: dict[tuple[str, str], Part] = {}  # by message and step
        self._at = ""
        # Joined when another part grows: a long text would be copied with every piece that is added.
        self._growing: tuple[Part, str] | None = None
        self._pieces: list[str] = []
        for message in _with_thoughts(posted):
            self._take_posted(message)
        self._at = at

    @property
    def messages(self) -> list[UIMessage]:
        self._join()
        return [each for each in self._messages.values() if each["parts"]]

    def see(self, frames: Iterable[dict[str, Any]]) -> None:
        """Take the next frames of the run; those that change no message change nothing here."""
        for frame in frames:
            if take := _FRAMES.get(frame["type"]):
                take(self, frame)

    def decide(self, approvals: Sequence[Approval]) -> None:
        """Take what was decided on calls of the run while others still wait, or too late for it to go on."""
        decided = {each.call_id: each for each in approvals if each.decision}
        for id, (part, _) in self._calls.items():
            if (approval := decided.get(id)) is None or "output" in part:
                continue
            if result := approval.result:
                self._answer(id, result.content, result.is_error)
            else:
                _approve(part, True)
        waiting = {each.call_id for each in approvals if each.decision is None}
        self.pending = [each for each in self.pending if each["toolCallId"] in waiting]

    def _take_posted(self, message: dict[str, Any]) -> None:
        """Take a posted message: an assistant's as the frames that would have told it."""
        content = message.get("content") or ""
        if message["role"] == "tool":
            self._take_posted_result(message["toolCallId"], _text(content), message.get("error"))
            return
        self._start_message(message | {"messageId": message["id"]})
        if message["role"] != "assistant":
            self._last["parts"] = (
                [{"type": "text", "content": content}] if isinstance(content, str) else _shown(content)
            )
            return
        for thought in message["thoughts"]:
            self._start_step({"stepName": thought["id"]})
            self._add_thought({"messageId": thought["id"], "delta": _text(thought.get("content"))})
            if isinstance(signature := thought.get("encryptedValue"), str):
                self._sign({"subtype": "message", "entityId": thought["id"], "encryptedValue": signature})
        if text := _text(content):
            self._add_text({"messageId": message["id"], "delta": text})
        about_calls = _tanstack(message).get("toolCallMetadata")
        for call in message.get("toolCalls") or ():
            metadata = about_calls.get(call["id"]) if isinstance(about_calls, dict) else None
            about = {"toolCallId": call["id"], "toolCallName": call["function"]["name"], "metadata": metadata}
            self._start_call(about)
            self._add_arguments(about | {"delta": call["function"]["arguments"]})
            self._end_call(about)

    def _take_posted_result(self, id: str, content: str, error: object) -> None:
        """Take a result, or what the client says in place of one about a call that was decided and has not run."""
        match _parsed(content):
            case {"approved": bool(approved), "message": str()} if id in self._calls:
                _approve(self._calls[id][0], approved)
            case _:
                self._answer(id, content, error is not None, error if isinstance(error, str) else "")

    # --- frames -------------------------------------------------------------------------------------------------------

    def _start_message(self, frame: dict[str, Any]) -> None:
        role = {"user": "user", "system": "system", "developer": "system"}.get(frame.get("role", ""), "assistant")
        at = _tanstack(frame).get("createdAt") or self._at
        message = {"id": frame["messageId"], "role": role, "parts": []} | ({"createdAt": at} if at else {})
        self._last = self._messages.setdefault(message["id"], message | _metadata(frame))

    def _add_text(self, frame: dict[str, Any]) -> None:
        parts = self._messages[frame["messageId"]]["parts"]
        if not parts or parts[-1]["type"] != "text":
            parts.append({"type": "text", "content": ""})
        self._grow(parts[-1], "content", frame["delta"])

    def _start_step(self, frame: dict[str, Any]) -> None:
        self._steps[self._last.get("id", "")] = frame["stepName"]

    def _add_thought(self, frame: dict[str, Any]) -> None:
        self._grow(self._thought(frame["messageId"]), "content", frame["delta"])

    def _sign(self, frame: dict[str, Any]) -> None:
        signature = frame["encryptedValue"]
        if frame["subtype"] == "message":
            self._thought(frame["entityId"])["signature"] = signature
        elif frame["entityId"] in self._calls:
            part = self._calls[frame["entityId"]][0]
            part["metadata"] = part.get("metadata", {}) | {"thoughtSignature": signature}

    def _start_call(self, frame: dict[str, Any]) -> None:
        owner = self._messages.get(frame.get("parentMessageId", ""), self._last)
        part = {"type": "tool-call", "id": frame["toolCallId"], "name": frame["toolCallName"], "arguments": ""}
        owner["parts"].append(part | {"state": "awaiting-input"} | _metadata(frame))
        self._calls[frame["toolCallId"]] = owner["parts"][-1], owner

    def _add_arguments(self, frame: dict[str, Any]) -> None:
        self._grow(self._calls[frame["toolCallId"]][0], "arguments", frame["delta"])

    def _end_call(self, frame: dict[str, Any]) -> None:
        self._join()
        part = self._calls[frame["toolCallId"]][0]
        part["state"] = "input-complete"
        with suppress(ValueError):
            part["input"] = orjson.loads(part["arguments"])

    def _take_result(self, frame: dict[str, Any]) -> None:
        self._answer(frame["toolCallId"], frame["content"], _tanstack(frame).get("state") == "output-error")

    def _finish(self, frame: dict[str, Any]) -> None:
        self.pending = list(frame.get("outcome", {}).get("interrupts", ()))
        for each in self.pending:
            part, _ = self._calls[each["toolCallId"]]
            if each["reason"] == "approval_required":
                part |= {"state": "approval-requested", "approval": {"id": each["id"], "needsApproval": True}}

    # --- parts --------------------------------------------------------------------------------------------------------

    def _thought(self, id: str) -> Part:
        """Return the thought that the last message is at, of which `id` is the first frame where there is none."""
        place = self._last.get("id", ""), self._steps.setdefault(self._last.get("id", ""), id)
        if place not in self._thoughts:
            self._thoughts[place] = {"type": "thinking", "content": "", "stepId": place[1]}
            self._last["parts"].append(self._thoughts[place])
        return self._thoughts[place]

    def _answer(self, id: str, content: str, is_error: bool, error: str = "") -> None:
        if id not in self._calls:
            return
        part, owner = self._calls[id]
        output, state = _parsed(content), "error" if is_error else "complete"
        part |= {"output": output, "state": state}
        told = output.get("error") if isinstance(output, dict) else output
        why = {"error": error or (told if isinstance(told, str) else "Tool execution failed")} if is_error else {}
        result = {"type": "tool-result", "toolCallId": id, "content": content, "state": state} | why
        owner["parts"].append(result)

    def _grow(self, part: Part, name: str, text: str) -> None:
        if self._growing is None or self._growing[0] is not part:
            self._join()
            self._growing = part, name
        self._pieces.append(text)

    def _join(self) -> None:
        if self._growing is not None:
            part, name = self._growing
            part[name] += "".join(self._pieces)
            self._growing, self._pieces = None, []


_FRAMES: dict[str, Callable[[Thread, dict[str, Any]], None]] = {
    "TEXT_MESSAGE_START": Thread._start_message,
    "TEXT_MESSAGE_CONTENT": Thread._add_text,
    "STEP_STARTED": Thread._start_step,
    "REASONING_MESSAGE_CONTENT": Thread._add_thought,
    "REASONING_ENCRYPTED_VALUE": Thread._sign,
    "TOOL_CALL_START": Thread._start_call,
    "TOOL_CALL_ARGS": Thread._add_arguments,
    "TOOL_CALL_END": Thread._end_call,
    "TOOL_CALL_RESULT": Thread._take_result,
    "RUN_FINISHED": Thread._finish,
}


def _with_thoughts(posted: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the posted messages that are shown, each with the `thoughts` that stood in front of it, all with an id."""
    thoughts: list[dict[str, Any]] = []
    for number, message in enumerate(posted):
        named = message | {"id": message.get("id") or f"posted-{number}"}
        if message["role"] == "reasoning":
            thoughts.append(named)
        elif message["role"] != "activity":
            yield named | {"thoughts": thoughts}
            thoughts = []


def _approve(part: Part, approved: bool) -> None:
    asked = part.get("approval", {"id": part["id"], "needsApproval": True})
    part |= {"state": "approval-responded", "approval": asked | {"approved": approved}}


def _shown(content: list[dict[str, Any]]) -> list[Part]:
    """Return the parts of what a user said: only that of a text differs from AG-UI's."""
    return [{"type": "text", "content": _text([each])} if each["type"] == "text" else each for each in content]


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    texts = [each.get("text") for each in content] if isinstance(content, list) else []
    return "".join(text for text in texts if isinstance(text, str))


def _metadata(told: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": told["metadata"]} if isinstance(told.get("metadata"), dict) else {}


def _tanstack(told: dict[str, Any]) -> dict[str, Any]:
    """Return TanStack's own part of the metadata."""
    tanstack = _metadata(told).get("metadata", {}).get("tanstack")
    return tanstack if isinstance(tanstack, dict) else {}


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        return text
