"""When a job on a cluster has ended, and why, from its folder and the cluster's word; a clock that the test moves."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from components.core.errors import ClusterError
from components.core.jobs import ClusterMark, Job, JobNeeds
from components.core.states import JobState
from components.jobs.lease import Grant
from components.jobs.node_entry import CLAIMED, GIVEN_UP, START, main
from components.jobs.ray_api import RayJobs, RayRequest, RayStatus
from components.jobs.ray_place import SETTLE_S, WORD_LIMIT_S, RayAttempt, RayPlace, RaySettings
from components.jobs.records import JobExit, JobFolder
from tests.unit.jobs.test_job_progress import job

REQUEST = RayRequest("exec x", cpus=2, gpus=1, memory_bytes=3 * 1024**3)


class Told(RayJobs):
    """A cluster of which the test says what it says."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9")
        self.word: RayStatus | None = RayStatus("RUNNING")
        self.away = False
        self.heard: list[str] = []

    def status(self, submission_id: str) -> RayStatus | None:
        if self.away:
            raise ClusterError("The Ray cluster can't be reached: it is away.")
        return self.word

    def submit(self, submission_id: str, request: RayRequest) -> None:
        self.heard.append(f"submit {submission_id}")
        self.word = RayStatus("PENDING")

    def stop(self, submission_id: str) -> None:
        self.heard.append(f"stop {submission_id}")


class Bench:
    def __init__(self, path: Path, *, claimed: bool = True) -> None:
        self.folder, self.cluster, self.now_s = JobFolder(path), Told(), 0.0
        self.folder.create({})
        (path / (CLAIMED if claimed else START)).write_text("{}")
        mark = ClusterMark(address=self.cluster.address, submission_id="j1")
        self.attempt = RayAttempt(self.folder, mark, self.cluster, REQUEST, lambda: self.now_s)

    def runs(self, after_s: float = 0.0) -> bool:
        """After a look at the cluster, which is made here and not in a thread."""
        self.now_s += after_s
        self.attempt._asking._asked_s = self.now_s
        self.attempt._ask()
        return self.attempt.runs()

    def code(self, code: int) -> None:
        self.folder.exit_code.write_text(f"{code}\n")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_record_and_a_code_are_the_end_whatever_the_cluster_says(bench: Bench) -> None:
    assert bench.runs()
    bench.folder.write_exit(JobExit(state="SUCCEEDED", result={}))
    assert bench.runs(), "its processes are still there"
    bench.code(0)
    bench.cluster.away = True
    assert not bench.runs()


def test_a_code_without_a_word_of_the_driver_waits_for_the_clusters(bench: Bench) -> None:
    bench.folder.write_exit(JobExit(state="STOPPED", failure_reason="Cancelled."))
    bench.code(1)
    assert bench.runs()
    bench.cluster.word = RayStatus("FAILED", "it died", "JOB_SUPERVISOR_ACTOR_DIED")
    assert not bench.runs()
    lost = ", which ran the job: it died, was cut off, or its Ray was ended."
    assert bench.attempt.why_lost() == f"The cluster lost the node{lost}"
    bench.cluster.word = RayStatus("FAILED", "it died", "JOB_SUPERVISOR_ACTOR_DIED", "10.0.0.7 (id 0f3c9a21…)")
    bench.runs()
    assert bench.attempt.why_lost() == f"The cluster lost its node 10.0.0.7 (id 0f3c9a21…){lost}"


def test_it_does_not_wait_for_ever(bench: Bench) -> None:
    bench.code(-9)
    bench.cluster.away = True
    assert bench.runs()
    assert bench.runs(WORD_LIMIT_S)
    assert not bench.runs(1.0)
    assert bench.attempt.why_lost() == ""


@pytest.mark.parametrize("word", [None, RayStatus("SUCCEEDED"), RayStatus("FAILED", "x"), RayStatus("STOPPED")])
def test_an_end_without_a_code_is_believed_after_a_moment(bench: Bench, word: RayStatus | None) -> None:
    """A shared folder may show a file some seconds late; a node that is gone writes none."""
    bench.cluster.word = word
    assert bench.runs()
    assert bench.runs(SETTLE_S)
    assert not bench.runs(0.1)


async def test_what_may_live_on_behind_a_cut_line_is_told_that_it_was_given_up(bench: Bench) -> None:
    told = bench.folder.path / GIVEN_UP
    assert bench.runs()
    await bench.attempt.end_rest()
    assert not told.exists(), "the cluster has not lost it"
    bench.cluster.word = RayStatus("FAILED", "it died", "JOB_SUPERVISOR_ACTOR_DIED")
    assert bench.runs()
    assert not bench.runs(SETTLE_S + 1)
    await bench.attempt.end_rest()
    assert told.exists()


async def test_what_has_ended_on_its_node_is_not_given_up(bench: Bench) -> None:
    bench.cluster.word = RayStatus("FAILED", "it died", "JOB_SUPERVISOR_ACTOR_DIED")
    bench.code(-9)
    assert not bench.runs()
    await bench.attempt.end_rest()
    assert not (bench.folder.path / GIVEN_UP).exists()


