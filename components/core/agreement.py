"""How far judgements agree beyond chance, and whether a difference of two counts is one. Pure, exact arithmetic.

No statistics package is among the requirements, so each figure is computed from its definition; tests hold the worked
examples of the sources.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import permutations

from components.core.errors import InputError
from components.core.statistics import Interval

_Z95 = 1.959963984540054


def cohen_kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Cohen's kappa of two raters over the same items, nominal: ``(p_o - p_e) / (1 - p_e)``.

    None where it is not defined: no item, or both raters used one and the same label throughout.

    Source:
        Cohen 1960, "A coefficient of agreement for nominal scales".
    """
    total = len(pairs)
    if not total:
        return None
    first, second = Counter(one for one, _ in pairs), Counter(two for _, two in pairs)
    observed = sum(one == two for one, two in pairs) / total
    expected = sum(first[label] * second[label] for label in first) / total**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def krippendorff_alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha, nominal, any number of raters, missing judgements allowed.

    Args:
        units: per item, the labels it was given (missing ones left out); items with fewer than two are not pairable.

    None where it is not defined: nothing to pair, or only one label anywhere.

    Source:
        Krippendorff 2011, "Computing Krippendorff's alpha-reliability".
    """
    coincidences: defaultdict[tuple[Hashable, Hashable], float] = defaultdict(float)
    for labels in units:
        for one, two in permutations(labels, 2):
            coincidences[one, two] += 1 / (len(labels) - 1)
    margins: defaultdict[Hashable, float] = defaultdict(float)
    for (one, _), weight in coincidences.items():
        margins[one] += weight
    total = sum(margins.values())
    disagreed = sum(weight for (one, two), weight in coincidences.items() if one != two)
    expected = sum(margins[one] * margins[two] for one, two in permutations(margins, 2))
    return None if not expected else 1 - (total - 1) * disagreed / expected


def wilson(hits: int, total: int) -> Interval:
    """A share with its 95 % Wilson score interval.

    Raises:
        InputError: no trial, or more hits than trials.

    Source:
        Wilson 1927; Agresti & Coull 1998 compare it with others.
    """
    if total <= 0 or not 0 <= hits <= total:
        raise InputError("A share needs at least one trial, and no more hits than trials.", field="total")
    share, z2 = hits / total, _Z95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    # At the ends the two parts cancel; rounding would leave a trace of them.
    return Interval(share, max(0.0, middle - half) if hits else 0.0, min(1.0, middle + half) if hits < total else 1.0)


def sign_test(worse: int, better: int) -> float | None:
    """Two-sided exact p of the sign test: as uneven a split, were worse and better equally likely. None without any.

    Source:
        Conover 1999, "Practical nonparametric statistics", section 3.4. It is McNemar's exact test.
    """
    total = worse + better
    if not total:
        return None
    tail = sum(math.comb(total, k) for k in range(min(worse, better) + 1))
    return min(1.0, float(2 * tail / 2**total))
