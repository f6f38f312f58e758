"""When a server that ended may be started again. Pure: times come in, a delay comes out."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from components.core.answers import Record


class RestartPolicy(Record):
    """Exponential back-off with a limit on starts, as supervisord and systemd have it."""

    first_delay_s: float = Field(default=1.0, description="Wait after the first failure; doubles with each further one")
    longest_delay_s: float = Field(default=16.0, description="The doubling stops here")
    jitter: float = Field(default=0.1, ge=0.0, lt=1.0, description="Largest relative change of a delay")
    max_starts: int = Field(default=5, ge=1, description="So many starts within the window, or so many failed starts")
    window_s: float = Field(default=300.0, description="Starts longer ago are forgotten")


def restart_delay_s(
    policy: RestartPolicy, starts_s: Sequence[float], failed_starts: int, now_s: float, chance: float
) -> float | None:
    """How long to wait before the next start.

    Args:
        policy: delays and limits, in seconds.
        starts_s: (n,) monotonic times in s of all starts since a person last asked for one, ascending.
        failed_starts: how many of the latest starts in a row never came to running. Counted apart from the window,
            because five starts of a large model that fail after two minutes each don't fit into five minutes.
        now_s: monotonic time in s.
        chance: uniform in [0, 1), for the jitter that keeps engines from restarting in step.

    Returns:
        The delay in s; None when it is time to give up (FATAL).

    Source:
        supervisord's BACKOFF, systemd's StartLimit; numbers from reliability.md F10.
    """
    recent = sum(now_s - start < policy.window_s for start in starts_s)
    if max(recent, failed_starts) >= policy.max_starts:
        return None
    doublings = max(recent, failed_starts, 1) - 1
    delay_s = min(policy.first_delay_s * 2.0**doublings, policy.longest_delay_s)
    return delay_s * (1.0 + policy.jitter * (2.0 * chance - 1.0))
