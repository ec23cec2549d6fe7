"""A recording in the real page: a server with its conversation, where the recorded question is asked at the first look.

Whoever opens the address watches the answer come as it came then. Any further question plays it again. Nothing is kept,
no provider is asked, and no tool runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from aiohttp import web

from .. import errors
from ..agent import new_id
from ..calls import Answer
from ..cassettes import Cassette
from ..config import Config
from ..conversations import Approval, Decision, Run
from ..deltas import FinishReason
from ..events import Outcome
from ..messages import Message, message_to_json
from ..replay import ReplayedModels, ReplayedTools
from . import Server
from .guard import LOCAL, Handler
from .routes import Route

_LONG = 86400.0  # seconds that an approval of the recording waits to be decided as it was


class ReplayServer(Server):
    """The server of one recording, whose conversation is its `home`."""

    def __init__(self, config: Config, cassette: Cassette, speed: float = 1.0) -> None:
        settings = {each.name: getattr(cassette.settings, each.name) for each in fields(cassette.settings)}
        known = {each.name for each in fields(config)}
        alike = {name: value for name, value in settings.items() if name in known}
        config = replace(config, data=None, record=None, model="", **alike)
        # A recording that ends in a pause goes on in another one: that is told. One that was stopped is stopped again.
        leave = self._leave if cassette.outcome in (Outcome.STOPPED, Outcome.INTERRUPTED) else None
        super().__init__(config, ReplayedModels(cassette, speed, leave), ReplayedTools(cassette, speed))
        self._cassette = cassette
        self._stopping: asyncio.Task[None] | None = None
        self._id = ""
        # What the recorded run answered: a question, and what had been said to it before.
        self._asked: list[Message] = []
        self._paused = ""
        self._has_begun = False

    def _leave(self) -> None:
        self._stopping = asyncio.create_task(self._stop())

    async def _stop(self) -> None:
        for run in await self.runs.store.running():
            await self.runs.stop(run)

    def _guarded(self, route: Route) -> Handler:
        async def begin_first(request: web.Request) -> web.StreamResponse:
            if request.match_info.get("id") == self._id and not self._has_begun:
                self._has_begun = True
                await self._begin()
            return await route.handler(request)

        return super()._guarded(replace(route, handler=begin_first))

    async def open(self) -> None:
        await super().open()
        self._id = (await self.runs.store.create(LOCAL)).id
        self.home = f"c={self._id}"
        *earlier, self._asked = _turns(self._cassette.messages)
        for turn in earlier:
            await self._add(turn)
        if len(self._asked) > 1:
            self._paused = await self._add(self._asked, [_approval(answer) for answer in self._cassette.answers])

    async def _add(self, turn: Sequence[Message], approvals: Sequence[Approval] = ()) -> str:
        """Add a question and what was said to it, as a run of its own that is over; returns that run's id."""
        question, *said = turn
        run = Run(
            new_id("run"),
            LOCAL,
            self._id,
            message_id=new_id("msg"),
            turn_id=new_id("turn"),
            model=self._cassette.model,
            created_at=time.time(),
        )
        await self.runs.store.begin(run, "", question, new_id("msg"), None)
        outcome = "paused" if approvals else "completed"
        await self.runs.store.end(run.id, outcome, {"finishReason": FinishReason.STOP}, said, approvals)
        return run.id

    async def _begin(self) -> None:
        """Ask as it was asked then, or decide as it was decided."""
        run_id = new_id("run")
        if answers := self._cassette.answers:
            run = await self.runs.store.run(LOCAL, self._paused)
            await self.runs.decide(run, [_decision(answer) for answer in answers], run_id)
            return
        body: dict[str, Any] = {"conversationId": self._id, "turnId": new_id("turn")}
        if not self._paused:
            body["message"] = message_to_json(self._asked[0])["content"]
        await self.runs.ask(LOCAL, body, run_id)


def _turns(messages: Sequence[Message]) -> list[list[Message]]:
    """Return a list for each question: it, and what was said to it. System messages are settings here."""
    turns: list[list[Message]] = []
    for message in messages:
        if message.role == "user":
            turns.append([message])
        elif turns and message.role != "system":
            turns[-1].append(message)
    if not turns:
        raise errors.ConfigError("the recording has no question, so there is nothing to show; --check works")
    return turns


def _approval(answer: Answer) -> Approval:
    # A result that was given is told as the caller's: the recording does not say who decided.
    call, is_given = answer.call, answer.result is not None
    return Approval(call.id, call.name, call.input or {}, is_given, time.time() + _LONG)


def _decision(answer: Answer) -> Decision:
    if answer.result is None:
        return Decision(answer.call.id, "approve")
    return Decision(answer.call.id, "result", answer.result.content, answer.result.is_error)
