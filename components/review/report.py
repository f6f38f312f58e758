"""What the verdicts of a batch add up to: counts with intervals, a sign test, agreement, the coverage curve. Pure.

Every share says what it is a share of. Judged items were mostly chosen by divergence, so their shares are not the
model's; only the random slice estimates those.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from components.core.resampling import mcnemar_exact_p
from components.core.reviews import Item, ReviewOutcome, Verdict
from components.core.statistics import wilson_of_counts
from components.review.agreement import agreement

_CURVE_POINTS = 101
_WORST = 24
_MOST_TURNS = 1000  # as many as a recipe's calibration data takes
REGRESSED, IMPROVED = ReviewOutcome.REGRESSED.value, ReviewOutcome.IMPROVED.value


def report_of(items: Sequence[Item], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The whole report as JSON values.

    Args:
        items: all items of a batch.
        verdicts: its current verdicts.
    """
    answered = [item for item in items if item.answered is not None]
    judged = [item for item in answered if item.outcome is not None]
    by_item: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_item[verdict.item_id].append(verdict)
    return {
        "items": len(items),
        "answered": len(answered),
        "judged": len(judged),
        "reviewers": sorted({verdict.reviewer for verdict in verdicts}),
        "verdicts": len(verdicts),
        "outcomes": _outcomes(judged),
        "estimate": _estimate([item for item in judged if item.in_slice], sum(item.in_slice for item in answered)),
        "by_tag": _by(judged, lambda item: item.question.tags or ("(no tag)",)),
        "by_candidate": _by(judged, lambda item: (item.candidate_engine,)),
        "by_error_type": _claims(judged, by_item),
        "agreement": agreement(verdicts),
        "curve": coverage_curve(answered, lambda item: None if item.outcome is None else item.outcome == REGRESSED),
        "curve_by_reference": coverage_curve(answered, regressed_by_reference),
        "curve_of_disagreement_by_reference": coverage_curve(answered, regressed_by_reference, "disagreement"),
        "divergence_mass": divergence_mass(answered),
        "reference": _reference(answered),
        "regressed_turns": list(dict.fromkeys(item.trace_id for item in _regressed(judged)))[:_MOST_TURNS],
        "worst": [worst_row(item, by_item[item.id]) for item in _regressed(judged)[:_WORST]],
        "seconds_per_item": _median([v.seconds for v in verdicts if v.seconds is not None and v.round == 1]),
    }


def _outcomes(judged: Sequence[Item]) -> dict[str, Any]:
    counts = Counter(str(item.outcome) for item in judged)
    names = (*(outcome.value for outcome in ReviewOutcome), "conflict")
    worse, better = counts[REGRESSED], counts[IMPROVED]
    return {
        "counts": {name: counts[name] for name in names},
        "shares": {name: _share(counts[name], len(judged)) for name in names} if judged else {},
        "sign_test_p": sign_test(worse, better),
    }


def sign_test(worse: int, better: int) -> float | None:
    """Two-sided exact p of the sign test: as uneven a split, were worse and better equally likely. None without any.

    Source:
        Conover 1999, "Practical nonparametric statistics", section 3.4. It is McNemar's exact test.
    """
    return mcnemar_exact_p(worse, better) if worse + better else None


def _share(hits: int, total: int) -> dict[str, Any]:
    found = wilson_of_counts(hits, total)
    return {"value": found.value, "low": found.low, "high": found.high, "hits": hits, "of": total}


def _estimate(judged: Sequence[Item], in_slice: int) -> dict[str, Any]:
    """Shares of the whole batch, from the judged part of the random slice; null while nothing of it is judged."""
    if not judged:
        return {"judged": 0, "slice": in_slice, "regressed": None, "improved": None}
    counts = Counter(item.outcome for item in judged)
    return {
        "judged": len(judged),
        "slice": in_slice,
        "regressed": _share(counts[REGRESSED], len(judged)),
        "improved": _share(counts[IMPROVED], len(judged)),
    }


def _by(judged: Sequence[Item], groups_of: Callable[[Item], Iterable[str]]) -> list[dict[str, Any]]:
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in judged:
        for name in groups_of(item):
            groups[name].append(item)
    rows = []
    for name, members in groups.items():
        counts = Counter(item.outcome for item in members)
        worse, better = counts[REGRESSED], counts[IMPROVED]
        rows.append(
            {
                "name": name,
                "judged": len(members),
                "regressed": _share(worse, len(members)),
                "improved": _share(better, len(members)),
                "sign_test_p": sign_test(worse, better),
            }
        )
    return sorted(rows, key=lambda row: (-row["regressed"]["hits"], -row["judged"], row["name"]))


def _claims(judged: Sequence[Item], by_item: dict[str, list[Verdict]]) -> list[dict[str, Any]]:
    """Of how many items each kind of error was claimed, by side; a claim about both answers counts for both."""
    counts: Counter[tuple[str, str]] = Counter()
    for item in judged:
        counts.update(  # an item counts once, however many reviewers said it
            {
                (claim.error_type.value, name)
                for verdict in by_item[item.id]
                for claim in verdict.claims
                for name in (("base", "candidate") if claim.other_too else (claimed_side(verdict, claim.answer),))
            }
        )
    types = {error_type for error_type, _ in counts}
    rows = [{"name": n, "base": counts[n, "base"], "candidate": counts[n, "candidate"]} for n in types]
    return sorted(rows, key=lambda row: (-int(row["candidate"]), str(row["name"])))


