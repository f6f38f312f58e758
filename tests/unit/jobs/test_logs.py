"""The end of a log as plain lines."""

from __future__ import annotations

from pathlib import Path

from components.jobs.launcher import BoundedLog, parse_stat
from components.jobs.logs import TAIL_BYTES, LogTail


def test_lines_are_plain_and_progress_bars_show_their_last_state(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"\x1b[36mone\x1b[0m\n\n 0%\r50%\r100%\nbad \xff byte\x07\n")
    assert LogTail(log).last(9) == ["one", "100%", "bad \ufffd byte"]
    assert LogTail(log).last(1) == ["bad \ufffd byte"]
    assert LogTail(log).last(0) == []


def test_missing_log_is_empty(tmp_path: Path) -> None:
    assert LogTail(tmp_path / "none").last(5) == []


def test_f19_only_a_bounded_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("cut off\n" + "x" * 79 + "\n" + ("y" * 79 + "\n") * (TAIL_BYTES // 80))
    lines = LogTail(log).last(10**6)
    assert len(lines) <= TAIL_BYTES // 80
    assert set(lines) == {"y" * 79}


def test_f19_log_turns_over_within_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = BoundedLog(path, 1000)
    for number in range(100):
        log.write(f"{number:049}\n".encode())
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 1000
    assert LogTail(path).last(12)[-1] == f"{99:049}"
    assert len(LogTail(path).last(12)) == 12


def test_process_names_may_hold_anything() -> None:
    name, fields = parse_stat("12 (a) b (c) S 1 12 12 0 -1")
    assert (name, fields[:3]) == ("a) b (c", ["S", "1", "12"])
