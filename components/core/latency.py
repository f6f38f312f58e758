"""Latency definitions of the field, from arrival times."""

from __future__ import annotations

from collections.abc import Sequence

from components.core.answers import Timing

# Tokens closer together than this lay there already: reading one takes us up to 0.15 ms, no engine writes one so soon.
_LEAST_TPOT_MS = 0.2


def timing_from_arrivals(arrivals_ms: Sequence[float], end_ms: float | None) -> Timing:
    """Latencies of one streamed answer.

    Args:
        arrivals_ms: (n,) arrival time of every output token, in ms after the request was sent, ascending.
        end_ms: time of the stream's end in ms after the request was sent; None when it never ended.

    Returns:
        TTFT = first arrival; TPOT = (last - first) / (n - 1), the first token excluded; E2EL = end;
        ``output_tokens_per_s`` = 1000 / TPOT, the decode speed. None where it is not defined (n = 0, n = 1) or was not
        seen: tokens that came in one piece, less than 0.2 ms apart, say nothing about the time between them.

    Source:
        vllm/benchmarks/serve.py (TPOT excludes the first token).
    """
    if not arrivals_ms:
        return Timing(e2el_ms=end_ms)
    first, last, count = arrivals_ms[0], arrivals_ms[-1], len(arrivals_ms)
    apart = (last - first) / (count - 1) if count > 1 else 0.0
    tpot = apart if apart >= _LEAST_TPOT_MS else None
    return Timing(
        ttft_ms=first,
        tpot_ms=tpot,
        e2el_ms=end_ms,
        output_tokens_per_s=None if tpot is None else 1000.0 / tpot,
    )
