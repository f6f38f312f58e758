"""Scoring of a stored turn: which answer, which engines, which method; the result is a record. No page, no HTTP."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from components.compare.case import Case, Wanted, case_of
from components.compare.same_path import messages_of, path_of, why_not_by_ids
from components.compare.score_tokens import exact_tokens, top_k_tokens, whole_path_tokens
from components.core.answers import Answer, ImageRecord
from components.core.errors import EngineError, InputError, StreamError
from components.core.scores import UNTRIED_ON_GPU, Method, NoiseFloor, Score, TokenScore
from components.engines.catalog import Catalog, CatalogEntry
from components.engines.exact_scoring import ExactResult, ExactScorer, PathTokens, other_batch
from components.engines.prompt_logprobs import NotOnThePathError, Row, rows_of
from components.engines.supervisor import EngineHub
from components.engines.token_id_scores import stock_rows
from components.engines.transport import EngineClient
from components.engines.vocabulary import Vocabulary
from components.storage.answer_records import AnswerRecords
from components.storage.traces import TraceRepository

_log = logging.getLogger(__name__)
_READY_LIMIT_S = 900.0
_FLOOR_TRIES = 3
_FLOOR_TOKENS = 32
_KEPT_FLOORS = 256


@dataclass
class Spent:
    """How long the engines worked for a score, without waiting for them."""

    seconds: float = 0.0


class ScoringService:
    """Scores answers; one pass of an engine at a time, since each fills it.

    Engines that take turns are asked one after the other, the passes of many scores together.
    """

    def __init__(
        self, *, catalog: Catalog, hub: EngineHub, traces: TraceRepository, scores: AnswerRecords[Score],
        exact: ExactScorer, data_url: Callable[[ImageRecord], str], now: Callable[[], datetime],
        on_score: Callable[[Score], None] = lambda _score: None,
    ) -> None:  # fmt: skip
        """``on_score`` is told each new score."""
        self._on_score = on_score
        self._catalog, self._hub, self._traces, self._scores = catalog, hub, traces, scores
        self._exact, self._data_url, self._now = exact, data_url, now
        self._floors: OrderedDict[tuple[str, datetime], NoiseFloor] = OrderedDict()
        self._pass = asyncio.Lock()

    async def find(self, trace_id: str, wanted: Wanted) -> Case:
        """What is to be scored: reads the whole conversation, so it is done once for each wish.

        Raises:
            RecordNotFoundError: there is no such turn. InputError: it can't be scored so; says why.
        """
        chain = await asyncio.to_thread(self._traces.conversation, trace_id)
        return case_of(chain, wanted, self._catalog)

    async def score(self, case: Case) -> Score:
        """Score the answer and store the result.

        Raises:
            InputError: it can't be scored so; says why. EngineError, StreamError: an engine could not do its part.
        """
        self._hub.check_open()
        by_method = {"exact": self._score_exactly, "stock": self._score_stock, "top_k": self._score_top_k}
        spent = Spent()
        score = await by_method[self._method(case)](case, spent)
        score = score.model_copy(update={"seconds": spent.seconds})
        await asyncio.to_thread(self._scores.add, score)
        self._on_score(score)
        return score

    def check_exact(self, case: Case) -> None:
        """Refuse an answer that can't be scored exactly.

        Raises:
            InputError: says why.
        """
        reason = self._why_not_exact(case)
        if reason:
            raise InputError(f"This turn can't be scored exactly: {reason}", field="method")

    @asynccontextmanager
    async def use(self, entry: CatalogEntry, spent: Spent) -> AsyncGenerator[EngineClient, None]:
        """An engine for a pass; nothing else is scored within the block, and no other engine may be waited for in it.

        Args:
            spent: the block's time is added to it.

        Raises:
            EngineError: it is not to be had.
        """
        # The engine first: one that loads for minutes must not keep all others from being scored.
        async with self._hub.use(entry.engine_id, _READY_LIMIT_S) as client, self._pass:
            started = time.monotonic()
            try:
                yield client
            finally:
                spent.seconds += time.monotonic() - started

    def is_ready(self, case: Case) -> bool:
        """Whether scoring could begin at once."""
        engines = (case.base, case.candidate)
        return self._method(case) == "top_k" or all(self._hub.status(entry.engine_id).ready for entry in engines)

    def by_turns(self, case: Case) -> bool:
        """Whether its engines can't be up at the same time."""
        return all(self._hub.takes_turns(entry.engine_id) for entry in (case.base, case.candidate))

    async def stored(self, case: Case) -> Score | None:
        """The newest score of the very answer that would be scored now; None where there is none.

        One by the method that would be used now goes before one that a script made by another.
        """
        about, method = (case.stored.slot.id, case.candidate.engine_id), self._method(case)
        own = await asyncio.to_thread(self._scores.newest, *about, method=method)
        return own or await asyncio.to_thread(self._scores.newest, *about)

    # ---- which method ------------------------------------------------------------------------------------------

    def _method(self, case: Case) -> Method:
        reason = self._why_not_exact(case)
        if case.wanted.method == "exact" and reason:
            raise InputError(f"This turn can't be scored exactly: {reason}", "Choose the method top_k.", field="method")
        if case.wanted.method == "stock":
            return "stock"
        return "top_k" if reason or case.wanted.method == "top_k" else "exact"

    def _why_not_exact(self, case: Case) -> str:
        for entry in (case.base, case.candidate):
            status = self._hub.status(entry.engine_id)
            reason = why_not_by_ids(entry, status, case.trace, case.parents, case.stored)
            serve = entry.pair.serve_of(entry.model)
            if not reason and serve.gpu_count > serve.data_parallel_size:
                reason = f"{entry.engine_id} is spread over several GPUs, none of which has it all."
            if reason:
                return reason
        return ""

    # ---- exact ------------------------------------------------------------------------------------------------

    async def _score_exactly(self, case: Case, spent: Spent) -> Score:
        path = self.path_of(case, self._data_url)
        floor: NoiseFloor | None = None
        texts: Callable[[int], str] = str

        @asynccontextmanager
        async def base() -> AsyncGenerator[EngineClient, None]:
            nonlocal floor, texts
            async with self.use(case.base, spent) as client:
                texts = client.vocabulary.text if client.vocabulary else str
                yield client
                floor = await self._floor(client, case.base.engine_id, path)  # while it is awake

        result = await self._exact.score_by_turns(base, lambda: self.use(case.candidate, spent), path)
        notes = [] if floor else ["The noise floor could not be measured: small figures may be noise."]
        return self._record(
            case, "exact", precision_of(result), exact_tokens(case.stored.answer, result, texts), floor, notes
        )

    def path_of(self, case: Case, data_url: Callable[[ImageRecord], str]) -> PathTokens:
        """The answer's tokens after its prompt's, with the prompt's pictures as ``data_url`` gives them, in order.

        Raises:
            InputError: there is nothing to score, or base and candidate read different prompts.
        """
        slot, answer = case.stored.slot, case.stored.answer
        if case.other is not None and not slot.history:
            _check_same_prompt(answer, case.other.answer)
        return path_of(case.trace, case.parents, case.stored, data_url, f"score-{case.trace.conversation_id}")

    async def _floor(self, client: EngineClient, engine_id: str, path: PathTokens) -> NoiseFloor | None:
        """Measured with the first answer that is scored after a start of the base's engine.

        Once more with a longer one, if that was short: a few tokens show little of the noise.
        """
        since = self._hub.status(engine_id).since
        key = (engine_id, since)
        known = self._floors.get(key)
        if known is not None and known.tokens >= min(_FLOOR_TOKENS, len(path.answer_ids)):
            return known
        measured = await self._measure_floor(client, path, since)
        if measured is None:
            return known
        self._floors[key] = measured
        while len(self._floors) > _KEPT_FLOORS:
            self._floors.popitem(last=False)
        return measured

    async def _measure_floor(self, client: EngineClient, path: PathTokens, since: datetime) -> NoiseFloor | None:
        """None where it could not be: the score stands without it, and the next one tries again."""
        try:
            for _ in range(_FLOOR_TRIES):
                result = await self._exact.floor(client, path)
                shapes = other_batch(result.base_batch_tokens, result.batch_tokens)
                if shapes is not None:  # else the requests did not meet in one step, and it says nothing
                    return self._floor_record(result, shapes, since)
        except (EngineError, StreamError) as exc:
            _log.warning("The noise floor could not be measured: %s %s", exc, exc.detail)
        return None

    def _floor_record(self, result: ExactResult, shapes: tuple[int, int], since: datetime) -> NoiseFloor:
        values = result.statistics["kl_base_to_candidate_nats"]
        return NoiseFloor(
            mean_nats=float(values.mean()), max_nats=float(values.max()), tokens=len(values), batch_tokens=shapes,
            measured_at=self._now(), engine_started_at=since,
        )  # fmt: skip

    # ---- lower bound ------------------------------------------------------------------------------------------

    async def _score_top_k(self, case: Case, spent: Spent) -> Score:
        reason = ""
        if self._may_ask_again(case):
            try:
                return await self._score_whole_path(case, spent)
            except (NotOnThePathError, EngineError, StreamError) as exc:
                if case.sides is None or any(side.slot.history for side in case.sides):
                    raise  # nothing else to go by
                reason = f"The answer could not be scored along its whole path: {exc.message}"
        return self._score_lists(case, reason)

    def _may_ask_again(self, case: Case) -> bool:
        """Whether both are vLLM servers that answer, now or when it is their turn, and the tokens are known."""
        answer = case.stored.answer
        if not answer.prompt_token_ids or not answer.tokens or any(step.token_id is None for step in answer.tokens):
            return False
        ids = (case.base.engine_id, case.candidate.engine_id)
        return self.by_turns(case) or all(self._hub.status(e).ready and self._hub.client(e).is_vllm for e in ids)

    async def _score_whole_path(self, case: Case, spent: Spent) -> Score:
        path, written = self.path_of(case, self._data_url), case.stored.answer
        messages = messages_of(case.trace, case.parents, case.stored.slot, self._data_url)
        rows: list[list[Row]] = []
        known: Vocabulary | None = None
        for entry in (case.base, case.candidate):
            async with self.use(entry, spent) as client:
                rows.append(await rows_of(client, messages, case.trace.tools, path, written.text))
                known = known or client.vocabulary
        tokens, notes = whole_path_tokens(rows[0], rows[1], written, known.text if known else str)
        precision = "prompt log-probabilities of both servers in their own precision: a lower bound of the divergence"
        return self._record(case, "top_k", precision, tokens, None, notes)

    async def _score_stock(self, case: Case, spent: Spent) -> Score:
        """Never chosen by itself: no GPU has tried it."""
        path, written = self.path_of(case, self._data_url), case.stored.answer
        if not path.prompt_ids or len(path.answer_ids) != len(written.tokens):
            raise InputError("This answer's token ids are not known.", "Choose the method top_k.", field="method")
        if self.by_turns(case):
            hint = "Choose the method exact or top_k."
            raise InputError("This method needs both engines at the same time; these take turns.", hint, field="method")
        async with (
            self._hub.use(case.candidate.engine_id, _READY_LIMIT_S) as candidate,
            self.use(case.base, spent) as base,
        ):
            rows = await stock_rows(base, candidate, path)
        known = base.vocabulary or candidate.vocabulary
        tokens, notes = whole_path_tokens(*rows, written, known.text if known else str, of_base_only=True)
        precision = f"log-probabilities of both servers in their own precision: a lower bound; {UNTRIED_ON_GPU}"
        return self._record(case, "stock", precision, tokens, None, notes)

    def _score_lists(self, case: Case, reason: str) -> Score:
        """From the alternatives that both answers brought along."""
        if case.sides is None:
            raise InputError("This turn has only one side's answer.", "Ask base and candidate the same.", field="path")
        base, candidate = case.sides
        if base.slot.history or candidate.slot.history:
            raise InputError(
                "In a conversation each side continues its own answers, so these are not on the same path.",
                "Score the first turn, or use vLLM servers.",
                field="method",
            )
        _check_same_prompt(base.answer, candidate.answer)
        tokens, notes = top_k_tokens(base.answer, candidate.answer, case.wanted.path)
        precision = "log-probabilities as the endpoints sent them: a lower bound of the divergence"
        return self._record(case, "top_k", precision, tokens, None, [reason, *notes] if reason else notes)

    def _record(
        self, case: Case, method: Method, precision: str, tokens: Sequence[TokenScore], floor: NoiseFloor | None,
        notes: Sequence[str],
    ) -> Score:  # fmt: skip
        return Score(
            id=secrets.token_hex(12), trace_id=case.trace.id, answer_id=case.stored.slot.id, path=case.wanted.path,
            base_engine=case.base.engine_id, candidate_engine=case.candidate.engine_id, method=method,
            precision=precision, created_at=self._now(), floor=floor, tokens=tuple(tokens),
            notes=tuple(notes), seconds=0.0,
        )  # fmt: skip


def precision_of(result: ExactResult) -> str:
    """What the exact figures were computed from and in, in words."""
    words = f"{result.dtype} hidden states, {result.logits_dtype} logits from each model's own head, float64 sums"
    return words if result.device == "cpu" else f"{words}; {UNTRIED_ON_GPU}"


def _check_same_prompt(one: Answer, other: Answer) -> None:
    if one.prompt_token_ids and other.prompt_token_ids and one.prompt_token_ids != other.prompt_token_ids:
        raise InputError(
            "The two engines turned the same prompt or pictures into different tokens, so nothing can be compared.",
            "Look at the turn's alarms.",
            field="trace_id",
        )
