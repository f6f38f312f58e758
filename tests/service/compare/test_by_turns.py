"""Turns, repeats and a batch over two engines of which only one may be up: scripted answers behind real processes."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from components.compare.case import Wanted
from components.compare.request import Ask, ColumnRequest
from components.compare.scoring import ScoringService
from components.compare.turns import LiveTurn
from components.core.answers import Sampling
from components.core.errors import InputError
from components.core.reviews import BatchState, Question
from components.core.states import EngineState, Outcome, RepeatState
from components.engines.exact_scoring import ExactScorer
from components.engines.status import EngineSpec, LocalServer, Timeouts
from components.engines.supervisor import World
from components.jobs.launcher import find_members
from components.review.runner import BatchRunner
from components.storage.answer_records import score_records
from components.storage.reviews import ReviewRepository
from tests.data.reviews import batch
from tests.service.compare.scene import SIDES, Scene, now

pytestmark = pytest.mark.service
BASE, SLOW = "scripted/base", "scripted/slow"
STAND_IN = Path(__file__).parents[2] / "fakes" / "stand_in.py"
QUESTIONS = 12


@dataclass(frozen=True)
class Process:
    """Only there to be up or down; the answers come from the test's own server."""

    argv: tuple[str, ...] = (sys.executable, "-S", str(STAND_IN), "sleep")
    env: dict[str, str] = field(default_factory=dict)


class ByTurns(Scene):
    """Both engines behind processes of which one may be up, and all services over them."""

    def __init__(self, folder: Path) -> None:
        self.starts, self.most_up = 0, 0
        times = Timeouts(start_poll_s=0.02, term_timeout_s=0.2, kill_timeout_s=2.0)
        super().__init__(folder, World(cwd=folder, timeouts=times, stint_s=5.0))
        self.scoring = ScoringService(
            catalog=self.catalog, hub=self.hub, traces=self.traces, scores=score_records(self.database, self.blobs),
            exact=ExactScorer(folder / "exchange"), data_url=self.turns.data_url, now=now,
        )  # fmt: skip
        self.reviews = ReviewRepository(self.database)
        self.runner = BatchRunner(self.reviews, self.turns, self.scoring, self.catalog, self.hub)

    def _spec(self, side: str) -> EngineSpec:
        process = self._process(side)
        server = LocalServer(
            device="cpu", prepare=lambda _: "folder", command=self._command, socket=process, takes_turns=True,
            log=self.folder / f"{process.name}.log", start_timeout_s=10,
        )  # fmt: skip
        return replace(super()._spec(side), server=server)

    async def start(self) -> None:
        for side, fake in self.fakes.items():
            self.servers.append(await asyncio.start_unix_server(fake.handle, path=str(self.folder / f"{side}.sock")))
            await self.hub.start(f"scripted/{side}")

    def _process(self, side: str) -> Path:
        return self.folder / f"{side}.process"

    def _command(self, _: str) -> Process:
        self.starts += 1
        return Process()

    def look(self) -> None:
        up = sum(bool(find_members(str(self._process(side)))) for side in SIDES)
        self.most_up = max(self.most_up, up)

    async def watch(self) -> None:
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(0.02)

    async def begin(self, key: str = "ab") -> LiveTurn:
        columns = tuple(
            ColumnRequest(position=place, engine_id=name, sampling=Sampling(temperature=0.5, max_tokens=9))
            for place, name in enumerate((BASE, SLOW))
        )
        return await self.turns.begin(Ask(key=key * 16, prompt="How many?", system="", columns=columns))

    async def drain(self, live: LiveTurn) -> set[str]:
        waited: set[str] = set()

        async def one(place: int) -> None:
            async for snapshot in self.turns.stream(live, live.trace.answers[place].slot, lambda: 0.02):
                waited.add(snapshot.waiting)

        await asyncio.gather(one(0), one(1))
        return waited


@pytest.fixture
async def scene() -> AsyncIterator[ByTurns]:
    folder = Path(tempfile.mkdtemp(prefix="turns-", dir="/tmp"))  # a socket path must be short
    scene = ByTurns(folder)
    for side in SIDES:
        scene.script(side, tokens=4, itl_s=0.01)
    await scene.start()
    watching = asyncio.create_task(scene.watch())
    yield scene
    watching.cancel()
    await scene.close()
    shutil.rmtree(folder)
    assert scene.most_up == 1


async def test_a_turn_asks_one_column_after_the_other(scene: ByTurns) -> None:
    waited = await scene.drain(live := await scene.begin())
    assert [stored.answer.outcome for stored in live.trace.latest_answers] == [Outcome.FINISHED] * 2
    assert "Waits for its turn: base is answering" in waited
    assert scene.hub.status(BASE).is_asleep and scene.hub.status(SLOW).ready
    second = await scene.begin("cd")
    await scene.drain(second)
    assert scene.starts == 3, "the second turn began with the one that was awake"
    with pytest.raises(InputError, match="take turns"):
        await scene.scoring.score(await scene.scoring.find(second.trace.id, Wanted(method="stock")))


async def test_a_column_that_waits_is_stopped_at_once(scene: ByTurns) -> None:
    scene.script("base", tokens=4000)
    live = await scene.begin()
    draining = asyncio.create_task(scene.drain(live))
    async with asyncio.timeout(10):
        while not scene.hub.status(SLOW).message.startswith("Waits for its turn"):
            await asyncio.sleep(0.02)
    scene.turns.stop(live.trace.id, 1)
    async with asyncio.timeout(20):
        while live.trace.latest_answers[1].answer.outcome is Outcome.STREAMING:
            await asyncio.sleep(0.02)
    assert live.trace.latest_answers[1].answer.outcome is Outcome.STOPPED
    assert live.trace.latest_answers[0].answer.outcome is Outcome.STREAMING
    scene.turns.stop(live.trace.id)
    await draining
    assert scene.starts == 1, "nobody needed the other one any more"


async def test_a_turn_is_repeated_by_turns(scene: ByTurns) -> None:
    live = await scene.begin()
    await scene.drain(live)
    ended = await scene.repeat(live.trace.id, n=6)
    assert ended.state is RepeatState.FINISHED
    assert [len(column.samples) for column in ended.columns] == [6, 6]
    assert scene.starts <= 4, "all samples of one, then all of the other"


async def test_a_batch_changes_engines_a_few_times_and_not_for_every_question(scene: ByTurns) -> None:
    waiting = batch(pair="scripted", base_engine=BASE, candidate_engines=(SLOW,), state=BatchState.RUNNING)
    scene.reviews.add_batch(waiting, [Question(key=str(n), prompt=f"Question {n}?") for n in range(QUESTIONS)])
    running = asyncio.create_task(scene.runner.run())
    try:
        async with asyncio.timeout(60):
            while (found := scene.reviews.batch("b1")).state is BatchState.RUNNING:
                await asyncio.sleep(0.05)
    finally:
        running.cancel()
    progress = scene.reviews.progress("b1")
    assert (found.state, progress.answered, progress.failed) == (BatchState.SUCCEEDED, QUESTIONS, 0), found
    assert scene.starts <= 6, "answers and scores are asked for together"
    assert scene.hub.status(BASE).state in (EngineState.STOPPED, EngineState.RUNNING)
