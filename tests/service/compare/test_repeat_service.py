"""Repeating a turn over scripted engines: seeds, bounded concurrency, failures, stopping, and what is kept of each."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import pytest

from components.compare.repeat import AT_ONCE
from components.compare.repeat_request import RepeatWish
from components.core.answers import Sampling
from components.core.errors import AppError, EngineNotReadyError, InputError, RecordNotFoundError
from components.core.repeats import Repeat
from components.core.states import Outcome, RepeatState
from tests.service.compare.scene import KEY, SIDES, Scene

pytestmark = pytest.mark.service


async def test_the_same_question_goes_out_with_its_own_seeds(scene: Scene) -> None:
    trace_id = await scene.ask()
    scene.script("base", seeded=("seven", "seven ", "eight"))
    scene.script("slow", seeded=("seven", "eight", "eight"))
    ended = await scene.repeat(trace_id, n=6, temperature=0.7)
    assert ended.state is RepeatState.FINISHED
    assert [s.text.strip() for s in ended.columns[0].samples] == ["seven", "eight", "seven", "seven", "eight", "seven"]
    assert [s.seed for s in ended.columns[1].samples] == list(range(100, 106))
    assert all(s.output_tokens and s.e2el_ms for s in ended.columns[0].samples)
    for side in SIDES:
        bodies = scene.requests(side)
        assert sorted(body["seed"] for body in bodies) == list(range(100, 106))
        for body in bodies:
            asked = (body["temperature"], body["max_tokens"], body["stop"])
            assert asked == (0.7, 50, ["x"])
            assert [message["content"] for message in body["messages"]] == ["Brief.", "How many?"]
            assert "logprobs" not in body
    assert scene.records.of_turn(trace_id) == [ended]


async def test_a_turn_is_repeated_as_it_was_asked_also_after_a_restart(scene: Scene) -> None:
    trace_id = await scene.ask(Sampling(temperature=0.0))
    scene.turns._live.clear()
    assert await scene.service.asked_with(trace_id) == (0.0, 0)
    ended = await scene.repeat(trace_id, n=2)
    assert [column.sampling.temperature for column in ended.columns] == [0.0, 0.0]
    assert ended.first_seed == 0


async def test_only_a_few_requests_are_open_at_once(scene: Scene) -> None:
    trace_id = await scene.ask()
    scene.script("base", ttft_s=0.05)
    most = 0
    async with aclosing(scene.service.run(trace_id, RepeatWish(12), visitor=False)) as progresses:
        second = asyncio.create_task(scene.repeat(trace_id, n=12))
        async for _ in progresses:
            most = max(most, scene.fakes["base"].open_streams)
            await asyncio.sleep(0.01)
        assert (await second).state is RepeatState.FINISHED
    assert 0 < most <= AT_ONCE
    assert len(scene.records.of_turn(trace_id)) == 2


async def test_a_failed_sample_is_named_and_the_others_go_on(scene: Scene) -> None:
    trace_id = await scene.ask()
    scene.script("slow", failing_seeds=(101, 103))
    ended = await scene.repeat(trace_id, n=5)
    assert ended.state is RepeatState.FINISHED, "every sample was asked for and has ended"
    assert [s.outcome for s in ended.columns[1].samples] == [
        Outcome.FINISHED, Outcome.FAILED, Outcome.FINISHED, Outcome.FAILED, Outcome.FINISHED,
    ]  # fmt: skip
    assert all(sample.error and sample.error.message for sample in ended.columns[1].failures)
    assert len(ended.columns[0].answers) == 5


async def test_f01_cut_streams_are_no_answers(scene: Scene) -> None:
    trace_id = await scene.ask()
    scene.script("slow", mode="abort")
    ended = await scene.repeat(trace_id, n=3)
    assert {sample.outcome for sample in ended.columns[1].samples} == {Outcome.TRUNCATED}
    assert ended.columns[1].answers == ()
    assert ended.columns[1].samples[0].text


async def test_an_engine_that_ends_in_between_leaves_a_partial_record(scene: Scene) -> None:
    trace_id = await scene.ask()
    scene.script("slow", ttft_s=0.3)
    ended: Repeat | None = None
    async with aclosing(scene.service.run(trace_id, RepeatWish(64), visitor=False)) as progresses:
        async for progress in progresses:
            ended = progress.repeat
            if len(ended.columns[1].samples) >= 4 and scene.servers[1].is_serving():
                scene.servers[1].close()
                (scene.folder / "slow.sock").unlink(missing_ok=True)
    assert ended is not None
    assert ended.state is RepeatState.INCOMPLETE
    assert len(ended.columns[0].answers) == 64, "the other engine's column is whole"
    assert 4 <= len(ended.columns[1].answers) < 64
    assert ended.columns[1].ended_early
    assert scene.records.of_turn(trace_id) == [ended]


async def wait_for_hits(scene: Scene, side: str, count: int) -> None:
    deadline = time.monotonic() + 10
    while scene.fakes[side].open_streams < count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def closed_within(scene: Scene, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(fake.open_streams for fake in scene.fakes.values()):
        assert time.monotonic() < deadline, "requests are still open"
        await asyncio.sleep(0.01)


async def test_stopping_closes_the_requests_and_keeps_what_has_ended(scene: Scene) -> None:
    trace_id = await scene.ask()
    scene.script("slow", ttft_s=0.2, itl_s=0.1, tokens=400)
    task = asyncio.create_task(scene.repeat(trace_id, n=8))
    await wait_for_hits(scene, "slow", AT_ONCE)
    (running,) = scene.records.of_turn(trace_id)
    assert running.state is RepeatState.RUNNING
    scene.service.halt("nobody")
    scene.service.halt(running.id)
    ended = await asyncio.wait_for(task, 2)
    await closed_within(scene, 2)
    assert ended.state is RepeatState.STOPPED
    assert ended.columns[1].samples == (), "a part of a sample is none"
    assert len(ended.columns[0].samples) <= 8
    assert scene.records.of_turn(trace_id) == [ended]


async def test_f61_a_closed_page_closes_the_requests(scene: Scene) -> None:
    trace_id = await scene.ask()
    scene.script("slow", ttft_s=0.1, itl_s=0.1, tokens=400)
    progresses = scene.service.run(trace_id, RepeatWish(8), visitor=True)
    await anext(progresses)
    await wait_for_hits(scene, "slow", 1)
    await progresses.aclose()
    await closed_within(scene, 2)
    (stored,) = scene.records.of_turn(trace_id)
    assert stored.state is RepeatState.STOPPED
    scene.script("slow", ttft_s=0.0, itl_s=0.0, tokens=3)
    assert (await scene.repeat(trace_id, visitor=True, n=2)).state is RepeatState.FINISHED, (
        "the visitors' place is free"
    )


async def test_visitors_take_turns(scene: Scene) -> None:
    trace_id = await scene.ask()
    scene.script("slow", ttft_s=0.5)
    first = asyncio.create_task(scene.repeat(trace_id, visitor=True, n=2))
    await wait_for_hits(scene, "slow", 1)
    with pytest.raises(InputError, match="Another visitor"):
        await scene.repeat(trace_id, visitor=True, n=2)
    assert (await scene.repeat(trace_id, n=2)).state is RepeatState.FINISHED
    assert (await first).state is RepeatState.FINISHED


async def test_what_can_not_be_repeated_says_why(scene: Scene) -> None:
    with pytest.raises(RecordNotFoundError, match="no turn"):
        await scene.repeat("nothing")
    trace_id = await scene.ask()
    await scene.hub.stop("scripted/slow")
    with pytest.raises(EngineNotReadyError, match="Slow is not running"):
        await scene.repeat(trace_id)
    assert scene.records.of_turn(trace_id) == []


async def test_a_turn_that_is_being_answered_is_left_alone(scene: Scene) -> None:
    scene.script("slow", ttft_s=0.5)
    task = asyncio.create_task(scene.ask())
    await wait_for_hits(scene, "slow", 1)
    with pytest.raises(AppError, match="still being answered"):
        await scene.repeat(KEY)
    await task
