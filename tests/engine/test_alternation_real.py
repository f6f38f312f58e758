"""Two real engines of which only one may be up: a turn is answered by both and scored, in the memory of one."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import suppress

import psutil
import pytest

from components.compare.case import Wanted
from components.compare.request import Ask, ColumnRequest
from components.core.answers import Sampling
from components.core.states import EngineState, Outcome, Sight
from components.jobs.launcher import find_members
from components.services import Services, build_services
from components.settings import Settings
from tests.running_app import EMBEDDED, ROOT, new_state_dir

pytestmark = [
    pytest.mark.engine,
    pytest.mark.long,
    pytest.mark.skipif(not EMBEDDED.exists(), reason="the embedded pair is not built"),
]
BASE, CANDIDATE = "embedded/base", "embedded/w4a16"
READY_LIMIT_S = 400.0
GIB = 2**30
LIMIT_BYTES = 3 * GIB  # one engine takes 2.5: what its four processes share is counted four times


class Watch:
    """What the engines' process groups take together, sampled all the time."""

    def __init__(self, services: Services) -> None:
        run = services.settings.state_dir / "run"
        self._sockets = [run / f"{name.replace('/', '--')}.sock" for name in (BASE, CANDIDATE)]
        self.most_bytes, self.most_engines, self.samples = 0, 0, 0

    def resident_bytes(self) -> int:
        """Now, of both together."""
        groups = [find_members(str(socket)) for socket in self._sockets]
        total = 0
        for pid in (pid for group in groups for pid in group):
            with suppress(psutil.Error):
                total += psutil.Process(pid).memory_info().rss
        self.most_bytes, self.most_engines = max(self.most_bytes, total), max(self.most_engines, sum(map(bool, groups)))
        self.samples += 1
        return total

    async def keep(self) -> None:
        while True:
            await asyncio.to_thread(self.resident_bytes)
            await asyncio.sleep(0.2)


async def test_a_turn_is_answered_and_scored_by_both_in_the_memory_of_one() -> None:
    state = new_state_dir()
    services = build_services(Settings(state_dir=state, placement="alternately", start_engines=False))
    watch = Watch(services)
    # A machine with so much memory that a second engine would be refused.
    services.hub.book._free_memory_bytes = lambda: LIMIT_BYTES - watch.resident_bytes()
    watching = asyncio.create_task(watch.keep())
    began = time.monotonic()
    try:
        for name in (CANDIDATE, BASE):
            await services.hub.start(name)
        waited = await _ask(services)
        print(f"answered by both after {time.monotonic() - began:.0f} s")
        assert any(words == "Waits for its turn: w4a16 is answering" for words in waited), waited
        case = await services.scoring.find("ab" * 16, Wanted(method="exact"))
        assert not services.scoring.is_ready(case) and services.scoring.by_turns(case)
        score = await services.scoring.score(case)
        print(f"scored after {time.monotonic() - began:.0f} s, {score.seconds:.1f} s of them in the engines")
        assert score.method == "exact" and score.floor is not None
        assert all(token.kl_base_to_candidate_nats is not None for token in score.tokens)
        assert services.hub.status(CANDIDATE).sight is Sight.SEES, "of its first start: it was not asked again"
        assert services.hub.status(BASE).is_asleep and services.hub.status(BASE).state is EngineState.STOPPED
    finally:
        watching.cancel()
        await services.hub.close()
        services.close()
        shutil.rmtree(state)
    print(f"{watch.samples} samples, at most {watch.most_bytes / GIB:.2f} GiB of {LIMIT_BYTES / GIB:.2f} GiB")
    assert watch.most_engines == 1
    assert GIB < watch.most_bytes <= LIMIT_BYTES
    assert watch.most_bytes + services.hub._engines[BASE].spec.server.memory_bytes > LIMIT_BYTES  # type: ignore[union-attr]


async def _stop_while_it_waits(services: Services, column: ColumnRequest) -> None:
    """Another visitor asks the sleeping engine and gives up at once."""
    live = await services.turns.begin(Ask(key="cd" * 16, prompt="Hello?", system="", columns=(column,)))
    async for snapshot in services.turns.stream(live, live.trace.answers[0].slot, lambda: 0.05):
        if snapshot.waiting:
            services.turns.stop(live.trace.id)
    assert live.trace.latest_answers[0].answer.outcome is Outcome.STOPPED


async def _ask(services: Services) -> set[str]:
    """One turn with a picture over both; the words its columns waited with."""
    picture = services.images.ingest(ROOT / "assets" / "samples" / "where-is-the-star.png", "star.png")
    columns = tuple(
        ColumnRequest(position=place, engine_id=name, sampling=Sampling(temperature=0.0, max_tokens=32))
        for place, name in enumerate((BASE, CANDIDATE))
    )
    await services.hub.wait_ready(CANDIDATE, READY_LIMIT_S)
    live = await services.turns.begin(
        Ask(key="ab" * 16, prompt="Where is the purple star?", system="", images=(picture,), columns=columns)
    )
    waited: set[str] = set()

    async def drain(place: int) -> None:
        async for snapshot in services.turns.stream(live, live.trace.answers[place].slot, lambda: 0.05):
            waited.add(snapshot.waiting)

    await asyncio.gather(drain(1), drain(0), _stop_while_it_waits(services, columns[0]))
    for stored in live.trace.latest_answers:
        assert stored.answer.outcome is Outcome.FINISHED, stored.answer.error
        assert stored.answer.text
    return waited