def claimed_side(verdict: Verdict, shown: str) -> str:
    """Which model a claim about the shown answer ``a`` or ``b`` is about."""
    return verdict.a_is if shown == "a" else ("candidate" if verdict.a_is == "base" else "base")


def regressed_by_reference(item: Item) -> bool | None:
    """Base right and candidate wrong by the reference answer; None without one."""
    answered = item.answered
    if answered is None or answered.base_matches is None or answered.candidate_matches is None:
        return None
    return answered.base_matches and not answered.candidate_matches


def coverage_curve(
    items: Sequence[Item], regressed: Callable[[Item], bool | None], order: str = "divergence"
) -> dict[str, Any] | None:
    """Share of the regressions found against share of items reviewed, in the order of divergence or disagreement.

    Over the items of which it is known whether they regressed; None where none is known to have.
    """
    known = [(item, found) for item in items if (found := regressed(item)) is not None]
    total = sum(found for _, found in known)
    if not total:
        return None
    found_so_far, shares = 0, [0.0]
    place_of = _divergence if order == "divergence" else _disagreement
    for _, hit in sorted(known, key=lambda pair: -place_of(pair[0])):
        found_so_far += hit
        shares.append(found_so_far / total)
    needed = next(place for place, share in enumerate(shares) if share >= 0.9)
    third = shares[round(len(known) / 3)]
    return {
        "items": len(known),
        "regressions": total,
        "found_in_first_third": third,
        "reviewed_for_90_percent": needed / len(known),
        "points": [[place / (_CURVE_POINTS - 1), shares[round(place * len(known) / (_CURVE_POINTS - 1))]]
                   for place in range(_CURVE_POINTS)],
    }  # fmt: skip


def divergence_mass(items: Sequence[Item]) -> dict[str, Any] | None:
    """Which share of the most divergent items holds 90 % of the summed divergence; None where none is known."""
    values = sorted((v for item in items if (v := _divergence(item)) >= 0), reverse=True)
    total = sum(values)
    if not total:
        return None
    running = 0.0
    for place, value in enumerate(values, start=1):
        running += value
        if running >= 0.9 * total:
            return {"items": len(values), "share_of_items": place / len(values), "share_of_divergence": 0.9}
    return None


def _divergence(item: Item) -> float:
    value = item.answered.divergence_nats if item.answered else None
    return -1.0 if value is None else value


def _disagreement(item: Item) -> float:
    return item.answered.disagreement if item.answered else -1.0


def _reference(items: Sequence[Item]) -> dict[str, Any] | None:
    """Right and wrong by the reference answers, without any reviewer; None where there are none."""
    known = [i.answered for i in items if i.answered is not None and i.answered.base_matches is not None]
    if not known:
        return None
    worse = sum(bool(a.base_matches) and not a.candidate_matches for a in known)
    better = sum(bool(a.candidate_matches) and not a.base_matches for a in known)
    return {
        "items": len(known),
        "base_right": _share(sum(bool(a.base_matches) for a in known), len(known)),
        "candidate_right": _share(sum(bool(a.candidate_matches) for a in known), len(known)),
        "regressed": _share(worse, len(known)),
        "improved": _share(better, len(known)),
        "sign_test_p": sign_test(worse, better),
    }


def _regressed(judged: Sequence[Item]) -> list[Item]:
    """Most divergent first."""
    return sorted((item for item in judged if item.outcome == REGRESSED), key=lambda item: -_divergence(item))


def worst_row(item: Item, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """One regressed item, for the gallery."""
    answered = item.answered
    said: dict[tuple[str, str, str, str], set[str]] = defaultdict(set)
    for verdict in verdicts:
        for claim in verdict.claims:
            side = claimed_side(verdict, claim.answer)
            said[side, claim.error_type.value, claim.severity.value, claim.text].add(verdict.reviewer)
    claims = [
        {"side": side, "error_type": error_type, "severity": severity, "text": text, "reviewers": len(who)}
        for (side, error_type, severity, text), who in said.items()
    ]
    return {
        "item_id": item.id,
        "trace_id": item.trace_id,
        "key": item.question.key,
        "prompt": item.question.prompt,
        "reference": item.question.reference,
        "images": [image.sha256 for image in item.question.images],
        "candidate_engine": item.candidate_engine,
        "base_text": answered.base_text if answered else "",
        "candidate_text": answered.candidate_text if answered else "",
        "divergence_nats": answered.divergence_nats if answered else None,
        "claims": claims,
        "notes": list(dict.fromkeys(verdict.note for verdict in verdicts if verdict.note)),
    }


def _median(values: Sequence[float]) -> float | None:
    ordered = sorted(values)
    if not ordered:
        return None
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
