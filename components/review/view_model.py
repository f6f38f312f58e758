"""Review → plain values that assets/js/review.js draws, and the API's answers. Pure.

The seal is kept here: before the verdict nothing that leaves the server depends on which answer is whose. The shown
answers are put in their order, and no key, model, count, time or divergence goes along.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from components.core.answers import ImageRecord
from components.core.reviews import Batch, Item
from components.core.scores import Score
from components.review.intake import Fault
from components.review.service import Created
from components.storage.review_given import Given
from components.storage.reviews import Progress

_FAULTS_SHOWN = 200


def sealed(given: Given) -> dict[str, Any]:
    """An item as a reviewer sees it before the verdict."""
    item, answered = given.item, given.item.answered
    texts = (answered.base_text, answered.candidate_text) if answered else ("", "")
    first, second = texts if given.assignment.a_is == "base" else texts[::-1]
    return {
        "item_id": item.id,
        "batch": item.batch_id,
        "prompt": item.question.prompt,
        "reference": item.question.reference,
        "tags": list(item.question.tags),
        "images": [_image(image) for image in item.question.images],
        "answers": {"a": {"text": first}, "b": {"text": second}},
    }


def _image(image: ImageRecord) -> dict[str, Any]:
    return {
        "sha256": image.sha256,
        "url": f"media/{image.sha256}.png",
        "name": image.name,
        "width": image.width,
        "height": image.height,
    }


def unsealed(given: Given, batch: Batch, score: Score | None) -> dict[str, Any] | None:
    """What the verdict opened; None before it."""
    verdict, answered = given.verdict, given.item.answered
    if verdict is None or answered is None:
        return None
    return {
        "a_is": given.assignment.a_is,
        "base": batch.base_engine,
        "candidate": given.item.candidate_engine,
        "outcome": verdict.outcome.value,
        "divergence_nats": answered.divergence_nats,
        "method": answered.method,
        "floor_nats": answered.floor_nats,
        "trace": given.item.trace_id,
        "heat": [] if score is None else [[t.text, t.kl_base_to_candidate_nats] for t in score.tokens],
    }


def desk_view(
    given: Given | None, batch: Batch | None, progress: Progress | None, judged: Sequence[str], score: Score | None
) -> dict[str, Any]:
    """The judging desk of one reviewer."""
    view: dict[str, Any] = {"batch": None, "item": None, "progress": None, "judged": list(judged)[-500:]}
    if batch is not None:
        view["batch"] = {"id": batch.id, "name": batch.name, "state": batch.state.value}
    if progress is not None:
        view["progress"] = progress_view(progress)
    if given is not None and batch is not None:
        view["item"] = {
            **sealed(given),
            "draft": _draft(given.assignment.draft),
            "verdict": verdict_view(given),
            "unsealed": unsealed(given, batch, score),
        }
    return view


def _draft(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text) if text else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def verdict_view(given: Given) -> dict[str, Any] | None:
    """The reviewer's own verdict in shown sides."""
    verdict = given.verdict
    if verdict is None:
        return None
    return {
        "verdict": verdict.verdict.value,
        "a_right": verdict.a_right,
        "b_right": verdict.b_right,
        "claims": [claim.model_dump(mode="json") for claim in verdict.claims],
        "note": verdict.note,
        "at": verdict.created_at.isoformat(),
    }


def progress_view(progress: Progress) -> dict[str, int]:
    """Counts of a batch."""
    return {
        "items": progress.items,
        "answered": progress.answered,
        "failed": progress.failed,
        "open": progress.open,
        "conflicts": progress.conflicts,
    }


def batch_view(batch: Batch, progress: Progress) -> dict[str, Any]:
    """A line in the list of batches: no model's name, for the list stands beside a sealed item."""
    return {
        "id": batch.id,
        "name": batch.name,
        "state": batch.state.value,
        "message": batch.message,
        "created_at": batch.created_at.isoformat(),
        "progress": progress_view(progress),
    }


def item_line(item: Item) -> dict[str, Any]:
    """A line in the list of items: says nothing of which answer is whose."""
    answered = item.answered
    return {
        "item_id": item.id,
        "key": item.question.key,
        "prompt": item.question.prompt[:200],
        "image": f"media/{item.question.images[0].sha256}.png" if item.question.images else None,
        "state": item.state.value,
        "failure": item.failure,
        "outcome": item.outcome,
        "verdicts": item.verdicts,
        "differ": answered is not None and answered.disagreement > 0,
        "divergence_nats": answered.divergence_nats if answered else None,
    }


def created_view(created: Created) -> dict[str, Any]:
    """What became of a form, with the rows that could not be used."""
    return {
        "batch": created.batch.id if created.batch else None,
        "questions": created.questions,
        "items": created.items,
        "faults": [fault_view(fault) for fault in created.faults[:_FAULTS_SHOWN]],
        "more_faults": max(0, len(created.faults) - _FAULTS_SHOWN),
    }


def fault_view(fault: Fault) -> dict[str, str]:
    """One row that could not be used."""
    return {"row": fault.row, "field": fault.field, "message": fault.message}
