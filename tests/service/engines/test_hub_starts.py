"""The engine hub over real processes that do as they are told: every way a start is refused or fails."""

from __future__ import annotations

import socket

import pytest

from components.core.errors import EngineStartError
from components.core.states import EngineState
from components.engines.status import Report
from tests.service.engines.hub_bench import GIB, NAME, Bench, in_state, reach

pytestmark = pytest.mark.service


async def test_f08_our_stale_socket_is_removed(bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(bench.socket()))
    hub = bench.hub(bench.spec())
    await hub.start(NAME)
    assert (await hub.wait_ready(NAME, 10)).ready


@pytest.mark.parametrize("kind", ["file", "symlink", "listener"])
async def test_f08_anything_else_in_the_way_is_refused_and_left(bench: Bench, kind: str) -> None:
    path = bench.socket()
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "file":
            path.write_text("mine")
        elif kind == "symlink":
            path.symlink_to("/etc/passwd")
        else:
            listener.bind(str(path))
            listener.listen()
        hub = bench.hub(bench.spec())
        await hub.start(NAME)
        status = await reach(hub, in_state(EngineState.FATAL))
        assert str(path) in status.reason
        assert status.hint
        assert path.is_symlink() or path.exists()


async def test_f08_too_long_a_path_is_refused(bench: Bench) -> None:
    hub = bench.hub(bench.spec(socket=bench.folder / ("x" * 90)))
    await hub.start(NAME)
    status = await reach(hub, in_state(EngineState.FATAL))
    assert "longer than 99 bytes" in status.reason


async def test_f09_known_failure_is_final_after_one_try(bench: Bench) -> None:
    text = bench.folder / "usage"
    text.write_text("usage: api_server.py\napi_server.py: error: unrecognized arguments: --no-such-flag=1\n")
    hub = bench.hub(bench.spec(f"text={text}", "exit=2"))
    await hub.start(NAME)
    with pytest.raises(EngineStartError, match="does not accept an option") as caught:
        await hub.wait_ready(NAME, 10)
    assert "--no-such-flag" in caught.value.detail
    status = hub.status(NAME)
    assert (status.state, status.restarts, status.reason_code) == (EngineState.FATAL, 0, "BAD_OPTION")
    assert hub.log_tail(NAME)[-1].endswith("--no-such-flag=1")
    assert bench.states() == ["STARTING", "FATAL"]


async def test_f11_start_that_takes_too_long_is_ended(bench: Bench) -> None:
    hub = bench.hub(bench.spec("sleep", start_timeout_s=1.0))
    await hub.start(NAME)
    status = await reach(hub, in_state(EngineState.FATAL))
    assert status.reason_code == "READINESS_TIMEOUT"
    assert status.log_lines == ("stand-in: sleep",)
    assert bench.members() == {}


@pytest.mark.parametrize("model", ["", "another/model"])
async def test_f12_wrong_model_is_never_ready(bench: Bench, model: str) -> None:
    hub = bench.hub(bench.spec(f"serve={bench.socket()},{model}"))
    await hub.start(NAME)
    status = await reach(hub, lambda status: status.reason_code == "WRONG_MODEL")
    assert (status.state, status.ready) == (EngineState.RUNNING, False)
    assert (model or "no model at all") in status.reason


async def test_f13_out_of_memory_is_final_with_the_knobs(bench: Bench) -> None:
    text = bench.folder / "oom"
    text.write_text(
        "(EngineCore pid=7) ERROR 11-20 10:00:00 [core.py:1510] torch.OutOfMemoryError: CUDA out of memory. "
        "Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 23.69 GiB of which 11.38 MiB is free.\n"
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
    )
    hub = bench.hub(bench.spec(f"text={text}", "exit=1"))
    await hub.start(NAME)
    status = await reach(hub, in_state(EngineState.FATAL))
    assert (status.reason_code, status.restarts) == ("OUT_OF_MEMORY", 0)
    for knob in ("max_model_len", "gpu_memory_utilization", "tensor_parallel_size"):
        assert knob in status.hint


async def test_engines_of_one_device_start_one_after_the_other(bench: Bench) -> None:
    release = bench.folder / "release"
    slow = bench.spec(f"barrier={release}", f"serve={bench.socket('p/a')},p/a", name="p/a")
    hub = bench.hub(slow, bench.spec(name="p/b"), bench.spec(name="p/c", device="cuda"))
    await hub.start("p/a")
    await reach(hub, lambda status: status.pid, "p/a")
    await hub.start("p/b")
    await hub.start("p/c")
    await hub.wait_ready("p/c", 10)
    assert hub.status("p/b").message == "Waiting for other engines to start"
    assert hub.status("p/b").pid is None
    release.touch()
    await hub.wait_ready("p/a", 10)
    await hub.wait_ready("p/b", 10)


async def test_engine_that_needs_more_memory_than_is_free_is_refused(bench: Bench) -> None:
    bench.free_bytes = GIB
    hub = bench.hub(bench.spec(memory_bytes=2 * GIB))
    await hub.start(NAME)
    status = await reach(hub, in_state(EngineState.FATAL))
    assert status.reason == "This engine needs about 2.0 GiB of memory, and 1.0 GiB is free."
    bench.free_bytes = 3 * GIB
    await hub.start(NAME)
    await hub.wait_ready(NAME, 10)


async def test_shares_of_a_gpu_are_not_given_twice(bench: Bench) -> None:
    shares = {"p/a": 0.45, "p/b": 0.55, "p/c": 0.1}
    hub = bench.hub(*(bench.spec(name=name, device="cuda", device_share=share) for name, share in shares.items()))
    for name in ("p/a", "p/b"):
        await hub.start(name)
        await hub.wait_ready(name, 10)
    await hub.start("p/c")
    refused = await reach(hub, in_state(EngineState.FATAL), "p/c")
    assert "p/a 45%, p/b 55%" in refused.reason
    await hub.stop("p/a")
    await hub.start("p/c")
    await hub.wait_ready("p/c", 10)


async def test_failed_preparation_says_why(bench: Bench) -> None:
    def prepare(report: Report) -> str:
        raise EngineStartError("The folder is missing.", "Fetch it.")

    hub = bench.hub(bench.spec(prepare=prepare))
    await hub.start(NAME)
    status = await reach(hub, in_state(EngineState.FATAL))
    assert (status.reason, status.hint) == ("The folder is missing.", "Fetch it.")


async def test_a_mistake_of_ours_ends_in_fatal_not_in_silence(bench: Bench) -> None:
    def prepare(report: Report) -> str:
        raise ZeroDivisionError

    hub = bench.hub(bench.spec(prepare=prepare))
    await hub.start(NAME)
    assert "Diptych itself failed" in (await reach(hub, in_state(EngineState.FATAL))).reason