def test_reasons_are_sentences(bench: Bench) -> None:
    reasons = {
        None: "The Ray cluster does not know this job any more: it was restarted.",
        RayStatus("FAILED", "x", "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"): (
            "No node of the cluster had 2 CPUs, 1 GPU, 3.0 GiB free within Ray's limit of time."
        ),
        RayStatus("FAILED", "failed with exit code 1, logs:\nThis node has no folder /x.\n\n", "OTHER"): (
            "The cluster could not run the job: This node has no folder /x."
        ),
        RayStatus("STOPPED"): "The job was ended on the cluster, not by Diptych.",
        RayStatus("SUCCEEDED"): "",
    }
    for word, reason in reasons.items():
        bench.cluster.word = word
        bench.runs()
        assert bench.attempt.why_lost() == reason
    bench.cluster.word = RayStatus("FAILED", "exit code 137", "JOB_ENTRYPOINT_COMMAND_ERROR")
    bench.code(-9)
    bench.runs()
    assert bench.attempt.why_lost() == "", "our launcher knows better"


def test_what_is_not_begun_is_taken_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path, claimed=False)
    bench.cluster.word = None
    assert bench.runs()
    assert bench.cluster.heard == ["submit j1"]
    assert bench.attempt.note == "Waits on the cluster for a node with 2 CPUs, 1 GPU, 3.0 GiB free."
    bench.attempt.ask_to_stop()
    assert not bench.attempt.runs()
    bench.attempt._ask()
    assert "stop j1" in bench.cluster.heard
    assert main(tmp_path) == 1, "a node that comes late finds nothing to start"


def test_a_cluster_that_fails_before_it_begins_ends_it_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, claimed=False)
    bench.cluster.word = RayStatus("FAILED", "x", "JOB_SUPERVISOR_ACTOR_START_TIMEOUT")
    assert not bench.runs()


def test_a_line_that_is_cut_is_noted_until_it_is_mended(bench: Bench) -> None:
    bench.cluster.away = True
    assert bench.runs(1000.0)
    assert bench.attempt.note.startswith("The Ray cluster can't be reached: it is away. What runs there goes on.")
    bench.cluster.away = False
    assert bench.runs()
    assert bench.attempt.note == ""


def test_the_command_holds_a_folder_of_any_name(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "a folder; rm -rf $HOME `x` 'y'")
    settings = RaySettings(
        address="http://127.0.0.1:9", python=Path("/opt/env/bin/python"), cwd=tmp_path, kinds=frozenset({"quantize"}),
        inherited=("PATH",),
    )  # fmt: skip
    place = RayPlace(settings)
    given = job().model_copy(update={"needs": JobNeeds(memory_bytes=7), "process": None})
    assert place.takes(given)
    assert not place.takes(given.model_copy(update={"kind": "publish"}))
    folder.create(given.spec)
    attempt = place.start(given, folder, ["python", "-m", "x", str(folder.path)], Grant())
    assert attempt.mark == ClusterMark(address="http://127.0.0.1:9", submission_id=given.id)
    words = shlex.split(attempt._request.entrypoint)
    assert words[:4] == ["exec", "/opt/env/bin/python", "-I", "-S"]
    assert (words[4].endswith("node_entry.py"), words[5:]) == (True, [str(folder.path)])
    start = json.loads((folder.path / START).read_bytes())
    assert start["argv"][-1] == str(folder.path)
    assert start["env"]["DIPTYCH_GROUP"] == str(folder.path)
    assert start["env"]["CUDA_VISIBLE_DEVICES"] == "", "no GPU was asked for, so it sees none"


def test_a_place_without_an_address_takes_nothing_but_still_finds(tmp_path: Path) -> None:
    settings = RaySettings(address="", python=Path("p"), cwd=tmp_path, kinds=frozenset({"quantize"}), token="secret")
    place = RayPlace(settings)
    mark = ClusterMark(address="http://elsewhere:1", submission_id="j1")
    found: Job = job(JobState.RUNNING).model_copy(update={"process": mark})
    attempt = place.find(found, JobFolder(tmp_path))
    assert not place.takes(found)
    assert attempt is not None and attempt.mark == mark
    assert "authorization" not in attempt._api._client.headers, "the token is for the cluster that is set"
    assert place.find(job(), JobFolder(tmp_path)) is None


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ((CLAIMED,), "The job was started before; it is not started twice."),
        ((), "The job was taken back before it began."),
        ((START,), "This node can't run Diptych: [Errno 2] No such file or directory: '/no/such/place'."),
        (None, "every node needs the shared folder at the same path."),
    ],
)
def test_a_node_that_can_not_start_it_says_why(
    tmp_path: Path, files: tuple[str, ...] | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "job"
    if files is not None:
        folder.mkdir()
        for name in files:
            (folder / name).write_text('{"cwd": "/no/such/place"}')
    assert main(folder) == 1
    assert words in capsys.readouterr().out
    assert files is None or {path.name for path in folder.iterdir()} == set(files)
