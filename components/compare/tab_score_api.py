"""API endpoint ``/score``: how far base and candidate part on a stored turn's tokens, through the same service."""

from __future__ import annotations

from typing import Any

import gradio as gr

from components.compare.case import Wanted
from components.compare.eyes import EyesService, read_picture
from components.compare.eyes_view import divergence_share, reliance_to_dict
from components.compare.free_run import free_run_of
from components.compare.score_view import score_to_dict
from components.compare.scoring import ScoringService
from components.core.errors import AppError, InputError
from components.ui.messages import as_api_error

_OPTIONS = ("path", "method", "candidate", "k", "picture")


def add_score_api(scoring: ScoringService, eyes: EyesService) -> None:
    """Register the endpoint inside the current Blocks context."""

    async def score_turn(trace_id: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
        options = options or {}
        try:
            unknown = sorted(set(options) - set(_OPTIONS))
            if unknown:
                raise InputError(f"{unknown[0]!r} is no option.", f"Accepted: {', '.join(_OPTIONS)}.", field="options")
            k = read_k(options.get("k"))
            picture = read_picture(options.get("picture"))
            case = await scoring.find(trace_id, Wanted.read(options))
            if picture is not None:
                eyes.check_pictures(case)
            score = await scoring.score(case)
            result = {**score_to_dict(score, k), "free_run": free_run_of(case.sides)}
            if picture is not None:
                reliance = await eyes.measure(case, picture)
                share = divergence_share(reliance, score)
                result["picture_reliance"] = {**reliance_to_dict(reliance), "divergence_share": share}
            return result
        except AppError as exc:
            raise as_api_error(exc) from None

    with gr.Row(visible=False):
        trace_id = gr.Textbox(label="trace_id")
        options = gr.JSON({}, label="options")
        result = gr.JSON(label="score")
        button = gr.Button("score")
    button.click(score_turn, [trace_id, options], result, api_name="score", concurrency_limit=None)


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
