"""Is it the eyes or the words? An answer's tokens after the same prompt with its pictures changed, under both models.

Blurred, small and swapped pictures keep their size, so the prompt has the very same token ids, and only the pixels
behind the placeholders differ. *Removed* takes the pictures' tokens out of the prompt's ids: the same text, as it would
have been asked without a picture; what follows stands at earlier positions then. All pictures of the conversation are
changed. Each model is compared with itself: two prefills of each answer it, and two more in another batch shape give
the floor.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from components.compare.case import Case
from components.compare.changed_pictures import PictureChanger
from components.compare.scoring import ScoringService, Spent, precision_of
from components.core.answers import ImageRecord, TokenStep
from components.core.divergence import Floats
from components.core.errors import EngineError, EngineNotReadyError, InputError, StreamError
from components.core.reliance import (
    PICTURE_CHANGES,
    ChangedPicture,
    Choice,
    PictureChange,
    Reliance,
    RelianceFloor,
    SideReliance,
    TokenReliance,
)
from components.engines.exact_scoring import ExactResult, ExactScorer, PathTokens, other_batch
from components.engines.supervisor import EngineHub
from components.engines.transport import EngineClient
from components.storage.answer_records import AnswerRecords
from components.storage.images import ImageStore

_log = logging.getLogger(__name__)
_FLOOR_TRIES = 3


def read_picture(value: object) -> PictureChange | None:
    """The change that an option names; None where it is left out.

    Raises:
        InputError: it names none.
    """
    if value is None or value == "":
        return None
    found = next((change for change in PICTURE_CHANGES if change == value), None)
    if found is None:
        raise InputError(
            f"{value!r} is no change of a picture.", f"Accepted: {', '.join(PICTURE_CHANGES)}.", field="picture"
        )
    return found


class EyesService:
    """Measures picture reliance and stores it."""

    def __init__(
        self, *, scoring: ScoringService, hub: EngineHub, exact: ExactScorer, images: ImageStore,
        changer: PictureChanger, reliances: AnswerRecords[Reliance], now: Callable[[], datetime],
    ) -> None:  # fmt: skip
        self._scoring, self._hub, self._exact, self._images = scoring, hub, exact, images
        self._changer, self._reliances, self._now = changer, reliances, now

    def check_pictures(self, case: Case) -> tuple[ImageRecord, ...]:
        """The pictures of the answer's prompt, in order.

        Raises:
            InputError: there are none, or the answer can't be scored exactly.
        """
        pictures: list[ImageRecord] = []

        def note(image: ImageRecord) -> str:
            pictures.append(image)
            return ""

        self._scoring.path_of(case, note)
        if not pictures:
            raise InputError(
                "This turn has no picture, so nothing can be taken from one.",
                "Ask about a picture, or look at the divergence alone.",
                field="picture",
            )
        self._scoring.check_exact(case)
        return tuple(pictures)

    def _check_engines(self, case: Case) -> None:
        for entry in (case.base, case.candidate):
            status = self._hub.status(entry.engine_id)
            if entry.model.source.kind != "remote" and not (status.ready or status.is_asleep):
                raise EngineNotReadyError(
                    f"{entry.engine_id} is not ready.",
                    "Start it on the Models tab, wait until it is ready, and try again.",
                )

    async def stored(self, case: Case) -> dict[PictureChange, Reliance]:
        """The newest record of each change for the very answer that would be measured now."""
        about = (case.stored.slot.id, case.candidate.engine_id)
        found = await asyncio.to_thread(self._reliances.of_turn, case.trace.id)
        return {item.picture: item for item in found if (item.answer_id, item.candidate_engine) == about}

    async def measure(self, case: Case, picture: PictureChange) -> Reliance:
        """Score the answer with its pictures and with changed ones, under both models, and store the result.

        Raises:
            InputError: it can't be measured; says why. EngineNotReadyError: an engine is not running.
            EngineError, StreamError: an engine could not do its part.
            MediaError, StorageError: a changed picture can't be made or stored.
        """
        pictures = self.check_pictures(case)
        self._check_engines(case)
        changes = await asyncio.to_thread(self._changer.change, pictures, picture)
        self._scoring.check_exact(case)
        spent, sides, paths = Spent(), [], None
        text_of: Callable[[int], str] = str
        for entry in (case.base, case.candidate):
            async with self._scoring.use(entry, spent) as client:
                if paths is None:
                    paths = await asyncio.to_thread(self._paths, case, changes, client)
                    text_of = client.vocabulary.text if client.vocabulary else str
                sides.append(await self._measure_side(client, paths))
        alone, floor = [side.alone for side in sides], _floor_of(sides)
        reliance = Reliance(
            id=secrets.token_hex(12), trace_id=case.trace.id, answer_id=case.stored.slot.id, path=case.wanted.path,
            base_engine=case.base.engine_id, candidate_engine=case.candidate.engine_id, picture=picture,
            pictures=changes, precision=precision_of(alone[0]), created_at=self._now(), floor=floor,
            seconds=spent.seconds,
            tokens=tuple(_token(step, row, alone, text_of) for row, step in enumerate(case.stored.answer.tokens)),
        )  # fmt: skip
        await asyncio.to_thread(self._reliances.add, reliance)
        return reliance

    def _paths(
        self, case: Case, changes: tuple[ChangedPicture, ...], client: EngineClient
    ) -> tuple[PathTokens, PathTokens]:
        path = self._scoring.path_of(case, lambda image: self._images.data_url(image.sha256))
        urls = tuple(
            self._images.data_url(change.shown_sha256) for change in changes if change.shown_sha256 is not None
        )
        return path, replace(path, images=urls) if urls else without_pictures(path, client)

    async def _measure_side(self, client: EngineClient, paths: tuple[PathTokens, PathTokens]) -> _Side:
        """One model after both prompts, and once more in another batch shape, for the floor."""
        alone = await self._exact.across_prompts(client, *paths)
        try:
            for _ in range(_FLOOR_TRIES):
                again = await self._exact.across_prompts(client, *paths, in_company=True)
                shapes = _other_batches(alone, again)
                if shapes is not None:
                    return _Side(alone, again, shapes)
        except (EngineError, StreamError) as exc:
            _log.warning("The noise of picture reliance could not be measured: %s %s", exc, exc.detail)
        return _Side(alone)


@dataclass(frozen=True)
class _Side:
    alone: ExactResult
    again: ExactResult | None = None  # in another batch shape, where that could be had
    shapes: tuple[int, int] = (0, 0)


def _floor_of(sides: list[_Side]) -> RelianceFloor | None:
    """How much the figures move with the batch shape alone; None where that could not be had of both models."""
    shifts = [_nats(side.again) - _nats(side.alone) for side in sides if side.again is not None]
    if len(shifts) < len(sides):
        return None
    return RelianceFloor(
        base_nats=float(np.abs(shifts[0]).max()),
        candidate_nats=float(np.abs(shifts[1]).max()),
        change_nats=float(np.abs(shifts[1] - shifts[0]).max()),
        batch_tokens=sides[0].shapes,
    )


def without_pictures(path: PathTokens, client: EngineClient) -> PathTokens:
    """The path with every token that stands for a picture taken out of its prompt.

    Raises:
        InputError: which tokens these are is not known for this engine.
    """
    kinds = client.vocabulary.image_token_ids if client.vocabulary else frozenset()
    rest = tuple(token_id for token_id in path.prompt_ids if token_id not in kinds)
    if len(rest) == len(path.prompt_ids):
        raise InputError(
            "Which tokens of the prompt stand for the picture is not known, so it can't be taken out.",
            "Choose blurred, small or swapped.",
            field="picture",
        )
    return replace(path, prompt_ids=rest, images=())


def _other_batches(alone: ExactResult, in_company: ExactResult) -> tuple[int, int] | None:
    """Batch shapes of the changed prompt, where both prompts were computed in other ones; else None."""
    if other_batch(alone.base_batch_tokens, in_company.base_batch_tokens) is None:
        return None
    return other_batch(alone.batch_tokens, in_company.batch_tokens)


def _nats(result: ExactResult) -> Floats:
    reliance: Floats = result.statistics["base_target_logprob"] - result.statistics["candidate_target_logprob"]
    return reliance


def _token(step: TokenStep, row: int, results: list[ExactResult], text_of: Callable[[int], str]) -> TokenReliance:
    base, candidate = (_side(result, row, text_of) for result in results)
    token_id = step.token_id if step.token_id is not None else -1
    return TokenReliance(
        token_id=token_id, text=step.text or text_of(token_id), raw=step.raw, base=base, candidate=candidate
    )


def _side(result: ExactResult, row: int, text_of: Callable[[int], str]) -> SideReliance:
    """Of one model; in its result ``base`` is with the picture, ``candidate`` with the changed one."""

    def choice(side: str) -> Choice:
        token_id = int(result.tops[f"{side}_top_ids"][row][0])
        return Choice(
            token_id=token_id, text=text_of(token_id), logprob=float(result.tops[f"{side}_top_{side}_logprobs"][row][0])
        )

    return SideReliance(
        logprob=float(result.statistics["base_target_logprob"][row]),
        logprob_changed=float(result.statistics["candidate_target_logprob"][row]),
        kl_picture_to_changed_nats=float(result.statistics["kl_base_to_candidate_nats"][row]),
        choice=choice("base"),
        choice_changed=choice("candidate"),
    )
