"""lm-eval, in its own interpreter, asks a running engine over its socket: weighed choices and written answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.benchmark.spec import AccuracySettings
from components.benchmark.store import PieceStore
from components.benchmark.text_tasks import LOCAL_TASKS, TextTaskRun, compare_answers
from components.engines.serving import Served
from components.jobs.records import JobEvent
from tests.engine.serving import BASE, ROOT, Engines, client_of

pytestmark = [pytest.mark.engine, pytest.mark.long]


def run_of(folder: Path, events: list[JobEvent], *tasks: str) -> TextTaskRun:
    settings = AccuracySettings(lm_eval=tasks, items=4)
    return TextTaskRun(ROOT, folder / "state", folder / "work", PieceStore(folder / "store"), settings, events.append)


async def test_both_shapes_are_asked_and_kept_for_the_next_attempt(engines: Engines, tmp_path: Path) -> None:
    events: list[JobEvent] = []
    run = run_of(tmp_path, events, *LOCAL_TASKS)
    client = client_of(engines.base)
    served = Served(client, BASE, 2048, 0)
    told = await run.answers(served, "base")
    assert told["version"] == "0.4.13"
    shapes = [(one["name"], one["filter"], one["metric"], one["shots"], len(one["items"])) for one in told["sets"]]
    assert shapes == [
        ("diptych_choices", "none", "acc", 5, 4),
        ("diptych_sums", "strict-match", "exact_match", 2, 4),
        ("diptych_sums", "flexible-extract", "exact_match", 2, 4),
    ]
    for one in told["sets"]:
        assert one["value"] == pytest.approx(sum(row["score"] for row in one["items"]) / 4)
        assert one["stderr"] is not None
    choices = told["sets"][0]["items"]
    assert {row["answer"] for row in choices} <= set("ABCD")
    assert all((row["answer"] == row["expected"]) == bool(row["score"]) for row in choices)
    assert {(event.step, event.steps) for event in events if event.steps} >= {(0, 16), (0, 4)}  # four letters each
    await client.close()
    assert await run.answers(served, "base") == told  # nobody is asked again
    same = compare_answers(told, told)
    assert [one.name for one in same] == [
        "diptych_choices, 5-shot", "diptych_sums, 2-shot, strict-match", "diptych_sums, 2-shot, flexible-extract",
    ]  # fmt: skip
