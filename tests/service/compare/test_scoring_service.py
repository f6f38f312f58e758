"""What the scoring service makes of engines that fail or load: a score is never lost to its noise floor, or a queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from components.compare.case import Case, Wanted
from components.compare.scoring import precision_of
from components.core.errors import EngineDiedError, EngineStartError, InputError
from components.core.scores import Score, TokenScore
from components.engines.exact_scoring import ExactResult, PathTokens
from components.engines.transport import EngineClient
from components.services import Services
from tests.data.traces import MOMENT, answered_turn

pytestmark = pytest.mark.service
PATH = PathTokens((1, 2, 3), (4, 5))
CLIENT = EngineClient("e/base", url="http://127.0.0.1:9")


def result(alone: tuple[int, ...], in_company: tuple[int, ...], *, device: str = "cpu") -> ExactResult:
    kl = {"kl_base_to_candidate_nats": np.array([0.0, 0.01])}
    return ExactResult(kl, {}, "bfloat16", "float32", in_company, alone, device)


class Engines:
    """Stands for hub and exact scorer at once: engines that do as they are told, to inject faults."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes, self.asked = list(outcomes), 0
        self.waiting: asyncio.Event | None = None

    def status(self, _: str) -> Any:
        return SimpleNamespace(since=MOMENT, engine_version="0.32.0", ready=True)

    def takes_turns(self, _: str) -> bool:
        return False

    @asynccontextmanager
    async def use(self, *_: object) -> AsyncIterator[None]:
        assert self.waiting is not None
        await self.waiting.wait()
        yield

    def check_open(self) -> None:
        """Engines run here."""

    async def score_by_turns(self, base: Any, *_: object) -> None:
        async with base():
            raise AssertionError("an engine that loads was asked")

    async def floor(self, *_: object) -> ExactResult:
        self.asked += 1
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def with_engines(services: Services, engines: Engines) -> Services:
    services.scoring._exact = services.scoring._hub = engines  # type: ignore[assignment]
    return services


async def test_a_failed_floor_is_no_floor_and_is_tried_again(services: Services) -> None:
    engines = Engines(EngineDiedError("gone"), *[result((4,), (4,))] * 3, result((4,), (7,)))
    scoring = with_engines(services, engines).scoring
    assert await scoring._floor(CLIENT, "e/base", PATH) is None, "it died, the score stands"
    assert await scoring._floor(CLIENT, "e/base", PATH) is None, "never met in one step"
    found = await scoring._floor(CLIENT, "e/base", PATH)
    assert found is not None and found.batch_tokens == (4, 7) and found.max_nats == 0.01
    assert await scoring._floor(CLIENT, "e/base", PATH) == found
    assert engines.asked == 5, "measured once for each start of the engine"


async def test_a_long_prompt_has_a_floor_too(services: Services) -> None:
    """Its first step is as large as the engine's budget, whoever else is in it."""
    scoring = with_engines(services, Engines(result((2048, 500), (2048, 509)))).scoring
    found = await scoring._floor(CLIENT, "e/base", PATH)
    assert found is not None and found.batch_tokens == (500, 509)


async def test_a_floor_that_is_known_outlives_a_failed_second_one(services: Services) -> None:
    scoring = with_engines(services, Engines(result((4,), (7,)), EngineDiedError("gone"))).scoring
    first = await scoring._floor(CLIENT, "e/base", PATH)
    longer = PathTokens((1,), tuple(range(40)))
    assert await scoring._floor(CLIENT, "e/base", longer) == first


async def case_of(services: Services, wanted: Wanted) -> Case:
    services.traces.create_turn(answered_turn("t1", texts=("a",), images=(), parent_id=None))
    return await services.scoring.find("t1", wanted)


async def test_waiting_for_an_engine_keeps_nobody_else_from_scoring(services: Services) -> None:
    engines = Engines()
    engines.waiting = asyncio.Event()
    case = await case_of(with_engines(services, engines), Wanted(method="exact"))
    waiting = asyncio.create_task(services.scoring.score(case))
    await asyncio.sleep(0.1)
    assert not waiting.done() and not services.scoring._pass.locked()
    waiting.cancel()


async def test_an_engine_that_does_not_run_is_said_before_anything_is_scored(services: Services) -> None:
    with pytest.raises(EngineStartError):
        await services.scoring.score(await case_of(services, Wanted(method="exact")))


def score_by(method: str, score_id: str, case: Case) -> Score:
    return Score(
        id=score_id, trace_id="t1", answer_id=case.stored.slot.id, path="base", base_engine=case.base.engine_id,
        candidate_engine=case.candidate.engine_id, method=method, precision="", created_at=MOMENT,
        tokens=(TokenScore(token_id=1, text="a"),), seconds=0.1,
    )  # type: ignore[arg-type]  # fmt: skip


async def test_a_score_by_the_usual_method_goes_before_a_newer_one_by_another(services: Services) -> None:
    case = await case_of(services, Wanted())
    assert await services.scoring.stored(case) is None
    services.scores.add(score_by("top_k", "s1", case))
    stored = await services.scoring.stored(case)
    assert stored is not None and stored.id == "s1", "better than none"
    services.scores.add(score_by("exact", "s2", case))
    services.scores.add(score_by("top_k", "s3", case))
    stored = await services.scoring.stored(case)
    assert stored is not None and stored.id == "s2"


async def test_what_base_and_candidate_read_differently_is_refused(services: Services) -> None:
    case = await case_of(services, Wanted(method="top_k"))
    other = case.stored.model_copy(update={"answer": case.stored.answer.model_copy(update={"prompt_token_ids": (9,)})})
    with pytest.raises(InputError, match="turned the same prompt or pictures into different tokens"):
        await services.scoring.score(Case(case.trace, (), case.stored, other, case.base, case.candidate, case.wanted))


def test_what_only_a_gpu_computes_is_said_to_be_untried() -> None:
    assert "not yet tried on a GPU" in precision_of(result((1,), (1,), device="cuda"))
    assert "GPU" not in precision_of(result((1,), (1,)))


async def test_engines_over_several_gpus_are_scored_by_top_k(services: Services) -> None:
    case = await case_of(services, Wanted())
    base, candidate = (services.catalog.find(f"pixtral-large-2411/{name}") for name in ("base", "w4a16"))
    spread = replace(case, base=base, candidate=candidate)
    engines = Engines()
    with_engines(services, engines)
    assert services.scoring._method(case) == "exact"
    assert services.scoring._method(spread) == "top_k"
    with pytest.raises(InputError, match="spread over several GPUs"):
        services.scoring.check_exact(spread)
