"""One book for engines and jobs: what is promised is not free, and whoever waits is told why."""

from __future__ import annotations

from pathlib import Path

from components.core.jobs import JobNeeds
from components.engines.device import JobBooking, MemoryBook
from components.engines.job_lease import JobLease
from components.engines.status import LocalServer
from components.engines.supervisor import EngineHub, World
from components.jobs.lease import Grant, Wait

GIB = 2**30


def server(memory_gib: int = 0, share: float = 0.0, devices: tuple[str, ...] = ()) -> LocalServer:
    return LocalServer(
        device=devices[0] if devices else "cpu", prepare=lambda _: "", command=lambda _: None, socket=Path("s"),  # type: ignore[arg-type,return-value]
        log=Path("l"), memory_bytes=memory_gib * GIB, device_share=share, devices=devices,
    )  # fmt: skip


def test_what_a_job_was_promised_is_not_free() -> None:
    book = MemoryBook(lambda: 8 * GIB)
    assert book.take_job("job", JobBooking(6 * GIB))
    refused = book.take_engine("pair/base", server(3))
    assert refused is not None
    assert "2.0 GiB is free (6.0 GiB more is kept for a running job)" in refused.reason
    assert book.take_engine("pair/base", server(2)) is None


def test_what_a_job_has_taken_is_not_counted_twice() -> None:
    free = [8 * GIB]
    book = MemoryBook(lambda: free[0])
    assert book.take_job("job", JobBooking(6 * GIB))
    free[0] = 3 * GIB  # it has taken 5 of its 6
    book.note_use("job", 5 * GIB)
    assert book.free_bytes() == 2 * GIB
    book.note_use("job", 7 * GIB)  # more than it said
    assert book.free_bytes() == 3 * GIB
    book.give_back("job")
    assert book.free_bytes() == 3 * GIB


def test_a_job_booked_again_replaces_its_booking() -> None:
    book = MemoryBook(lambda: 8 * GIB)
    assert book.take_job("job", JobBooking(6 * GIB))
    assert book.take_job("job", JobBooking(7 * GIB))
    assert not book.take_job("job", JobBooking(9 * GIB))
    assert book.free_bytes() == 8 * GIB


def test_gpu_shares_of_engines_and_jobs_add_up_on_every_gpu() -> None:
    book = MemoryBook(lambda: 64 * GIB)
    assert book.take_engine("pair/base", server(share=0.6, devices=("cuda:0", "cuda:1"))) is None
    assert not book.take_job("job", JobBooking(GIB, gpu="cuda:1", gpu_share=0.5))
    assert book.take_job("job", JobBooking(GIB, gpu="cuda:1", gpu_share=0.4))
    refused = book.take_engine("pair/w4a16", server(share=0.3, devices=("cuda:1",)))
    assert refused is not None and "job 40%" in refused.reason
    assert book.shares("cuda:0") == {"pair/base": 0.6}


def lease(tmp_path: Path, free_gib: int, gpus: tuple[int, ...] = (), disk_gib: int = 100) -> JobLease:
    hub = EngineHub([], World(free_memory_bytes=lambda: free_gib * GIB))
    return JobLease(hub, tmp_path, [gpu * GIB for gpu in gpus], lambda _: disk_gib * GIB)


def test_a_job_waits_for_memory_and_says_how_much(tmp_path: Path) -> None:
    assert isinstance(lease(tmp_path, 8).take("job", JobNeeds(memory_bytes=6 * GIB)), Grant)
    waits = lease(tmp_path, 4).take("job", JobNeeds(memory_bytes=6 * GIB))
    assert isinstance(waits, Wait)
    assert waits.reason == "Waits for memory: it needs about 6.0 GiB, and 4.0 GiB is free."


def test_a_job_waits_for_disk(tmp_path: Path) -> None:
    waits = lease(tmp_path, 8, disk_gib=1).take("job", JobNeeds(disk_bytes=GIB))
    assert isinstance(waits, Wait)
    assert "1.2 GiB, and 1.0 GiB is free" in waits.reason


def test_a_gpu_job_gets_the_gpu_that_has_room(tmp_path: Path) -> None:
    needs = JobNeeds(memory_bytes=GIB, gpu_memory_bytes=20 * GIB)
    granted = lease(tmp_path, 8, gpus=(16, 24)).take("job", needs)
    assert granted == Grant({"CUDA_VISIBLE_DEVICES": "1"})
    none = lease(tmp_path, 8).take("job", needs)
    assert isinstance(none, Wait) and "there is none here" in none.reason
    small = lease(tmp_path, 8, gpus=(16,)).take("job", needs)
    assert isinstance(small, Wait) and "the largest here has 16.0 GiB" in small.reason
    two = lease(tmp_path, 8, gpus=(24,))
    assert isinstance(two.take("job-1", needs), Grant)
    waits = two.take("job-2", needs)
    assert isinstance(waits, Wait) and "job-1 hold the rest" in waits.reason
    two.give_back("job-1")
    two.hold("job-3", needs)
    assert isinstance(two.take("job-2", needs), Wait)


def test_a_look_says_what_a_start_would_meet_and_books_nothing(tmp_path: Path) -> None:
    shared = lease(tmp_path, 64, gpus=(80, 80))
    book = shared._book  # engines are entered by the hub, which starts real ones
    needs = JobNeeds(memory_bytes=GIB, gpu_memory_bytes=40 * GIB)
    assert shared.look(needs) is None
    assert shared.look(needs) is None
    assert book.shares("cuda:0") == {}
    for index, share in ((0, 0.6), (1, 0.9)):
        assert book.take_engine(f"pair/{index}", server(share=share, devices=(f"cuda:{index}",))) is None
    waits = shared.look(needs)
    assert isinstance(waits, Wait)
    assert waits.reason == "Waits for GPU memory: it needs 40.0 GiB; pair/0, pair/1 hold the rest."
    assert waits == shared.take("job", needs)
    book.give_back("pair/0")
    assert shared.look(needs) is None
    taken = shared.take("job", needs)
    assert isinstance(taken, Grant)
    assert taken.env == {"CUDA_VISIBLE_DEVICES": "0"}
    other = shared.look(needs)
    assert other is None  # half of the first GPU is left
    assert isinstance(shared.take("second", needs), Grant)
    third = shared.look(needs)
    assert isinstance(third, Wait)
    assert "job, second, pair/1 hold the rest" in third.reason
    too_much = shared.look(JobNeeds(gpu_memory_bytes=90 * GIB))
    assert isinstance(too_much, Wait)
    assert "the largest here has 80.0 GiB" in too_much.reason
