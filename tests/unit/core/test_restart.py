"""The restart policy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.restart import RestartPolicy, restart_delay_s

MIDDLE = 0.5  # no jitter
PATIENT = RestartPolicy(max_starts=99)


@pytest.mark.parametrize(("starts", "expected"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 16), (50, 16)])
def test_f10_delays_double_up_to_a_limit(starts: int, expected: float) -> None:
    assert restart_delay_s(PATIENT, [0.0] * starts, starts, 1.0, MIDDLE) == expected


def test_f10_five_starts_in_five_minutes_are_enough() -> None:
    policy = RestartPolicy()
    assert restart_delay_s(policy, [0, 2, 5, 10], 4, 20, MIDDLE) == 8
    assert restart_delay_s(policy, [0, 2, 5, 10, 20], 5, 30, MIDDLE) is None


def test_f10_old_starts_are_forgotten() -> None:
    policy = RestartPolicy()
    assert restart_delay_s(policy, [0, 2, 5, 10, 400], 0, 500, MIDDLE) == 1
    assert restart_delay_s(policy, [0, 2, 5, 10, 20], 0, 301, MIDDLE) == 8


def test_f10_slow_failing_starts_end_too() -> None:
    starts = [0.0, 200.0, 400.0, 600.0, 800.0]
    assert restart_delay_s(RestartPolicy(), starts, 5, 1000, MIDDLE) is None


@given(st.integers(1, 4), st.floats(0, 1, exclude_max=True))
def test_f10_jitter_stays_within_its_share(starts: int, chance: float) -> None:
    delay = restart_delay_s(RestartPolicy(), [0.0] * starts, starts, 1.0, chance)
    middle = 2.0 ** (starts - 1)
    assert delay is not None
    assert 0.9 * middle <= delay <= 1.1 * middle
