"""The gate: outcomes as exit codes, and refusals that name what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.benchmark.gate import REFUSED, gate
from components.core.benchmarks import RecordBatch
from tests.unit.benchmark.test_verdict import record


def full(kl: float, ratio: float = 1.0, recovery: float = 99.9, **spread: float) -> RecordBatch:
    ends = (kl * 0.9, kl * 1.1)
    rows = [
        record(kl, *ends),
        record(ratio, metric="perplexity_ratio", id="benchmark-1-0002"),
        record(99.0, metric="same_top_p_percent", id="benchmark-1-0003"),
        record(recovery, metric="recovery_percent", suite="accuracy", id="benchmark-1-0004"),
        record(100.0, metric="success_percent", suite="throughput", id="benchmark-1-0005"),
    ]
    return RecordBatch(records=tuple(rows))


@pytest.mark.parametrize(
    ("batch", "code", "words"),
    [
        (full(0.001), 0, "p/w4: pass"),
        (full(0.05), 0, "p/w4: warn"),
        (full(0.5), 1, "p/w4: fail"),
        (full(0.001, recovery=80.0), 1, "p/w4: fail"),
        (full(0.1), 3, "p/w4: not enough data"),
        (RecordBatch(records=full(0.001).records[:2]), 3, "was not measured"),
    ],
)
def test_outcomes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], batch: RecordBatch, code: int, words: str
) -> None:
    file = tmp_path / "records.json"
    file.write_bytes(batch.model_dump_json().encode())
    assert gate(["p/w4", "--records", str(file)]) == code
    assert words in capsys.readouterr().out


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "records.json"
    file.write_bytes(full(0.001).model_dump_json().encode())
    assert gate(["p/other", "--records", str(file)]) == 2
    assert "Measured: p/w4." in capsys.readouterr().err
    file.write_text("[1]")
    assert gate(["p/w4", "--records", str(file)]) == 2
    assert gate(["p/w4", "--state-dir", str(tmp_path)]) == 2
    assert "holds no records" in capsys.readouterr().err


def test_a_setting_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DIPTYCH_DATABASE_URL", "mysql://someone:hidden@host/name")
    assert gate(["p/w4"]) == REFUSED
    said = capsys.readouterr().err
    assert "DIPTYCH_DATABASE_URL" in said
    assert "hidden" not in said
