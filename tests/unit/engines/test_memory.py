"""Free memory and the count of kills, from forged files of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.engines.memory import free_memory_bytes, in_gib, oom_kills


def test_no_container_means_the_machine(tmp_path: Path) -> None:
    assert free_memory_bytes(tmp_path) > 2**20
    assert oom_kills(tmp_path) == 0


@pytest.mark.parametrize(
    ("limit", "used"),
    [("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")],
)
def test_a_container_limit_counts(tmp_path: Path, limit: str, used: str) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text("3000\n")
    (tmp_path / used).write_text("1000\n")
    assert free_memory_bytes(tmp_path) == 2000
    (tmp_path / limit).write_text("max\n")
    assert free_memory_bytes(tmp_path) > 2**20


def test_f14_kills_are_counted(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert oom_kills(tmp_path) == 2


def test_bytes_for_people() -> None:
    assert in_gib(3 * 2**29) == "1.5 GiB"
