"""A pair on this machine: the whole way from the option to the command line and the environment of an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import InputError
from components.core.memory_plan import GIB
from components.engines.catalog import Catalog
from components.engines.machine_plan import Choice, Machine, place_pair
from components.engines.model_memory import ModelMemoryReader
from components.engines.prepare import ModelPreparer
from components.engines.specs import SpecSettings, engine_specs
from components.engines.status import Command, LocalServer
from components.profiles.loader import load_pair
from components.profiles.placed import read_overrides
from components.profiles.schema import PairProfile

ROOT = Path(__file__).parents[3]
GB80 = int(79.65 * GIB)


def placed(
    tmp_path: Path, name: str, choice: Choice, gpus: int = 0, serve: str = "", free_gib: float = 64
) -> PairProfile:
    reader = ModelMemoryReader(ModelPreparer(tmp_path, ROOT), ROOT / "assets/published/models.yaml")
    machine = Machine([GB80] * gpus, int(free_gib * GIB))
    return place_pair(load_pair(ROOT / "profiles", name), choice, read_overrides(serve), reader, machine)


def servers(
    tmp_path: Path, pair: PairProfile, gpus: int, names: tuple[str, ...] = ()
) -> list[tuple[LocalServer, Command]]:
    """Of the base and the first candidate."""
    settings = SpecSettings(
        state_dir=Path("/state"), device="cuda" if gpus else "cpu", python=Path("/venv/bin/python"), cpu_threads=1,
        gpu_count=gpus, inherited={"CUDA_VISIBLE_DEVICES": "7"}, gpu_names=names,
    )  # fmt: skip
    specs = engine_specs(Catalog([pair]), ModelPreparer(tmp_path, ROOT), settings)[:2]
    return [(spec.server, spec.server.command(f"/models/{spec.engine_id}")) for spec in specs if spec.server]


def test_gpus_are_called_what_the_cluster_calls_them(tmp_path: Path) -> None:
    pair = placed(tmp_path, "pixtral-large-2411", "planned", gpus=8)
    granted = ("5", "2", "GPU-0a", "7", "1", "0", "3", "4")
    (_, base), (_, candidate) = servers(tmp_path, pair, 8, granted)
    assert (base.env["CUDA_VISIBLE_DEVICES"], candidate.env["CUDA_VISIBLE_DEVICES"]) == ("5,2,GPU-0a,7", "1,0")


def test_ray_hands_out_the_gpus_of_its_executor(tmp_path: Path) -> None:
    pair = placed(tmp_path, "pixtral-large-2411", "profile", gpus=8, serve="distributed_executor_backend=ray")
    (_, base), _ = servers(tmp_path, pair, 8)
    assert base.env["CUDA_VISIBLE_DEVICES"] == "7", "as the app was started, not one of a machine's"


def test_the_planned_124b_pair_starts_on_its_gpus(tmp_path: Path) -> None:
    pair = placed(tmp_path, "pixtral-large-2411", "planned", gpus=8)
    (base, base_command), (candidate, command) = servers(tmp_path, pair, 8)
    assert (base_command.env["CUDA_VISIBLE_DEVICES"], command.env["CUDA_VISIBLE_DEVICES"]) == ("0,1,2,3", "4,5")
    assert "--tensor-parallel-size=4" in base_command.argv
    assert "--tensor-parallel-size=2" in command.argv
    assert not base.takes_turns and base.device != candidate.device
    assert "--enable-sleep-mode" not in command.argv and "VLLM_SERVER_DEV_MODE" not in command.env


def test_planned_by_turns_it_sleeps(tmp_path: Path) -> None:
    pair = placed(tmp_path, "pixtral-large-2411", "planned", gpus=4)
    for server, command in servers(tmp_path, pair, 4):
        assert server.takes_turns and server.device == "cuda:0" and server.sleep_level == 1
        assert "--enable-sleep-mode" in command.argv
        assert command.env["VLLM_SERVER_DEV_MODE"] == "1"
        assert "--gpu-memory-utilization=0.9" in command.argv
        assert server.main_memory_asleep("owner/name") is None, "what is not known is not put into main memory"
        (tmp_path / "model.safetensors").write_bytes(b"x" * 10)
        assert server.main_memory_asleep(str(tmp_path)) == 10


def test_pipeline_and_replicas_reach_the_command_line(tmp_path: Path) -> None:
    serve = "pipeline_parallel_size=2,data_parallel_size=2,kv_cache_dtype=fp8"
    pair = placed(tmp_path, "mistral-small-3.2-24b", "planned", gpus=8, serve=serve)
    (_, base), (_, candidate) = servers(tmp_path, pair, 8)
    for command, gpus in ((base, "0,1,2,3"), (candidate, "4,5,6,7")):
        assert {"--pipeline-parallel-size=2", "--data-parallel-size=2", "--kv-cache-dtype=fp8"} <= set(command.argv)
        assert command.env["CUDA_VISIBLE_DEVICES"] == gpus


def test_one_that_is_not_to_sleep_is_stopped(tmp_path: Path) -> None:
    pair = placed(tmp_path, "mistral-small-3.2-24b", "alternately", gpus=1, serve="sleep_level=0")
    for server, command in servers(tmp_path, pair, 1):
        assert server.takes_turns and server.sleep_level == 0
        assert "--enable-sleep-mode" not in command.argv and "VLLM_SERVER_DEV_MODE" not in command.env


@pytest.mark.parametrize(("free_gib", "placement"), [(8.0, "together"), (4.0, "alternately")])
def test_planned_without_a_gpu_looks_at_main_memory(tmp_path: Path, free_gib: float, placement: str) -> None:
    pair = placed(tmp_path, "embedded", "planned", free_gib=free_gib)
    assert pair.placement == placement
    for server, command in servers(tmp_path, pair, 0):
        assert server.takes_turns == (placement == "alternately") and server.sleep_level == 0
        assert "--enable-sleep-mode" not in command.argv


def test_sizes_beyond_the_machine_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this machine has 2") as raised:
        placed(tmp_path, "mistral-small-3.2-24b", "planned", gpus=2, serve="base.tensor_parallel_size=4")
    assert raised.value.field == "serve"


def test_as_the_profile_says_changes_nothing(tmp_path: Path) -> None:
    assert placed(tmp_path, "pixtral-large-2411", "profile", gpus=4) == load_pair(
        ROOT / "profiles", "pixtral-large-2411"
    )
