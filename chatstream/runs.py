"""A run is a task that owns itself: a loop that speaks into a log, and viewers that come and go.

    asked --> live --its last event--> ended --keep_runs--> its record alone
               |                         ^
               +--its process died-------+   settled `interrupted` by whoever finds it

An event is in the log before any viewer has it, so what was seen once can be seen again. A viewer that leaves ends
nothing but itself; a stop ends the run, and so does a time without any viewer. What came of a run is in the store
before its last event is shown.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import orjson

from . import errors, events, tables
from .agent import Settings, new_id
from .calls import Answer
from .cassettes import Recorder
from .config import Config
from .conversations import NOBODY, Approval, Caller, Conversation, Decision, Run, digest
from .database import Database
from .eventlog import Entry, EventLog, MemoryLog, SqliteLog
from .eventlog import sqlite as sqlite_log
from .events import Event, Outcome
from .live import AT_ONCE, Kept, LiveRun, Plan, Show, is_last, started
from .messages import Image, Message, ToolCall, length, message_to_json, messages_from_json
from .places import Places, Queued
from .providers import Limits, Models, Provider
from .store import Store
from .tools import Toolbox, caller_tool
from .turn import Remains
from .wires.native import notice_to_json, timing_to_json, usage_to_json

log = logging.getLogger("chatstream.runs")

T = TypeVar("T")

SWEEP = 10.0  # seconds between two looks for runs whose process died, and for what is too old
_POLL = 0.1  # seconds between two looks at the run of another process
_LISTEN = 0.2  # seconds between two looks at what other processes want
_TELL = 2.0  # seconds after which a viewer tells the process that writes a run again that it watches
_PATIENCE = 10.0  # seconds for another process to stop a run
_CLOSE = 1.0  # seconds for runs to end when they are told to
# What of a request its run keeps, for the run that may follow it; `wire` is what a wire needs to tell it again.
_KEPT = ("model", "maxOutputTokens", "temperature", "effort", "tools", "wire")


class Runs:
    """All runs of this process, and what is left of the others'. `open` comes first, `close` last."""

    def __init__(self, config: Config, models: Models, tools: Toolbox) -> None:
        self._config = config
        self.models = models
        self.tools = tools
        self._database = Database(config.data)
        self.log: EventLog = MemoryLog() if config.data is None else SqliteLog(self._database)
        self.store = Store(self._database)
        secrets = models.secrets | {config.token}
        self._recorder = None if config.record is None else Recorder(config.record, secrets)
        self._places = Places(config.max_runs) if config.max_runs else None
        self._live: dict[str, LiveRun] = {}
        self._beginning: set[asyncio.Task[Any]] = set()
        self._deleting: set[asyncio.Task[Any]] = set()
        self._settling = asyncio.Lock()
        self._tending: list[asyncio.Task[None]] = []
        self._is_closing = False
        self._is_unclean = True  # whether the journal may still hold what was deleted, by an earlier process too

    async def open(self) -> None:
        """Open the data, and settle what an earlier process left unfinished. Raises ConfigError."""
        if self._recorder is not None:
            await self._recorder.open()
        await self._database.open(tables.SCHEMA, sqlite_log.SCHEMA)
        try:
            await self.log.open()
            await self.sweep()
        except errors.StorageError as error:
            where = self._config.data or "memory"
            raise errors.ConfigError(f"--data: {where}: {error.message}; mend it, or name another folder") from error
        self._tending = [asyncio.create_task(self._sweep())]
        if self._config.data is not None:
            self._tending.append(asyncio.create_task(self._listen()))

    async def drain(self, grace: float) -> None:
        """Take no new runs, give those that are live `grace` seconds to finish, and interrupt the rest."""
        self._is_closing = True
        tasks = [live.task for live in self._live.values()]
        if tasks and grace:
            log.info("waiting up to %g s for %d answers to finish", grace, len(tasks))
            await asyncio.wait(tasks, timeout=grace)
        for live in list(self._live.values()):
            live.loop.stop(Outcome.INTERRUPTED)
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE)

    async def close(self) -> None:
        await self.drain(0)
        tasks = [*self._beginning, *self._deleting, *self._tending, *(live.task for live in self._live.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.log.aclose()
        await self._database.close()
        if self._recorder is not None:
            await self._recorder.aclose()

    # --- beginning ----------------------------------------------------------------------------------------------------

    def plan(self, body: dict[str, Any], conversation: Conversation | None = None) -> Plan:
        """Return how a request is to be answered, by what its conversation says where it says nothing itself.

        Raises RequestError, and ProviderError for an unusable model.
        """
        provider, model = self._find(body.get("model", ""), conversation.model if conversation else "")
        config = self._config
        limit = config.max_output_tokens
        systems = [config.system, conversation.system if conversation else ""]
        settings = Settings(
            system="\n\n".join(text for text in systems if text.strip()),
            # To a schema 8.0 is an integer too; to a provider it is not.
            max_output_tokens=min(int(body.get("maxOutputTokens", limit)), limit),
            temperature=body.get("temperature", config.temperature),
            effort=body.get("effort", config.effort),
            max_turns=config.max_turns,
            trim=config.trim,
            limits=Limits(
                config.connect_timeout, config.first_token_timeout, config.chunk_timeout, config.total_timeout
            ),
            # Which another provider has is no reason to refuse the models of this one.
            provider_tools=tuple(name for name in config.provider_tools if name in provider.provider_tools),
        )
        tools = self._chosen(body["tools"]) if "tools" in body else self.tools
        return Plan(provider, model, tools, settings)

    def _find(self, asked: str, kept: str) -> tuple[Provider, str]:
        """Return the model that was asked for, or else the one that its conversation has, or the default."""
        hint = "" if asked or not kept else "; it is the model of this conversation: choose another one for it"
        try:
            provider, model = self.models.find(asked or kept)
        except errors.NotFound as error:
            raise errors.NotFound(f"{error.message}{hint}") from error
        if provider.reason:
            raise provider.unusable(f"{provider.name}:{model} cannot be used: {provider.reason}{hint}.")
        return provider, model

    def _chosen(self, tools: Sequence[str | dict[str, Any]]) -> Toolbox:
        """Return the tools that a request names, and those of the caller's own that it declares."""
        try:
            return Toolbox(self.tools.get(each) if isinstance(each, str) else caller_tool(**each) for each in tools)
        except (errors.UnknownTool, errors.ConfigError) as error:
            raise errors.RequestError(f"tools: {error.message}") from error

    async def ask(self, owner: str, body: dict[str, Any], run_id: str) -> Run:
        """Begin a turn of a stored conversation, or find the run that this very request began before.

        The user's message is durable when it returns. Raises NotFound, Conflict, RequestError, Unavailable.
        """
        mark = digest(body)
        conversation, known = await self.store.turn(owner, body["conversationId"], body["turnId"], mark)
        if known:
            return known
        plan = self.plan(body, conversation)
        content = body.get("message")
        message = None if content is None else messages_from_json([{"role": "user", "content": content}])[0]
        self._need_sight(plan, [message] if message else [])
        self._need_room()
        run = self._new_run(owner, run_id, plan, body, body["conversationId"], body["turnId"])
        return await _whole(self._ask(run, plan, body, message, mark), self._beginning)

    async def _ask(self, run: Run, plan: Plan, body: dict[str, Any], message: Message | None, mark: str) -> Run:
        parent_id = (body["parentId"] or "") if "parentId" in body else None
        run, is_new = await self.store.begin(run, mark, message, new_id("msg"), parent_id)
        if is_new:
            self._launch(run, plan, await self._history(run))
        return run

    async def ask_once(
        self, owner: str, body: dict[str, Any], messages: Sequence[Message], run_id: str, caller: Caller = NOBODY
    ) -> Run:
        """Begin a run whose conversation the caller keeps, or find the run that this very request began before."""
        plan = self.plan(body)
        # What an answer was given to before is history: it must not keep anyone from asking another model.
        answered = max((number for number, each in enumerate(messages) if each.role == "assistant"), default=-1)
        self._need_sight(plan, messages[answered + 1 :])
        self._need_room()
        run = self._new_run(owner, run_id, plan, body, caller=caller)
        return await _whole(self._ask_once(run, plan, messages, caller), self._beginning)

    async def _ask_once(self, run: Run, plan: Plan, messages: Sequence[Message], caller: Caller) -> Run:
        run, is_new = await self.store.start(run, caller)
        if is_new:
            # Who asks anew in a thread has left what nobody there watches any more.
            for live in self._live.values() if run.thread_id else ():
                if (live.run.owner, live.run.thread_id) == (run.owner, run.thread_id) and live.is_left:
                    live.loop.stop(Outcome.STOPPED)
            self._launch(run, plan, messages, unwatched=caller.unwatched)
        return run

    async def decide(
        self, run: Run, decisions: Sequence[Decision], run_id: str, caller: Caller = NOBODY, wire: Any = None
    ) -> tuple[Run, str]:
        """Note what was decided on open calls of a paused run; when all are, the run goes on in another one.

        Returns the run and the id of that other one, empty while calls still wait. Deciding again what was decided
        changes nothing. Raises NotFound, Conflict, RequestError.
        """
        if run.next_run_id and set(decisions) <= {approval.decision for approval in run.approvals}:
            return run, run.next_run_id
        conversation = await self.store.get(run.owner, run.conversation_id) if run.conversation_id else None
        plan = self.plan(run.request | {"model": run.model}, conversation)  # whatever the default is by now
        self._need_room()
        body = run.request if wire is None else run.request | {"wire": wire}
        # It stays in its thread, by whatever wire it was decided.
        following = self._new_run(run.owner, run_id, plan, body, run.conversation_id, caller=caller)
        following = replace(following, thread_id=caller.thread_id or run.thread_id)
        work = self._decide(run, decisions, following, plan, caller.unwatched)
        return await _whole(work, self._beginning)

    async def go_on(
        self, paused: Run, broken: Run, run_id: str, caller: Caller = NOBODY, wire: Any = None
    ) -> Run | None:
        """Begin a run behind one that followed a pause and came to nothing: what was said and done until then stays.

        No tool is run again. None where it is not known any more what that was.
        """
        said = await self.events(broken)
        last = said[-1] if said else None
        if not isinstance(last, events.RunFinished | events.RunFailed):
            return None
        history = [*messages_from_json(paused.request.get("messages", [])), *last.messages]
        body = paused.request | {"model": paused.model, "wire": wire}
        return await self.ask_once(paused.owner, body, history, run_id, caller)

    async def _decide(
        self, run: Run, decisions: Sequence[Decision], following: Run, plan: Plan, unwatched: float | None
    ) -> tuple[Run, str]:
        kept = run.request.get("messages", [])
        run, next_id, is_new = await self.store.decide(run.owner, run.id, decisions, following, time.time())
        if is_new:
            following = await self._now(following)
            history = await self._history(following) if run.conversation_id else messages_from_json(kept)
            self._launch(following, plan, history, [_answer(approval) for approval in run.approvals], unwatched)
        return run, next_id

    def _new_run(
        self,
        owner: str,
        run_id: str,
        plan: Plan,
        body: dict[str, Any],
        conversation_id: str = "",
        turn_id: str = "",
        caller: Caller = NOBODY,
    ) -> Run:
        return Run(
            id=run_id,
            owner=owner,
            conversation_id=conversation_id,
            thread_id=caller.thread_id,
            turn_id=turn_id or caller.turn_id,
            digest=caller.digest,
            message_id=new_id("msg"),
            model=f"{plan.provider.name}:{plan.model}",
            request={name: body[name] for name in _KEPT if name in body},
            process=self._database.process,
            created_at=time.time(),
        )

    async def _history(self, run: Run) -> list[Message]:
        return [node.message for node in await self.store.path(run.conversation_id, run.parent_id)]

    def _launch(
        self,
        run: Run,
        plan: Plan,
        messages: Sequence[Message],
        answers: Sequence[Answer] = (),
        unwatched: float | None = None,
    ) -> None:
        if unwatched is None:
            unwatched = self._config.orphan_after if run.conversation_id else self._config.linger
        note = None
        if self._recorder is not None:
            tape = self._recorder.begin(started(run), plan.provider, messages, plan.toolbox, plan.settings, answers)
            plan, note = replace(plan, provider=tape.provider), tape.note
        queued = None
        if self._places is not None:
            queued = Queued(plan.provider, self._places)
            plan = replace(plan, provider=queued)
        live = self._live[run.id] = LiveRun(run, plan, messages, answers, self.log, self._end, unwatched, note)
        live.task.add_done_callback(lambda task: self._live.pop(run.id, None))
        if queued is not None:
            queued.tell = live.loop.emit
            live.task.add_done_callback(queued.leave)

    def _need_sight(self, plan: Plan, asked: Sequence[Message]) -> None:
        """Raise RequestError where a model that cannot see is asked about an image."""
        has_image = any(isinstance(part, Image) for message in asked for part in message.parts)
        if not has_image or plan.provider.info(plan.model).images:
            return
        seeing = [f"{each.provider}:{each.name}" for each in self.models.offered() if each.images and not each.reason]
        hint = f"these of this server can: {', '.join(seeing)}" if seeing else "no model of this server can"
        raise errors.RequestError(f"model: {plan.provider.name}:{plan.model} cannot take images; {hint}")

    def _need_room(self) -> None:
        if self._is_closing:
            raise errors.Unavailable("this server is stopping: ask again in a moment")
        most, waiting = self._config.max_runs, self._config.max_queue
        if most and len(self._live) + sum(not task.done() for task in self._beginning) >= most + waiting:
            raise errors.Busy(f"this server writes {most} answers at once, and {waiting} wait: ask again in a moment")

    # --- watching and stopping ----------------------------------------------------------------------------------------

    async def tell(self, run: Run, after: int, show: Show) -> None:
        """Hand `show` the events of a run behind number `after`, to its last; cancel it to leave."""
        has_ended = bool(run.outcome)
        told = -math.inf
        while True:
            if live := self._live.get(run.id):
                return await live.tell(after, show)
            if not has_ended and (now := self.store.clock()) - told > _TELL:
                told = now
                await self.store.watch(run.id, now + 3 * _TELL)
            if entries := await self._read(run.id, after, AT_ONCE):
                if (wait := show(entries)) is not None:
                    await wait
                after = entries[-1][0]
                if is_last(entries[-1][1]):
                    return
            elif has_ended:
                return
            else:
                has_ended = bool((await self._now(run)).outcome)
                await asyncio.sleep(0 if has_ended else _POLL)

    async def events(self, run: Run) -> list[Event]:
        """Return all events of a run once it has ended."""
        said: list[Event] = []
        await self.tell(run, 0, lambda entries: said.extend(event for _, event in entries))
        return said

    async def knows(self, run: Run, number: int) -> bool:
        """Return whether the log has event `number` of a run: whether a viewer can go on behind it."""
        entries = await self._read(run.id, number - 1, 1)
        return bool(entries) and entries[0][0] == number

    async def _now(self, run: Run) -> Run:
        """Return what is known of a run by now, its conversation being deleted or not."""
        return await self.store.run(run.owner, run.id, deleted=True)

    async def _read(self, run_id: str, after: int, limit: int = 1000) -> Sequence[Entry]:
        try:
            return await self.log.read(run_id, after, limit)
        except errors.NotFound:
            return []

    async def stop(self, run: Run) -> dict[str, Any]:
        """End a run now, and return the receipt once it has ended; one that had ended keeps its outcome."""
        closed = None
        is_elsewhere = False
        if run.id not in self._live and self._beginning:
            await asyncio.wait(self._beginning)  # of which it may be one
        if live := self._live.get(run.id):
            live.loop.stop(Outcome.STOPPED)
            await asyncio.wait([live.task])
            closed = live.loop.upstream_closed
        elif not (await self._now(run)).outcome:
            is_elsewhere = await self._stop_elsewhere(run)
            await self._settle(run)
        ended = await self._now(run)
        usage = ended.ending.get("usage", {})
        return {
            "stopped": (live is not None or is_elsewhere) and ended.outcome == Outcome.STOPPED,
            "outcome": ended.outcome,
            "upstreamClosedMs": None if closed is None else round(closed * 1000, 1),
            "usage": usage,
            "estimated": usage.get("estimated", False),
        }

    async def _stop_elsewhere(self, run: Run) -> bool:
        """Have a run stopped by the process that writes it; return False where that is dead."""
        if run.process == self._database.process or not self._database.is_alive(run.process):
            return False
        await self.store.want_stop(run.id)
        end = time.monotonic() + _PATIENCE
        while not (await self._now(run)).outcome:
            if not self._database.is_alive(run.process):
                return False
            if time.monotonic() > end:
                raise errors.Conflict("the process of the server that writes this answer does not stop it")
            await asyncio.sleep(_POLL / 2)
        return True

    async def _listen(self) -> None:
        """Do what other processes want of the runs that are written here: a viewer may come by way of any of them."""
        while True:
            await asyncio.sleep(_LISTEN)
            try:
                wishes = await self.store.wishes(self._database.process) if self._live else {}
            except errors.StorageError as error:
                log.error("what other processes want cannot be read: %s", error.for_log)
                continue
            for run_id, (until, is_unwanted) in wishes.items():
                live = self._live.get(run_id)
                if live and is_unwanted:
                    live.loop.stop(Outcome.STOPPED)
                elif live and (rest := until - self.store.clock()) > 0:
                    live.watch_elsewhere(rest)

    async def delete(self, owner: str, conversation_id: str) -> None:
        """Let a conversation be gone, and stop what is being written in it. Raises NotFound."""
        await _whole(self._delete(owner, conversation_id), self._deleting)

    async def _delete(self, owner: str, conversation_id: str) -> None:
        for run in await self.store.delete(owner, conversation_id):
            with suppress(errors.Conflict):  # its process hangs, and has been told for when it goes on
                await self.stop(run)

    # --- ending -------------------------------------------------------------------------------------------------------

    async def _end(
        self, run: Run, last: Event, told: Sequence[Kept], history: Sequence[Message], watched: bool = False
    ) -> None:
        """Keep what came of a run: `history` is all that the model knows, for a stateless one that goes on."""
        assert isinstance(last, events.RunFinished | events.RunFailed)
        asked = [each for each in told if isinstance(each, events.ApprovalRequested)]
        notices = [notice_to_json(each) for each in told if isinstance(each, events.Notice) and each.is_lasting]
        durations = {each.call_id: each.duration_ms for each in told if isinstance(each, events.ToolFinished)}
        ending: dict[str, Any] = {"usage": usage_to_json(last.usage), "notices": notices, "watched": watched}
        ending |= timing_to_json(last.timing) | {"toolDurations": durations}
        if isinstance(last, events.RunFinished):
            outcome = str(last.outcome)
            ending["finishReason"] = str(last.finish_reason)
        else:
            outcome = "failed"
            ending["error"] = {"code": last.code, "message": last.message, "retryable": last.retryable}
            ending["error"] |= {"details": last.details} if last.details else {}
        approvals: list[Approval] = []
        request = None
        # Without the messages that the model knows, as after a crash, nothing can go on.
        if outcome == Outcome.PAUSED and (run.conversation_id or history):
            expires = time.time() + self._config.approve_within
            approvals = [Approval(each.call_id, each.name, each.input, each.by_caller, expires) for each in asked]
            if not run.conversation_id:
                request = run.request | {"messages": [message_to_json(message) for message in history]}
        await self.store.end(run.id, outcome, ending, last.messages, approvals, request)

    async def _settle(self, run: Run) -> None:
        """End a run whose process died: with the end that its log has, or `interrupted`."""
        async with self._settling:
            run = await self._now(run)
            mine = self._database.process
            is_free = run.process == mine or not self._database.is_alive(run.process)
            if not run.outcome and is_free and (run.process == mine or await self.store.claim(run, mine)):
                await self._finish(run)

    async def _finish(self, run: Run) -> None:
        """Write the end of a run that nobody writes any more."""
        remains, number = Remains(), 0
        told: list[Kept] = []
        last: Event | None = None
        try:
            while entries := await self._read(run.id, number):
                for _, last in entries:
                    remains.add(last)
                    told += [last] if isinstance(last, Kept) else []
                number = entries[-1][0]
        except Exception:
            log.exception("%s: its log cannot be read behind event %d; what is in front of it is kept", run.id, number)
        if last is None:
            await self.log.append(run.id, 1, [started(run)])
            number = 1
        if last is None or not is_last(last):
            history = await self._history(run) if run.conversation_id else []
            closing = remains.close(length(history))
            await self.log.append(run.id, number + 1, closing)
            last = closing[-1]
        await self._end(run, last, told, [])
        log.info("%s was left unfinished and is settled: %s", run.id, getattr(last, "outcome", "failed"))

    async def sweep(self) -> None:
        """Settle what dead processes left, and let go of what is too old."""
        now = time.time()
        for run in await self.store.running():
            is_lost = run.process == self._database.process and run.created_at < now - SWEEP and not self._beginning
            if run.id not in self._live and (is_lost or not self._database.is_alive(run.process)):
                try:
                    await self._settle(run)
                except errors.NotFound:
                    pass  # deleted meanwhile
                except Exception:
                    log.exception("%s cannot be settled", run.id)
        await self.store.expire_approvals(now)
        await self._purge()
        if self._is_unclean:
            self._is_unclean = not await self._database.checkpoint()
        if old := await self.store.expired(now - self._config.keep_runs):
            await self.log.delete(old)
            await self.store.note_deleted(old)

    async def _purge(self) -> None:
        """Delete for good what nobody can have back any more."""
        ids, run_ids = await self.store.lost()
        if ids:
            # The logs first: a crash in between must not leave one that no run names any more.
            await self.log.delete(run_ids)
            await self.store.purge(ids)
            self._is_unclean = True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            try:
                await self.sweep()
            except errors.ChatstreamError as error:
                log.error("tidying up failed: %s", error.for_log)
            except Exception:
                log.exception("tidying up failed")


async def _whole(work: Coroutine[Any, Any, T], tasks: set[asyncio.Task[Any]]) -> T:
    """Do `work` to its end even where whoever asked for it leaves: half begun, a run would be nobody's."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return await asyncio.shield(task)


def _answer(approval: Approval) -> Answer:
    call = ToolCall(approval.call_id, approval.name, approval.input, orjson.dumps(approval.input).decode())
    return Answer(call, approval.result)
