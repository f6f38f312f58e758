"""Bootstrap over groups, McNemar's exact test, Wilson's interval, survival: against small literal cases."""

from __future__ import annotations

import numpy as np
import pytest

from components.core.errors import InputError
from components.core.resampling import bootstrap, mcnemar_exact_p, paired, survival
from components.core.statistics import wilson_of_counts


def test_the_bootstrap_holds_the_value_and_narrows_with_more_groups() -> None:
    rng = np.random.default_rng(3)

    def width(count: int) -> float:
        groups = [rng.normal(5.0, 1.0, size=(20, 1)) for _ in range(count)]
        (found,) = bootstrap(groups, lambda table: np.array([table.mean()]))
        assert found is not None
        assert found.low < found.value < found.high
        assert found.value == pytest.approx(np.concatenate(groups).mean())
        return found.high - found.low

    assert width(400) < width(10) / 3


def test_equal_groups_have_no_spread_and_one_group_no_interval() -> None:
    group = np.array([[1.0], [2.0]])
    (found,) = bootstrap([group] * 4, lambda table: np.array([table.mean()]))
    assert found is not None
    assert (found.low, found.value, found.high) == (1.5, 1.5, 1.5)
    assert bootstrap([group], lambda table: np.array([table.mean()])) == [None]


@pytest.mark.parametrize(
    ("base_only", "candidate_only", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (10, 0, 2 / 1024), (1, 8, 2 * (1 + 9) / 512), (1, 0, 1.0)],
)
def test_mcnemar(base_only: int, candidate_only: int, p: float) -> None:
    assert mcnemar_exact_p(base_only, candidate_only) == pytest.approx(p)
    assert mcnemar_exact_p(candidate_only, base_only) == pytest.approx(p)


def test_paired_scores() -> None:
    found = paired([1, 1, 1, 0] * 10, [1, 0, 1, 1] * 10)
    assert (found.base, found.candidate, found.base_only, found.candidate_only) == (0.75, 0.75, 10, 10)
    assert found.recovery_percent is not None
    assert found.recovery_percent.value == 100.0
    assert found.recovery_percent.low < 100 < found.recovery_percent.high
    nothing = paired([0, 0], [0, 1])
    assert nothing.recovery_percent is None  # no ratio of nothing
    with pytest.raises(InputError):
        paired([1], [1, 0])


def test_few_items_without_a_change_are_no_proof() -> None:
    few, many = paired([1, 1, 1], [1, 1, 1]), paired([1, 0] * 200, [1, 0] * 200)
    assert few.difference is not None and few.recovery_percent is not None and many.recovery_percent is not None
    assert (few.difference.low, few.difference.high) == (pytest.approx(-0.5615, abs=1e-4), 0.0)
    assert (few.recovery_percent.low, few.recovery_percent.high) == (pytest.approx(43.85, abs=0.01), 100.0)
    assert few.interval == "95 %, Wilson: no item's score changed"
    assert (many.recovery_percent.low, many.recovery_percent.high) == pytest.approx((98.1, 101.9), abs=0.01)
    assert paired([0, 0], [0, 0]).recovery_percent is None


def test_wilson() -> None:
    found = wilson_of_counts(8, 10)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_of_counts(0, 5).low == 0.0


def test_survival() -> None:
    assert survival([0, 2, None, 2], 4).tolist() == [0.75, 0.75, 0.25, 0.25]
