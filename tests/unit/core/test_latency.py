"""Latencies from arrival times, and what they don't say."""

from __future__ import annotations

import pytest

from components.core.latency import timing_from_arrivals


def test_the_first_token_counts_for_ttft_and_not_for_tpot() -> None:
    timing = timing_from_arrivals([100.0, 110.0, 120.0, 130.0], 131.0)
    assert (timing.ttft_ms, timing.tpot_ms, timing.e2el_ms) == (100.0, 10.0, 131.0)
    assert timing.output_tokens_per_s == pytest.approx(100.0)


@pytest.mark.parametrize("arrivals_ms", [[100.0], [100.0] * 8, [100.0 + 0.045 * number for number in range(60)]])
def test_tokens_that_came_in_one_piece_have_no_speed(arrivals_ms: list[float]) -> None:
    timing = timing_from_arrivals(arrivals_ms, 105.0)
    assert (timing.ttft_ms, timing.e2el_ms) == (100.0, 105.0)
    assert (timing.tpot_ms, timing.output_tokens_per_s) == (None, None)


def test_nothing_came() -> None:
    timing = timing_from_arrivals([], 42.0)
    assert (timing.ttft_ms, timing.tpot_ms, timing.e2el_ms) == (None, None, 42.0)
