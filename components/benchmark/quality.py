"""Perplexity and KL of texts, questions and generated tokens: exact, over the whole vocabulary, piece by piece.

Base and candidate are two servers of ours. Hidden states travel through the exchange folder, a chunk at a time, so that
memory does not grow with the corpus; what is kept of each token are a few numbers.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from components.benchmark.corpora import Chunk, Text, cut, find_convention, joined_rows, read_text, wikitext, windows
from components.benchmark.kl_base_file import check_room, read_kl_base, write_kl_base
from components.benchmark.rows import messages_of, read_items
from components.benchmark.spec import QualitySettings, QuestionCorpus, TextCorpus
from components.benchmark.store import PieceStore
from components.benchmark.tables import rows_to_table, to_table
from components.benchmark.tasks import run_all
from components.benchmark.tokens import TextTokenizer
from components.core.divergence import Floats, first_fork
from components.core.errors import InputError
from components.engines.exact_scoring import ExactScorer, PathTokens, post_json
from components.engines.serving import Served

Tell = Callable[[str, int, int, str, float | None], None]  # phase, step, steps, message, seconds that remain
ScorePiece = Callable[[int, PathTokens], Awaitable[Floats]]  # index, path → a table
_FILE_NOTE = (
    "llama.cpp's formulas on its file, which holds 16 bits an id and nothing of ids 16 nats below certainty. The floor "
    "is the base served here against the same file."
)
_ANSWER_NOTE = "The right answers to questions, each token after its question."
_LANES = 2  # chunks at once: while the candidate computes one, the base computes the next


@dataclass(frozen=True)
class ScoredSet:
    """All pieces of one corpus."""

    name: str
    convention: str  # of a text; "" for questions
    groups: list[Floats]  # a table per chunk or prompt
    floor: list[Floats]  # of the base against itself, for the first pieces
    text_sha256: str = ""
    text_tokens: int = 0
    note: str = ""
    tokens_per_s: float | None = None  # computed tokens of both passes' chunks; None when all was there already
    unit: Literal["chunks", "answers"] = "chunks"  # what a group is


@dataclass(frozen=True)
class Generation:
    """The base's own continuations of prompts of one length, scored under the candidate.

    Attributes:
        kl_nats: on the base's greedy path (prompts, steps).
        floor_nats: the base against itself on the first prompt (1, steps).
        first_forks: per prompt, where the two models' own greedy answers part; None = never.
        sampled_kl_nats: as ``kl_nats``, on a path that the base drew at temperature 1.
        sampled_forks: as ``first_forks``, of answers that both drew at temperature 1 with the same seed.
    """

    prompt_tokens: int
    kl_nats: Floats
    floor_nats: Floats
    first_forks: list[int | None]
    sampled_kl_nats: Floats
    sampled_forks: list[int | None]
    steps: int


@dataclass
class QualityRun:
    """Base and candidate on all corpora."""

    base: Served
    candidate: Served
    scorer: ExactScorer
    tokenizer: TextTokenizer
    settings: QualitySettings
    store: PieceStore
    work: Path
    tell: Tell
    _paths: int = field(default=0, init=False)

    async def text(self, corpus: TextCorpus) -> ScoredSet:
        """One text under its convention.

        Raises:
            InputError: the text is too short, or the chunks too long for the engines. StreamError, EngineError.
        """
        convention = find_convention(corpus.convention)
        self._check_length(convention.window)
        text = await asyncio.to_thread(self._read, corpus, convention.joined)
        tokens = await asyncio.to_thread(self.tokenizer.encode, text.text)
        chunks = cut(tokens, convention, self.tokenizer.bos)[: self.settings.chunks]
        paths = [_path(chunk) for chunk in chunks]
        label = f"{text.name}, {convention.id}"
        groups, speed = await self._score_all(f"text-{convention.id}-{text.sha256[:12]}", label, paths, self._scored)
        floor = await self._floors(label, paths, self._own_floor)
        return ScoredSet(text.name, convention.id, groups, floor, text.sha256, len(tokens), corpus.note, speed)

    async def questions(self, corpus: QuestionCorpus) -> ScoredSet:
        """Right answers to questions, as the continuation of the rendered chat.

        Raises:
            InputError: an item can't be used. StreamError, EngineError.
        """
        file = Path(corpus.file)
        items = await asyncio.to_thread(read_items, file, self.settings.items)
        paths = []
        for number, item in enumerate(items):
            self.tell("Quality", number, len(items), f"Rendering {corpus.name}", None)
            messages = await asyncio.to_thread(messages_of, item, file.parent)
            paths.append(await self._question_path(messages, item.answers[0]))
        groups, speed = await self._score_all(f"questions-{corpus.name}", corpus.name, paths, self._scored)
        floor = await self._floors(corpus.name, paths, self._own_floor)
        return ScoredSet(corpus.name, "", groups, floor, note=_ANSWER_NOTE, tokens_per_s=speed, unit="answers")

    async def against_file(self, path: Path) -> ScoredSet:
        """The candidate against a base that only llama.cpp's file of it tells of; our base in its place is the floor.

        Raises:
            InputError: the file can't be used. StreamError, EngineError: another vocabulary is one of these.
        """
        base = await asyncio.to_thread(read_kl_base, path)
        self._check_length(base.window)
        count = min(base.chunks, self.settings.chunks or base.chunks)
        paths = [_path(base.chunk(index, self.tokenizer.bos)) for index in range(count)]

        async def scored(served: Served, index: int) -> Floats:
            rows = await asyncio.to_thread(base.read_rows, path, index)
            found = await self.scorer.score_against(served.client, paths[index], rows)
            return rows_to_table(found, paths[index].answer_ids)

        key = hashlib.sha256(f"{path} {path.stat().st_mtime_ns} {path.stat().st_size}".encode()).hexdigest()[:12]
        label = f"{path.name}, llama.cpp's base file"
        groups, _ = await self._score_all(f"file-{key}", label, paths, lambda i, _: scored(self.candidate, i))
        floor = await self._floors(label, paths, lambda index, _: scored(self.base, index))
        return ScoredSet(label, "", groups, floor, note=_FILE_NOTE)

    async def write_file(self, corpus: TextCorpus, target: Path) -> None:
        """The base's log-probabilities of a text's chunks as llama.cpp's ``--kl-divergence`` reads them.

        Raises:
            InputError: the text is too short. JobError: the disk has no room. StreamError, EngineError.
        """
        convention = find_convention(corpus.convention)
        text = await asyncio.to_thread(self._read, corpus, convention.joined)
        tokens = await asyncio.to_thread(self.tokenizer.encode, text.text)
        plain = windows(tokens, convention, self.tokenizer.bos)[: self.settings.chunks]
        paths = [_path(chunk) for chunk in cut(tokens, convention, self.tokenizer.bos)[: self.settings.chunks]]
        rows, ids = await self.scorer.base_rows(self.base.client, paths[0])
        check_room(target, rows.nbytes * len(paths))
        with write_kl_base(target, plain, ids) as add:
            add(rows)
            for number, path in enumerate(paths[1:], 1):
                self.tell("Base file", number, len(paths), f"{text.name} for llama.cpp", None)
                add((await self.scorer.base_rows(self.base.client, path))[0])

    async def generation(self, corpus: TextCorpus, length: int) -> Generation:
        """Continuations of ``length`` tokens of a text; teacher-forced KL, and where free answers part.

        Raises:
            InputError: the text is too short, or prompt and answer too long for the engines.
        """
        settings, steps = self.settings, self.settings.steps
        self._check_length(length + steps)
        text = await asyncio.to_thread(self._read, corpus, False)
        tokens = await asyncio.to_thread(self.tokenizer.encode, text.text)
        stride = max(length, len(tokens) // settings.prompts)
        prompts = [tuple(tokens[start : start + length]) for start in range(0, len(tokens) - length + 1, stride)]
        prompts = prompts[: settings.prompts]
        if len(prompts) < 2:
            raise InputError("The text is too short for generation KL.", "Name a longer text, or fewer prompt tokens.")
        pieces, floor = list[dict[str, Any]](), np.zeros((0, steps))
        for number, prompt in enumerate(prompts):
            told = f"prompts of {length} tokens, {steps} steps"
            self.tell("Generation KL", number, len(prompts), told, None)
            name = f"continued-{length}-{steps}-{number}"
            saved = self.store.document(name)
            if saved is None:
                saved = {
                    "greedy": await self._continue(prompt, steps, None),
                    "sampled": await self._continue(prompt, steps, number),
                }
                self.store.save_document(name, saved)
            pieces.append(saved)
            if number == 0:
                floor = await self._generation_floor(prompt, saved)
        kl = {way: np.array([piece[way]["kl_nats"] for piece in pieces], dtype=np.float64) for way in pieces[0]}
        forks = {way: [piece[way]["first_fork"] for piece in pieces] for way in pieces[0]}
        return Generation(length, kl["greedy"], floor, forks["greedy"], kl["sampled"], forks["sampled"], steps)

    async def _continue(self, prompt: tuple[int, ...], steps: int, seed: int | None) -> dict[str, Any]:
        base, candidate = await asyncio.gather(
            continued_ids(self.base, prompt, steps, seed), continued_ids(self.candidate, prompt, steps, seed)
        )
        result = await self.scorer.score(self.base.client, self.candidate.client, PathTokens(prompt, base))
        kl = result.statistics["kl_base_to_candidate_nats"]
        return {"kl_nats": kl.tolist(), "first_fork": first_fork(base, candidate), "base_ids": list(base)}

    async def _generation_floor(self, prompt: tuple[int, ...], saved: dict[str, Any]) -> Floats:
        found = await self.scorer.floor(self.base.client, PathTokens(prompt, tuple(saved["greedy"]["base_ids"])))
        return found.statistics["kl_base_to_candidate_nats"][None, :]

    async def _scored(self, _index: int, path: PathTokens) -> Floats:
        return to_table(await self.scorer.score(self.base.client, self.candidate.client, path), path.answer_ids)

    async def _own_floor(self, _index: int, path: PathTokens) -> Floats:
        return to_table(await self.scorer.floor(self.base.client, path), path.answer_ids)

    async def _score_all(
        self, key: str, label: str, paths: Sequence[PathTokens], score: ScorePiece
    ) -> tuple[list[Floats], float | None]:
        groups: dict[int, Floats] = {}
        done = {"pieces": 0, "new": 0, "tokens": 0}
        lanes, started_s = asyncio.Semaphore(_LANES), time.monotonic()

        async def one(index: int, path: PathTokens) -> None:
            async with lanes:
                saved = await asyncio.to_thread(self.store.table, f"{key}-{index:05d}")
                if saved is None:
                    saved = await score(index, path)
                    await asyncio.to_thread(self.store.save_table, f"{key}-{index:05d}", saved)
                    done["new"] += 1
                    done["tokens"] += len(path.prompt_ids) + len(path.answer_ids) - 1
            groups[index] = saved
            done["pieces"] += 1
            self._progress(label, done, len(paths), time.monotonic() - started_s)

        await run_all(one(index, path) for index, path in enumerate(paths))
        speed = done["tokens"] / (time.monotonic() - started_s) if done["new"] else None
        return [groups[index] for index in range(len(paths))], speed

    def _progress(self, label: str, done: dict[str, int], count: int, elapsed_s: float) -> None:
        left = count - done["pieces"]
        speed = f", {done['tokens'] / elapsed_s:,.0f} tokens/s" if done["new"] else ", found from an earlier attempt"
        remaining = left * elapsed_s / done["new"] if done["new"] else None
        self.tell("Quality", done["pieces"], count, label + speed, remaining)

    async def _floors(self, label: str, paths: Sequence[PathTokens], score: ScorePiece) -> list[Floats]:
        found = []
        chosen = paths[: self.settings.floor_chunks]
        for number, path in enumerate(chosen):
            self.tell("Noise floor", number, len(chosen), label, None)
            found.append(await score(number, path))
        return found

    async def _question_path(self, messages: list[dict[str, Any]], answer: str) -> PathTokens:
        client = self.base.client
        rendered = await post_json(
            client, "/v1/chat/completions/render", {"model": client.served_model, "messages": messages}
        )
        urls = tuple(
            part["image_url"]["url"] for message in messages if isinstance(message["content"], list)
            for part in message["content"] if part["type"] == "image_url"
        )  # fmt: skip
        end = [] if self.tokenizer.eos is None else [self.tokenizer.eos]
        return PathTokens(tuple(rendered["token_ids"]), (*self.tokenizer.encode(answer), *end), urls)

    def _read(self, corpus: TextCorpus, joined: bool) -> Text:
        if corpus.file is None:
            return wikitext(joined, self.work / "hub")
        text = read_text(Path(corpus.file), corpus.name)
        return Text(text.name, joined_rows(text.text)) if joined else text

    def _check_length(self, tokens: int) -> None:
        longest = min(self.base.max_model_len, self.candidate.max_model_len)
        if tokens > longest:
            raise InputError(
                f"Chunks of {tokens} tokens don't fit: the engines are served with {longest}.",
                "Choose another convention or shorter prompts, or raise max_model_len in the pair's profile.",
                field="overrides.convention",
            )


def _path(chunk: Chunk) -> PathTokens:
    return PathTokens(chunk.context, chunk.targets)


async def continued_ids(served: Served, prompt: tuple[int, ...], steps: int, seed: int | None) -> tuple[int, ...]:
    """A continuation of exactly ``steps`` tokens; the end of the answer does not end it.

    Args:
        seed: for temperature 1 with the whole vocabulary; None = greedy.
    """
    drawn: dict[str, Any] = {"temperature": 0.0} if seed is None else {"temperature": 1.0, "top_p": 1.0, "seed": seed}
    body = {
        "model": served.client.served_model, "token_ids": prompt,
        "sampling_params": {"max_tokens": steps, "ignore_eos": True, "detokenize": False, **drawn},
    }  # fmt: skip
    told = await post_json(served.client, "/inference/v1/generate", body)
    return tuple(told["choices"][0]["token_ids"])
