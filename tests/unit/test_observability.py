"""Metrics count what happened, the dashboard names nothing else, readiness says what is missing, logs are JSON."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.core.answers import Answer, Timing, Usage
from components.core.states import EngineState, Outcome
from components.engines.status import EngineSpec
from components.engines.supervisor import EngineHub
from components.engines.transport import EngineClient
from components.jobs.queue import JobQueue
from components.observability import JsonFormatter, Metrics, Readiness
from components.storage.database import Database, sqlite_url
from components.storage.jobs import JobRepository

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "diptych.json"
ENGINE = "pair/model"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(sqlite_url(tmp_path / "diptych.db"))
    database.open()
    yield database
    database.close()


@pytest.fixture
def hub() -> EngineHub:
    spec = EngineSpec(ENGINE, "model", connect=lambda: EngineClient("model", url="http://127.0.0.1:1"))
    return EngineHub([spec])


@pytest.fixture
def metrics(hub: EngineHub, database: Database) -> Metrics:
    return Metrics(hub, JobQueue(JobRepository(database)), ("quantize", "benchmark"))


def samples(metrics: Metrics) -> dict[str, float]:
    lines = [line for line in metrics.exposition().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_what_happened_is_counted(metrics: Metrics) -> None:
    metrics.turn("pair")
    timing = Timing(ttft_ms=80.0, tpot_ms=12.0)
    metrics.answer(ENGINE, Answer(outcome=Outcome.FINISHED, usage=Usage(output_tokens=7), timing=timing))
    metrics.answer(ENGINE, Answer(outcome=Outcome.FAILED))
    found = samples(metrics)
    assert found['diptych_turns_total{pair="pair"}'] == 1
    assert found[f'diptych_answers_total{{engine="{ENGINE}",outcome="finished"}}'] == 1
    assert found[f'diptych_answers_total{{engine="{ENGINE}",outcome="failed"}}'] == 1
    assert found[f'diptych_output_tokens_total{{engine="{ENGINE}"}}'] == 7
    assert found[f'diptych_ttft_seconds_bucket{{engine="{ENGINE}",le="0.05"}}'] == 0
    assert found[f'diptych_ttft_seconds_bucket{{engine="{ENGINE}",le="0.1"}}'] == 1
    assert found[f'diptych_ttft_seconds_count{{engine="{ENGINE}"}}'] == 1, "what was not measured is not counted"


def test_states_are_read_when_asked_for(metrics: Metrics, database: Database) -> None:
    found = samples(metrics)
    assert found[f'diptych_engine_state{{engine="{ENGINE}",state="STOPPED"}}'] == 1
    assert found[f'diptych_engine_state{{engine="{ENGINE}",state="RUNNING"}}'] == 0
    assert found["diptych_job_queue_length"] == 0
    JobQueue(JobRepository(database)).submit("quantize", {"a": 1}, "title")
    found = samples(metrics)
    assert found['diptych_jobs{kind="quantize",state="PENDING"}'] == 1
    assert found["diptych_job_queue_length"] == 1


def test_an_engine_that_is_up_counts_from_zero(
    metrics: Metrics, hub: EngineHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prometheus sees no growth in a counter that begins at 1: the only answer that failed would stand in no chart."""
    failed = f'diptych_answers_total{{engine="{ENGINE}",outcome="failed"}}'
    assert failed not in samples(metrics), "engines that were never started are left out"
    up = hub.status(ENGINE).model_copy(update={"state": EngineState.RUNNING})
    monkeypatch.setattr(hub, "statuses", lambda: [up])
    found = samples(metrics)
    assert found[failed] == 0
    assert f'diptych_answers_total{{engine="{ENGINE}",outcome="streaming"}}' not in found
    assert found['diptych_turns_total{pair="pair"}'] == 0
    assert found[f'diptych_ttft_seconds_count{{engine="{ENGINE}"}}'] == 0
    assert found['diptych_scoring_seconds_count{method="exact"}'] == 0


def test_panels_keep_to_the_app_where_others_have_metrics_of_that_name() -> None:
    """Most programs that Prometheus reads export process_…, Prometheus itself too."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            if "process_" in target["expr"]:
                assert " and on (job, instance) diptych_" in target["expr"]


def test_every_metric_of_the_dashboard_exists(metrics: Metrics) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    there = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", metrics.exposition().decode(), flags=re.MULTILINE):
        there |= {f"{name}{end}" for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 8
    used = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"\b(?:diptych|process)_\w+", target["expr"])
    }
    assert used
    assert used <= there
    own = {name.removesuffix("_bucket") for name in used if name.startswith("diptych_")}
    families = re.findall(r"^# TYPE (diptych_\S+)", metrics.exposition().decode(), flags=re.MULTILINE)
    assert own == {name for name in families if not name.endswith("_created")}, "each of ours is shown"


def test_readiness_names_what_is_missing(hub: EngineHub, database: Database, tmp_path: Path) -> None:
    assert Readiness(database, tmp_path, hub, ()).missing(named=True) == []
    waiting = Readiness(database, tmp_path, hub, (ENGINE,))
    assert waiting.missing(named=True) == [f"{ENGINE} is STOPPED: not ready"]
    assert waiting.missing(named=False) == ["1 of 1 engines are not ready."]
    (gone,) = Readiness(database, tmp_path / "gone", hub, ()).missing(named=True)
    assert gone.startswith("Records can't be written: ")
    assert Readiness(database, tmp_path / "gone", hub, ()).missing(named=False) == ["Records can't be written."]


def test_a_closed_database_is_not_ready(hub: EngineHub, tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "diptych.db"))
    (found,) = Readiness(database, tmp_path, hub, ()).missing(named=True)
    assert "not open" in found


def test_a_log_line_is_one_json_object() -> None:
    try:
        raise ValueError("line one\nline two")
    except ValueError:
        record = logging.LogRecord("room", logging.ERROR, "f", 1, "it %s\n“x”", ("broke",), sys.exc_info())
    text = JsonFormatter().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["logger"], line["message"]) == ("ERROR", "room", "it broke\n“x”")
    assert "line two" in line["exception"]
    assert line["time"].endswith("+00:00")
