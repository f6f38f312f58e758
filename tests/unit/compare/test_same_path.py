"""Which engine can be given an answer's token ids as they are."""

from __future__ import annotations

from typing import Any

import pytest

from components.compare.same_path import why_not_by_ids
from components.core.traces import Trace
from components.engines.catalog import Catalog, CatalogEntry
from components.engines.status import EngineStatus
from components.profiles.loader import load_pair
from tests.data.traces import MOMENT, answered_turn, image
from tests.running_app import ROOT


def entry(pair: str, **serve: Any) -> CatalogEntry:
    """The base of a pair, with other settings."""
    profile = load_pair(ROOT / "profiles", pair)
    profile = profile.model_copy(update={"serve": profile.serve.model_copy(update=serve)})
    return Catalog([profile]).find(f"{pair}/base")


def reason(of: CatalogEntry, trace: Trace, *parents: Trace) -> str:
    status = EngineStatus(engine_id=of.engine_id, since=MOMENT, engine_version="0.32.0")
    return why_not_by_ids(of, status, trace, parents, trace.answers[0])


def plain() -> Trace:
    return answered_turn("t2", images=(), parent_id=None)


def test_an_answer_with_ids_can_be_given() -> None:
    assert reason(entry("embedded"), plain()) == ""


def test_pictures_of_earlier_turns_are_a_part_of_the_prompt() -> None:
    hugging_face = entry("embedded", tokenizer_mode="hf")
    before = answered_turn("t1", images=(image(),), parent_id=None)
    assert reason(hugging_face, plain()) == ""
    assert "mistral tokenizer mode" in reason(hugging_face, plain(), before)
    assert reason(entry("embedded"), plain(), before) == ""


def test_several_gpus_keep_no_engine_from_going_on() -> None:
    """Only the exact method can't: see the scoring service."""
    spread = entry("pixtral-large-2411")
    assert spread.pair.serve_of(spread.model).tensor_parallel_size > 1
    assert reason(spread, plain()) == ""


@pytest.mark.parametrize(("version", "told"), [("0.33.0", "does not know"), (None, "")])
def test_a_version_that_is_not_known_is_named(version: str | None, told: str) -> None:
    of = entry("embedded")
    status = EngineStatus(engine_id=of.engine_id, since=MOMENT, engine_version=version)
    assert told in why_not_by_ids(of, status, plain(), (), plain().answers[0])
