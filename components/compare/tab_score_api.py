"""API endpoint ``/score``: how far base and candidate part on a stored turn's tokens, through the same service."""

from __future__ import annotations

from typing import Any

import gradio as gr

from components.compare.case import Case, Wanted
from components.compare.eyes import EyesService, read_picture
from components.compare.eyes_view import divergence_share, reliance_to_dict
from components.compare.free_run import free_run_of
from components.compare.request import check_options
from components.compare.score_view import score_to_dict
from components.compare.scoring import ScoringService
from components.compare.tab_eyes import MEASURING
from components.core.errors import InputError
from components.core.reliance import PictureChange, Reliance
from components.core.scores import Score
from components.ui.access import Access
from components.ui.endpoints import add_endpoint

_OPTIONS = ("path", "method", "candidate", "k", "picture")


def add_score_api(scoring: ScoringService, eyes: EyesService, access: Access) -> None:
    """Register the endpoint inside the current Blocks context.

    Visitors of a public page get what is stored where there is something; of all visitors' wishes for picture reliance
    one is measured at a time.
    """

    async def measured(case: Case, picture: PictureChange, request: gr.Request | None) -> Reliance:
        with access.one_visitor_at_a_time(request, MEASURING):
            return await eyes.measure(case, picture)

    async def score_turn(
        trace_id: str, options: dict[str, Any] | None = None, request: gr.Request | None = None
    ) -> dict[str, Any]:
        options = check_options(options, _OPTIONS)
        k = read_k(options.get("k"))
        picture = read_picture(options.get("picture"))
        case = await scoring.find(trace_id, Wanted.read(options))
        if picture is not None:
            eyes.check_pictures(case)
        visits = not access.may_control(request)
        stored = await scoring.stored(case) if visits else None
        score = stored if stored and fits(stored, case) else await scoring.score(case)
        result = {**score_to_dict(score, k), "free_run": free_run_of(case.sides)}
        if picture is not None:
            known = (await eyes.stored(case)).get(picture) if visits else None
            reliance = known or await measured(case, picture, request)
            share = divergence_share(reliance, score)
            result["picture_reliance"] = {**reliance_to_dict(reliance), "divergence_share": share}
        return result

    add_endpoint(score_turn, "score")


def fits(stored: Score, case: Case) -> bool:
    """Whether a stored score is by the method that was asked for."""
    return case.wanted.method in ("auto", stored.method)


def read_k(value: object) -> int:
    """How many alternatives of each side a result shows.

    Raises:
        InputError: not a number from 0 to 20.
    """
    if value is None:
        return 5
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 20:
        return value
    raise InputError(f"{value!r} is no number of alternatives.", "Accepted: 0 to 20.", field="k")
