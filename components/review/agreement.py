"""How far reviewers agree beyond chance: with themselves on repeats, with each other on shared items. Pure.

The coefficients are NLTK's. Of the libraries it is the light one under a licence like ours, and it has both:
krippendorff is under the GPL; scikit-learn and statsmodels have no alpha and bring some 200 MB with scipy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from components.core.reviews import Verdict

NOTHING_SHARED = "no item was judged by two reviewers"
NO_REPEATS = "no item was judged again"
ONE_OUTCOME = "all verdicts have one and the same outcome"


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa of two series of labels of the same items, nominal.

    None where it is not defined: no item, or one and the same label throughout.

    Source:
        Cohen 1960, "A coefficient of agreement for nominal scales".
    """
    if len({label for pair in pairs for label in pair}) < 2:
        return None
    # Half a second that only a report has to wait for, not the start of the app.
    from nltk.metrics.agreement import AnnotationTask

    task = AnnotationTask([(who, item, pair[who]) for item, pair in enumerate(pairs) for who in (0, 1)])
    return float(task.kappa_pairwise(0, 1))


def krippendorff_alpha(units: Sequence[Sequence[str]]) -> float | None:
    """Krippendorff's alpha, nominal, any number of raters, missing judgements allowed.

    Args:
        units: per item, the labels it was given (missing ones left out); items with fewer than two do not count.

    None where it is not defined: nothing to pair, or only one label anywhere.

    Source:
        Krippendorff 2011, "Computing Krippendorff's alpha-reliability".
    """
    shared = [labels for labels in units if len(labels) > 1]
    if len({label for labels in shared for label in labels}) < 2:
        return None
    from nltk.metrics.agreement import AnnotationTask

    task = AnnotationTask(
        [(who, item, label) for item, labels in enumerate(shared) for who, label in enumerate(labels)]
    )
    return float(task.alpha())


def agreement(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Of reviewers with themselves (repeats with flipped sides) and with each other.

    A figure that is not defined is None, and the key of the same name with ``_missing`` says why.
    """
    first = {(v.item_id, v.reviewer): v.outcome.value for v in verdicts if v.round == 1 and not v.settles}
    second = {(v.item_id, v.reviewer): v.outcome.value for v in verdicts if v.round == 2}
    own = [(first[key], label) for key, label in second.items() if key in first]
    deciding = {v.item_id for v in verdicts if v.settles}
    units: dict[str, dict[str, str]] = defaultdict(dict)
    for (item_id, reviewer), label in first.items():
        units[item_id][reviewer] = label
    shared = [labels for labels in units.values() if len(labels) > 1]
    conflicts = {item_id for item_id, labels in units.items() if len(set(labels.values())) > 1}
    kappa, alpha = cohen_kappa(own), krippendorff_alpha([list(labels.values()) for labels in shared])
    return {
        "repeats": len(own),
        "self_agreement": sum(one == two for one, two in own) / len(own) if own else None,
        "self_kappa": kappa,
        "self_kappa_missing": None if kappa is not None else ONE_OUTCOME if own else NO_REPEATS,
        "shared_items": len(shared),
        "conflicts": len(conflicts),
        "conflicts_settled": len(conflicts & deciding),
        "krippendorff_alpha": alpha,
        "krippendorff_alpha_missing": None if alpha is not None else ONE_OUTCOME if shared else NOTHING_SHARED,
        "pairs": _pairs(shared),
    }


def _pairs(shared: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    names = sorted({name for labels in shared for name in labels})
    rows = []
    for place, one in enumerate(names):
        for two in names[place + 1 :]:
            both = [(labels[one], labels[two]) for labels in shared if one in labels and two in labels]
            if both:
                kappa = cohen_kappa(both)
                missing = ONE_OUTCOME if kappa is None else None
                rows.append(
                    {"reviewers": [one, two], "items": len(both), "cohen_kappa": kappa, "cohen_kappa_missing": missing}
                )
    return rows
