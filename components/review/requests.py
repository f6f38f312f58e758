"""What callers send, checked: a reviewer's name, a verdict, a filter, a new batch. Pure; refusals name the field."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from components.core.errors import InputError
from components.core.reviews import MAX_CLAIMS, MAX_NOTE, Choice, Claim, ReviewOutcome
from components.storage.review_given import Judgement
from components.storage.review_rows import ItemFilter

MAX_REVIEWER = 80
MAX_DRAFT = 200_000
VERDICT_FIELDS = ("item_id", "verdict", "a_right", "b_right", "outcome", "claims", "note", "zoomed")
FILTER_FIELDS = ("reviewer", "batch", "format", "outcome", "tag", "text", "different_only", "history")


def check_reviewer(name: Any) -> str:
    """A reviewer's name.

    Raises:
        InputError: it is empty, too long, or holds what can't be seen.
    """
    text = name.strip() if isinstance(name, str) else ""
    seen = not any(unicodedata.category(letter).startswith("C") for letter in text)
    if not text or len(text) > MAX_REVIEWER or not seen:
        raise InputError(
            "A reviewer needs a name.", f"Accepted: 1 to {MAX_REVIEWER} visible characters.", field="reviewer"
        )
    return text


def read_judgement(given: Any) -> tuple[str, Judgement]:
    """The item's id and the verdict of ``{item_id, verdict, a_right, b_right, outcome, claims, note}``.

    Raises:
        InputError: naming the field and what is accepted.
    """
    _check_object(given, VERDICT_FIELDS, "verdict")
    item_id = given.get("item_id")
    if not isinstance(item_id, str) or not item_id:
        raise InputError("item_id is missing.", "Accepted: the item_id that /review_next gave.", field="item_id")
    note = given.get("note") or ""
    if not isinstance(note, str) or len(note) > MAX_NOTE:
        raise InputError("The note is not acceptable.", f"Accepted: up to {MAX_NOTE:,} characters.", field="note")
    outcome = given.get("outcome") or None
    return item_id, Judgement(
        verdict=Choice(_one_of(given.get("verdict"), [choice.value for choice in Choice], "verdict")),
        a_right=_flag(given.get("a_right"), "a_right"),
        b_right=_flag(given.get("b_right"), "b_right"),
        outcome=ReviewOutcome(_one_of(outcome, [o.value for o in ReviewOutcome], "outcome")) if outcome else None,
        claims=_claims(given.get("claims")),
        note=note,
        zoomed=bool(_flag(given.get("zoomed"), "zoomed")),
    )


def _check_object(given: Any, fields: Sequence[str], name: str) -> None:
    if not isinstance(given, Mapping):
        raise InputError(f"{name} is no object.", f"Accepted fields: {', '.join(fields)}.", field=name)
    unknown = sorted(str(key) for key in set(given) - set(fields))
    if unknown:
        raise InputError(
            f"{unknown[0][:80]!r} is no field of it.", f"Accepted fields: {', '.join(fields)}.", field=name
        )


def _one_of(value: Any, accepted: Sequence[str], name: str) -> str:
    if value not in accepted:
        raise InputError(f"{str(value)[:80]!r} is no {name}.", f"Accepted: {', '.join(accepted)}.", field=name)
    return str(value)


def _flag(value: Any, name: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise InputError(f"{name} is not acceptable.", "Accepted: true, false or null.", field=name)
    return value


def _claims(given: Any) -> tuple[Claim, ...]:
    if given in (None, []):
        return ()
    if not isinstance(given, list) or len(given) > MAX_CLAIMS:
        raise InputError("claims is no list of claims.", f"Accepted: up to {MAX_CLAIMS} objects.", field="claims")
    try:
        return tuple(Claim.model_validate(claim) for claim in given)
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "claim"
        raise InputError(
            f"A claim is not acceptable: {place}: {first['msg']}.",
            f"Accepted fields: {', '.join(Claim.model_fields)}.",
            field="claims",
        ) from exc


@dataclass(frozen=True)
class ExportWish:
    """Which verdicts to export, and how."""

    reviewer: str
    batch: str
    format: str
    items: ItemFilter
    history: bool  # those replaced and withdrawn too


def read_export(given: Any) -> ExportWish:
    """The filter of ``/review_export``.

    Raises:
        InputError: naming the field and what is accepted.
    """
    given = {} if given is None else given
    _check_object(given, FILTER_FIELDS, "filter")
    for name in ("reviewer", "batch", "format", "outcome", "tag", "text"):
        if not isinstance(given.get(name) or "", str):
            raise InputError(f"{name} is no text.", field=name)
    return ExportWish(
        reviewer=check_reviewer(given["reviewer"]) if given.get("reviewer") else "",
        batch=given.get("batch") or "",
        format=given.get("format") or "",
        items=read_filter(given),
        history=bool(_flag(given.get("history"), "history")),
    )


def read_filter(given: Mapping[str, Any]) -> ItemFilter:
    """Which items: outcome, text, tag, only different answers, a range of divergence.

    Raises:
        InputError: naming the field.
    """
    return ItemFilter(
        outcome=str(given.get("outcome") or "") or None,
        different_only=bool(_flag(given.get("different_only"), "different_only")),
        text=str(given.get("text") or "")[:500],
        tag=str(given.get("tag") or "")[:100],
        min_nats=_nats(given.get("min_nats"), "min_nats"),
        max_nats=_nats(given.get("max_nats"), "max_nats"),
    )


def _nats(value: Any, name: str) -> float | None:
    if value in (None, ""):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < float("inf"):
        raise InputError(f"{name} is no divergence.", "Accepted: a number of nats from 0.", field=name)
    return number


@dataclass(frozen=True)
class NewBatch:
    """What a person asks for: where the questions are, and which engines answer them."""

    name: str
    upload: str  # token of an upload; empty where a folder is given
    folder: str
    prompts: tuple[str, ...]
    base: str
    candidates: tuple[str, ...]
    system: str
    max_tokens: int | None
    overlap: float
    hub: str = ""  # a data set of the hub; empty = none


def read_new_batch(given: Mapping[str, Any]) -> NewBatch:
    """From the page's form.

    Raises:
        InputError: naming the field.
    """
    name = " ".join(str(given.get("name") or "").split())[:120] or "Batch"
    prompts = tuple(line.strip() for line in str(given.get("prompts") or "").splitlines() if line.strip())
    candidates = given.get("candidates")
    if not isinstance(candidates, list) or not 1 <= len(candidates) <= 3:
        raise InputError("Choose the candidates to be reviewed.", "Accepted: one to three.", field="candidates")
    overlap = given.get("overlap") or 0
    if not isinstance(overlap, int | float) or not 0 <= overlap <= 1:
        raise InputError("The overlap is not acceptable.", "Accepted: 0 to 100 %.", field="overlap")
    tokens = str(given.get("max_tokens") or "")
    if tokens and (not tokens.isascii() or not tokens.isdigit() or not 1 <= int(tokens) <= 32768):
        raise InputError("Max tokens is not acceptable.", "Accepted: 1 to 32768.", field="max_tokens")
    return NewBatch(
        name=name, upload=str(given.get("upload") or ""), folder=str(given.get("folder") or "").strip(),
        hub=str(given.get("hub") or "").strip()[:300],
        prompts=prompts, base=str(given.get("base") or ""),
        candidates=tuple(dict.fromkeys(str(engine) for engine in candidates)), system=str(given.get("system") or ""),
        max_tokens=int(tokens) if tokens else None, overlap=float(overlap),
    )  # fmt: skip
