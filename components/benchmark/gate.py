"""``python app.py gate MODEL``: the verdict as an exit code, for CI.

0 = pass or warn, 1 = fail, 3 = not enough data, 2 = it could not be judged. Reads the records of a state folder whose
app does not run (SQLite has one writer), or a job's records.json, or the answer of ``/results`` saved to a file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
from pydantic import ValidationError

from components.benchmark.verdict import Verdict, judge, load_verdict_profile
from components.core.benchmarks import BenchmarkRecord
from components.core.errors import AppError, InputError
from components.settings import REPOSITORY, Settings, default_state_dir
from components.storage.benchmarks import BenchmarkRepository
from components.storage.database import Database, sqlite_url
from components.storage.state_lock import StateLock

EXIT_CODES = {"pass": 0, "warn": 0, "fail": 1, "not enough data": 3}
REFUSED = 2


def gate(argv: Sequence[str]) -> int:
    """Judge a candidate by its newest figures; prints each limit's sentence."""
    parser = argparse.ArgumentParser(prog="app.py gate", description="Judge a candidate by what was measured of it.")
    parser.add_argument("model", help="pair/model of the candidate")
    parser.add_argument("--state-dir", type=Path, default=None, help="folder of the records (default: the app's)")
    parser.add_argument("--records", type=Path, help="a job's records.json, or a saved answer of /results, instead")
    options = parser.parse_args(argv)
    try:
        records = _from_file(options.records) if options.records else _from_state(options.state_dir)
        own = [record for record in records if record.source == "measured" and record.model == options.model]
        if not own:
            known = ", ".join(sorted({record.model for record in records if record.base})) or "none"
            raise InputError(f"Nothing was measured of {options.model}.", f"Measured: {known}.", field="model")
        verdict = judge(own, load_verdict_profile(REPOSITORY / "profiles").limits)
    except AppError as exc:
        sys.stderr.write(f"The gate can't judge: {exc}\n")
        return REFUSED
    sys.stdout.write(report(options.model, verdict))
    return EXIT_CODES[verdict.outcome]


def report(model: str, verdict: Verdict) -> str:
    """The outcome, then every limit on a line."""
    lines = [f"{finding.outcome:16} {finding.sentence}" for finding in verdict.findings]
    return "\n".join([f"{model}: {verdict.outcome}", *lines]) + "\n"


def _from_state(state_dir: Path | None) -> list[BenchmarkRecord]:
    if state_dir is None and (url := _database_url()):
        return _measured(url)
    folder = state_dir or default_state_dir()
    if not (folder / "diptych.db").is_file():
        raise InputError(f"{folder} holds no records.", "Name the app's --state-dir, or --records.", field="state-dir")
    lock = StateLock(folder)
    lock.acquire()
    try:
        return _measured(sqlite_url(folder / "diptych.db"))
    finally:
        lock.release()


def _database_url() -> str:
    try:
        return Settings().database_url
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        raise InputError(f"DIPTYCH_{str(first['loc'][0]).upper()}: {first['msg']}.", field="settings") from exc


def _measured(url: str) -> list[BenchmarkRecord]:
    database = Database(url)
    database.open()
    try:
        return BenchmarkRepository(database).find(source="measured")
    finally:
        database.close()


def _from_file(file: Path) -> list[BenchmarkRecord]:
    try:
        document = orjson.loads(file.read_bytes())
        rows = document["records"] if isinstance(document, dict) else document
        return [BenchmarkRecord.model_validate(row) for row in rows]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValidationError) as exc:
        hint = "Accepted: records.json of a benchmark, or the list that /results gives."
        raise InputError(f"{file.name} holds no records.", hint, field="records", detail=str(exc)[:300]) from exc
