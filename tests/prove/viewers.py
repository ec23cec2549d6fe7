"""R3, R4, R8, R12, R26: everybody sees every event once and in order, and what is asked many times is done once.

drops      five viewers of one run, each of which loses its connection at random and comes back
approvals  ten approvals of one call at once, also after a restart: the tool runs once
turns      the same turn twenty times at once, and again after a restart: one run, one request to the provider
leaving    three viewers leave, which changes nothing; one stop ends the run
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from chatstream.testing import Call, FakeProvider, Recorded, Turn

from .kills import check_requests, has_results
from .rig import (
    HANG,
    Client,
    Json,
    Program,
    Report,
    Viewer,
    all_frames,
    environment_of,
    run_in,
    turn_of,
    until,
    values,
)

VIEWERS, APPROVALS, ASKED = 5, 10, 20
SPEECH = " ".join(f"word{number}" for number in range(300))


def turn(recorded: Recorded) -> Turn:
    last = recorded.body["messages"][-1]
    said = str(last["content"])
    if has_results(last):
        return Turn(text="Done.")
    if "guarded" in said:
        return Turn(text="May I?", tools=[Call("guarded", {"key": said.rpartition("guarded ")[2].strip("'}] ")})])
    if "for ever" in said:
        return Turn(text=SPEECH * 100, delay=0.005, write=150)
    return Turn(text=SPEECH, delay=0.002, write=200)


async def prove(report: Report, folder: Path, count: int) -> None:
    """Do everything `count` times."""
    async with FakeProvider(turn) as fake:
        async with Program(folder, "--model", "openai-chat:fake", **environment_of(fake)) as program:
            proof = _Proof(program, fake)
            for number in range(count):
                for what in (proof.drops, proof.turns, proof.approvals, proof.leaving):
                    await what(number)
                    report.progress(f"round {number + 1}, {what.__name__}")
        check_requests(fake.requests)
    report.say(f"{proof.followed} viewers with {proof.connections} connections: each saw each event once and in order")
    report.say(f"{count} turns asked {ASKED} times at once, and again after a restart: {count} runs, {count} requests")
    report.say(f"{count} calls approved {APPROVALS} times at once, half of them after a restart: each tool ran once")
    report.say(f"{count} runs that three viewers left went on, and were ended by one stop; viewers were told once")


class _Proof:
    def __init__(self, program: Program, fake: FakeProvider) -> None:
        self.program = program
        self.fake = fake
        self.followed = self.connections = 0

    async def restart(self) -> None:
        await self.program.end()
        await self.program.start()

    async def drops(self, number: int) -> None:
        async with asyncio.timeout(HANG), Client(self.program.url) as client:
            conversation = await client.conversation()
            response = await client.ask(turn_of(conversation, "turn", "Speak."))
            run = response.headers["X-Run-Id"]
            asking = asyncio.create_task(all_frames(response))

            async def watch(seed: int) -> Viewer:
                draw, viewer = random.Random(seed), Viewer(client, run)
                while not viewer.has_ended:
                    await viewer.resume(draw.choice((1, 3, 20, 60, 200)))
                    await asyncio.sleep(draw.choice((0, 0, 0.01, 0.1)))
                return viewer

            viewers = await asyncio.gather(*(watch(number * VIEWERS + each) for each in range(VIEWERS)))
            whole = await asking
            assert [each for each, _ in whole] == list(range(1, len(whole) + 1))
            for viewer in viewers:
                assert viewer.seen == whole, "it saw something else than who never left"
            self.followed += VIEWERS
            self.connections += sum(viewer.connections for viewer in viewers)

    async def turns(self, number: int) -> None:
        before = len(self.fake.requests)
        async with Client(self.program.url) as client:
            body = turn_of(await client.conversation(), "turn", "Speak.")
            first = await self._ask_often(client, body)
        await self.restart()
        async with Client(self.program.url) as client:
            assert await self._ask_often(client, body) == first, "after the restart it is another run"
            status, _ = await client.post("/api/chat", body | {"message": "Another one."})
            assert status == 409
            tree = await client.tree(str(body["conversationId"]))
        assert (len(tree["runs"]), len(tree["messages"])) == (1, 2)
        assert len(self.fake.requests) == before + 1, "the provider was asked more than once"

    async def _ask_often(self, client: Client, body: Json) -> str:
        """Ask many times at once; every answer is the same, and so is its run, whose id is returned."""

        async def ask() -> Viewer:
            viewer = Viewer(client)
            await viewer.read(await client.ask(body))
            return viewer

        viewers = await asyncio.gather(*(ask() for _ in range(ASKED)))
        assert len({viewer.run for viewer in viewers}) == 1, "they are several runs"
        assert all(viewer.seen == viewers[0].seen and viewer.has_ended for viewer in viewers), (
            "they saw different things"
        )
        return viewers[0].run

    async def approvals(self, number: int) -> None:
        async with Client(self.program.url) as client:
            conversation = await client.conversation()
            asked = values(await all_frames(await client.ask(turn_of(conversation, "turn", f"guarded {number}"))))
            assert asked[-1]["outcome"] == "paused", asked[-1]
        if number % 2:
            await self.restart()
        before = len(self.fake.requests)
        async with Client(self.program.url) as client:
            run, call = asked[0]["runId"], next(each for each in asked if each["type"] == "approval")
            decisions = {"decisions": [{"toolCallId": call["toolCallId"], "decision": "approve"}]}
            path = f"/api/runs/{run}/approvals"
            answers = await asyncio.gather(*(client.post(path, decisions) for _ in range(APPROVALS)))
            assert {status for status, _ in answers} == {200}, answers
            following = {told["runId"] for _, told in answers}
            assert len(following) == 1, f"it goes on in {following}"
            told = values(await client.events(following.pop()))
            assert told[-1].get("outcome") == "completed", told[-1]
            status, _ = await client.post(path, {"decisions": [decisions["decisions"][0] | {"decision": "deny"}]})
            assert status == 409
        assert self.program.noted(f"guarded {number}") == 1, self.program.notes.read_text()
        assert len(self.fake.requests) == before + 1

    async def leaving(self, number: int) -> None:
        async with Client(self.program.url) as client:
            conversation = await client.conversation()
            viewer = Viewer(client)
            await viewer.read(await client.ask(turn_of(conversation, "turn", "for ever")), 5)
            for _ in range(2):
                await viewer.resume(5)
            asked = self.fake.requests[-1]
            sent = asked.sent
            await until(lambda: asked.sent > sent + 1000, "it goes on unwatched")
            assert run_in(await client.tree(conversation), viewer.run)["state"] == "running"
            watching = [asyncio.create_task(client.events(viewer.run)) for _ in range(2)]
            await asyncio.sleep(0.02)
            assert (await client.stop(viewer.run))["stopped"]
            for each in await asyncio.gather(*watching):
                ends = [value for value in values(each) if value["type"] in ("done", "error")]
                assert [end["outcome"] for end in ends] == ["stopped"]
            assert asked.left
