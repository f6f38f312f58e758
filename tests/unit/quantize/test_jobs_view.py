"""Jobs as the page and the API show them: only what was measured, only what may be done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from components.core.jobs import Job
from components.core.states import JobState
from components.jobs.progress import JobProgress
from components.jobs.service import JobView
from components.quantize.view_model import board_view, duration, job_api_view, size, summary

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
RESULT: dict[str, Any] = {
    "size_before_bytes": 41_200_000, "size_after_bytes": 15_900_000, "bits_per_weight": 6.2,
    "bits_per_quantized_weight": 4.19, "weights": 20_600_000, "quantized_weights": 12_400_000,
    "stays_16_bit": [{"name": "vision tower", "size_bytes": 9_000_000}], "engine_id": "embedded/w4a16-gptq-1",
    "check": {"sight": "sees", "prompt": "Describe the picture.", "answer": "A red circle.",
              "mean_kl_base_to_candidate_nats": 0.00213, "noise_floor_nats": 1e-7, "kl_missing": ""},
}  # fmt: skip


def view(name: str, state: JobState, **changes: Any) -> JobView:
    job = {
        "id": name, "kind": "quantize", "title": name, "fingerprint": name, "created_at": NOW, "state": state,
        "spec": {},
    }  # fmt: skip
    progress = changes.pop("progress", JobProgress())
    told = {name: changes.pop(name) for name in ("waiting", "stoppable", "note") if name in changes}
    return JobView(job=Job.model_validate({**job, **changes}), progress=progress, **told)


def board(*views: JobView, may_control: bool = True, engines: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    shown = board_view(
        views, NOW, may_control=may_control, files=lambda _: ["log.txt"], known_engines=engines,
    )  # fmt: skip
    return list(shown["jobs"])


def test_only_what_may_be_done_is_offered() -> None:
    rows = board(
        view("running", JobState.RUNNING), view("first", JobState.PENDING), view("second", JobState.PENDING),
        view("stopping", JobState.STOPPING), view("failed", JobState.FAILED), view("done", JobState.SUCCEEDED),
    )  # fmt: skip
    assert [row["actions"] for row in rows] == [
        ["cancel"], ["cancel", "down"], ["cancel", "up"], [], ["retry", "duplicate"], ["publish", "duplicate"],
    ]  # fmt: skip


def test_a_job_on_a_cluster_says_so_and_what_it_waits_for() -> None:
    mark = {"address": "http://head.example:8265", "submission_id": "away"}
    away = view("away", JobState.RUNNING, process=mark, note="Waits on the cluster for a node with 2 CPUs free.")
    row = board(away)[0]
    assert (row["message"], row["facts"]) == (
        "Waits on the cluster for a node with 2 CPUs free.",
        ["on the Ray cluster"],
    )
    assert board(view("part", JobState.FAILED, kind="batch", process=mark))[0]["actions"] == []


def test_what_was_published_is_told_and_offers_nothing_more() -> None:
    sent = {
        "repo_id": "ann/x", "url": "https://hub/ann/x", "commit": "0f", "private": True, "files": 3,
        "size_bytes": 5_000_000,
    }  # fmt: skip
    row = board(view("sent", JobState.SUCCEEDED, kind="publish", result=sent))[0]
    assert row["summary"] == [
        ["Repository", "https://hub/ann/x"], ["Commit", "0f"], ["Seen by", "you and your organisation"],
        ["Sent", "3 files, 5 MB"],
    ]  # fmt: skip
    assert row["actions"] == []


def test_a_visitor_sees_states_and_no_files_or_actions() -> None:
    waits = view("a", JobState.PENDING, waiting="Waits for memory.", stoppable=("embedded/base",))
    for row in board(waits, view("b", JobState.FAILED, failure_reason="No."), may_control=False):
        assert (row["actions"], row["files"], row["stops"]) == ([], [], [])
    failed = view("c", JobState.FAILED, failure_reason="A line of /home/owner/log.", result=None)
    assert board(failed, may_control=False)[0]["message"] == "Failed."
    assert board(view("d", JobState.SUCCEEDED, result=RESULT), may_control=False)[0]["summary"] == []
    told = job_api_view(failed, ["a line"], may_control=False)
    assert (told["message"], told["log_tail"], told["result"], told["failure_reason"]) == ("Failed.", [], None, None)


def test_compare_is_offered_when_the_engine_is_there() -> None:
    done = view("a", JobState.SUCCEEDED, result=RESULT)
    assert board(done)[0]["engine"] is None
    assert board(done, engines=("embedded/w4a16-gptq-1",))[0]["engine"] == "embedded/w4a16-gptq-1"


def test_facts_of_a_running_job() -> None:
    progress = JobProgress(step=3, steps=24, remaining_s=84, losses=(0.5, 0.333), peak_memory_bytes=1_500_000_000)
    row = board(view("a", JobState.RUNNING, started_at=NOW - timedelta(seconds=12), progress=progress))[0]
    assert row["facts"] == [
        "step 3 of 24", "running for 12 s", "about 1 min 24 s left", "loss 0.333", "peak memory 1.5 GB",
    ]  # fmt: skip


def test_the_summary_has_only_what_was_measured() -> None:
    assert summary({}) == []
    rows = dict(summary(RESULT))
    assert rows["Size"] == "41.2 MB → 15.9 MB (39%)"
    assert rows["Bits per weight"] == "6.20, 4.19 where quantized"
    assert rows["Mean KL from the base"] == "0.00213 nats; noise floor 1e-07"
    assert rows["Served by vLLM"] == "yes, and it sees"
    unmeasured = {"check": {"sight": "none", "kl_missing": "The base did not fit beside it."}}
    assert dict(summary(unmeasured))["Mean KL from the base"] == "The base did not fit beside it."
    hostile: dict[str, Any] = {"size_before_bytes": "many", "stays_16_bit": 7, "check": [1], "bits_per_weight": True}
    assert summary(hostile) == []


def test_the_api_answer_has_the_fixed_names() -> None:
    failed = view("a", JobState.FAILED, failure_reason="It was killed.")
    answer = job_api_view(failed, ["last line"])
    assert {"state", "progress", "message", "log_tail", "result", "failure_reason"} <= set(answer)
    assert (answer["state"], answer["failure_reason"], answer["log_tail"]) == (
        "FAILED",
        "It was killed.",
        ["last line"],
    )
    assert answer["remaining_s"] is None
    waiting = job_api_view(view("b", JobState.PENDING, waiting="Waits for memory."), [])
    assert (waiting["progress"], waiting["message"]) == (0.0, "Waits for memory.")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (84, "1 min 24 s"), (3600, "1 h 00 min"), (7265, "2 h 01 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(0, "0 B"), (999, "999 B"), (65_536, "65.5 kB"), (2.5e9, "2.5 GB")])
def test_sizes(count: float, words: str) -> None:
    assert size(count) == words
