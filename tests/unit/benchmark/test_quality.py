"""The quality run around its scorer: a run that was ended goes on where it was, and nothing is scored twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.benchmark import quality
from components.benchmark.quality import QualityRun
from components.benchmark.quality_records import add_generation, add_quality
from components.benchmark.recorder import Recorder
from components.benchmark.spec import QualitySettings, TextCorpus
from components.benchmark.store import PieceStore
from components.benchmark.tables import COLUMNS
from components.benchmark.tokens import TextTokenizer
from components.core.errors import EngineDiedError, InputError
from components.engines.exact_scoring import ExactResult, PathTokens
from components.engines.serving import Served
from tests.unit.benchmark.test_tables import scored

TOKENIZER = TextTokenizer(
    encode=lambda text: [ord(char) for char in text], piece=chr, bos=1, eos=2, name="characters"
)  # fmt: skip


class Scorer:
    """In place of two engines: statistics of the right size; breaks when it is told to."""

    def __init__(self, dies_after: int | None = None) -> None:
        self.paths: list[PathTokens] = []
        self._left = dies_after

    async def score(self, _base: Any, _candidate: Any, path: PathTokens) -> ExactResult:
        if self._left is not None and len(self.paths) >= self._left:
            raise EngineDiedError("The engine ended.")
        self.paths.append(path)
        return scored(tokens=len(path.answer_ids), seed=path.answer_ids[0])[3]

    async def floor(self, _base: Any, path: PathTokens) -> ExactResult:
        return scored(tokens=len(path.answer_ids), noise=1e-4)[3]


def run_of(scorer: Scorer, folder: Path, chunks: int = 6, length: int = 2048) -> QualityRun:
    served = Served(None, folder, length, 0)  # type: ignore[arg-type]
    settings = QualitySettings(chunks=chunks, floor_chunks=2, draws=100)
    tell = lambda *_: None  # noqa: E731
    return QualityRun(served, served, scorer, TOKENIZER, settings, PieceStore(folder / "work"), folder, tell)  # type: ignore[arg-type]


@pytest.fixture
def corpus(tmp_path: Path) -> TextCorpus:
    file = tmp_path / "text.txt"
    file.write_text("".join(chr(97 + index % 26) for index in range(512 * 8)), encoding="utf-8")
    return TextCorpus(name="letters", file=str(file), convention="llama.cpp-512")


async def test_a_second_attempt_scores_only_what_is_missing(tmp_path: Path, corpus: TextCorpus) -> None:
    broken = Scorer(dies_after=3)
    with pytest.raises(EngineDiedError):  # as itself: the job's reason is its message
        await run_of(broken, tmp_path).text(corpus)
    again = Scorer()
    found = await run_of(again, tmp_path).text(corpus)
    assert len(broken.paths) == 3
    assert 3 <= len(again.paths) <= 4, "one may have been scored, but not yet kept"
    assert [group.shape for group in found.groups] == [(255, len(COLUMNS))] * 6
    assert len({path.answer_ids for path in (*broken.paths, *again.paths)}) <= 6


async def test_a_damaged_piece_is_scored_again(tmp_path: Path, corpus: TextCorpus) -> None:
    await run_of(Scorer(), tmp_path).text(corpus)
    next(iter(sorted((tmp_path / "work").glob("*.npy")))).write_bytes(b"half")
    again = Scorer()
    await run_of(again, tmp_path).text(corpus)
    assert len(again.paths) == 1


async def test_what_is_scored_is_llama_cpps_window(tmp_path: Path, corpus: TextCorpus) -> None:
    scorer = Scorer()
    await run_of(scorer, tmp_path, chunks=2).text(corpus)
    for path in scorer.paths:
        assert (len(path.prompt_ids), len(path.answer_ids), path.prompt_ids[0]) == (257, 255, 1)


async def test_chunks_that_do_not_fit_the_engines_are_refused_by_field(tmp_path: Path, corpus: TextCorpus) -> None:
    with pytest.raises(InputError) as caught:
        await run_of(Scorer(), tmp_path, length=256).text(corpus)
    assert caught.value.field == "overrides.convention"


async def test_records_carry_interval_floor_and_the_texts_hash(tmp_path: Path, corpus: TextCorpus) -> None:
    found = await run_of(Scorer(), tmp_path).text(corpus)
    recorder = Recorder("benchmark-1", {"vllm": "vllm 0"})
    add_quality(recorder, found, "p/w4", "p/base", "W4A16", 100, TOKENIZER.piece)
    by = {record.metric: record for record in recorder.records}
    kl = by["mean_kl_base_to_candidate_nats"]
    assert kl.n == 6 * 255
    assert kl.low is not None and kl.high is not None and kl.value is not None and kl.floor is not None
    assert kl.low < kl.value < kl.high
    assert kl.floor < kl.low
    assert kl.details["text_sha256"] == found.text_sha256
    assert kl.details["vllm"] == "vllm 0"
    assert np.isclose(kl.value, np.concatenate(found.groups)[:, 0].mean())
    assert by["kl_histogram"].value is None
    assert by["kl_histogram"].details["curve"]


async def test_an_agreement_of_all_tokens_has_the_interval_that_so_many_allow(
    tmp_path: Path, corpus: TextCorpus
) -> None:
    found = await run_of(Scorer(), tmp_path).text(corpus)
    for group in found.groups:
        group[:, COLUMNS.index("same_top")] = 1.0
    recorder = Recorder("benchmark-1", {})
    add_quality(recorder, found, "p/w4", "p/base", "W4A16", 100, TOKENIZER.piece)
    agreed = next(r for r in recorder.records if r.metric == "same_top_p_percent")
    assert (agreed.value, agreed.high) == (100.0, 100.0)
    assert agreed.low == pytest.approx(100 / (1 + 1.959964**2 / agreed.n), rel=1e-6)  # Wilson's, of no misses
    assert "Wilson" in agreed.interval


async def test_generation_is_scored_greedy_and_drawn_and_goes_on_where_it_was(
    tmp_path: Path, corpus: TextCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int | None]] = []

    async def continued(served: Served, prompt: tuple[int, ...], steps: int, seed: int | None) -> tuple[int, ...]:
        name = "base" if served is run.base else "candidate"
        asked.append((name, seed))
        at = 5 if seed is None else 2 + seed  # where the candidate goes its own way
        return tuple(99 if name == "candidate" and step >= at else 10 + step for step in range(steps))

    monkeypatch.setattr(quality, "continued_ids", continued)
    run = run_of(Scorer(), tmp_path)
    run.candidate = Served(None, tmp_path, 2048, 1)  # type: ignore[arg-type]
    run.settings = QualitySettings(prompts=3, steps=8, draws=100)
    found = await run.generation(corpus, 64)
    assert found.first_forks == [5, 5, 5]
    assert found.sampled_forks == [2, 3, 4]
    assert found.kl_nats.shape == found.sampled_kl_nats.shape == (3, 8)
    assert {seed for _, seed in asked} == {None, 0, 1, 2}, "both draw with the prompt's own seed"

    asked.clear()
    again = await run.generation(corpus, 64)
    assert asked == []
    np.testing.assert_array_equal(again.sampled_kl_nats, found.sampled_kl_nats)

    recorder = Recorder("benchmark-1")
    add_generation(recorder, found, "p/w4", "p/base", "W4A16", 100)
    by = {record.metric: record for record in recorder.records}
    drawn = by["free_sampled_answers_alike_percent"]
    assert drawn.value == 0
    assert drawn.details["survival"] == pytest.approx([1, 1, 2 / 3, 1 / 3, 0, 0, 0, 0])
    assert by["sequence_kl_base_to_candidate_nats"].value == pytest.approx(found.sampled_kl_nats.sum(axis=1).mean())
    assert by["sequence_kl_base_to_candidate_nats"].low is not None
