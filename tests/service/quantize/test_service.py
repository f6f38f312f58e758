"""Plans and submits through the real catalog, queue and preview process; refusals name their field."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from components.core.errors import InputError
from components.core.jobs import ClusterShare
from components.engines.catalog import Catalog
from components.engines.prepare import ModelPreparer
from components.engines.prepare_hub import HubFacts
from components.jobs.lease import Wait
from components.jobs.queue import JobQueue
from components.profiles.loader import list_pairs
from components.quantize.form_view import plan_view
from components.quantize.job import script_by_hand
from components.quantize.plan_records import JobSpec, Plan
from components.quantize.service import QuantizeService, QuantizeSettings
from components.storage.database import Database
from components.storage.jobs import JobRepository

pytestmark = pytest.mark.service
ROOT = Path(__file__).parents[3]
LARGE, SMALL = "neuralmagic/Pixtral-Large-Instruct-2411-hf", "mistralai/Mistral-Small-3.2-24B-Instruct-2506"


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[JobQueue]:
    database = Database(f"sqlite:///{tmp_path / 'db.sqlite'}")
    database.open()
    yield JobQueue(JobRepository(database))
    database.close()


def make_service(tmp_path: Path, queue: JobQueue, facts: HubFacts | None = None) -> QuantizeService:
    return QuantizeService(
        Catalog(list_pairs(ROOT / "profiles")[0]),
        ModelPreparer(tmp_path / "models", ROOT),
        queue,
        QuantizeSettings(tmp_path, ROOT, "embedded"),
        ask_hub=lambda _repo_id, _token: facts,
    )


@pytest.fixture
def service(tmp_path: Path, queue: JobQueue) -> QuantizeService:
    return make_service(tmp_path, queue)


def verdict(plan: Plan, name: str) -> str:
    return next(item.verdict for item in plan.preflight if item.name == name)


def sentence(plan: Plan, name: str) -> str:
    return " ".join(item.sentence for item in plan.preflight if item.name == name)


def test_a_plan_says_what_holds_the_room_and_leaves_the_choice(tmp_path: Path, queue: JobQueue) -> None:
    wait = Wait("Waits for GPU memory: it needs 40.0 GiB; embedded/base hold the rest.", ("embedded/base",))
    service = QuantizeService(
        Catalog(list_pairs(ROOT / "profiles")[0]), ModelPreparer(tmp_path / "models", ROOT), queue,
        QuantizeSettings(tmp_path, ROOT, "embedded"), ask_room=lambda _: wait,
    )  # fmt: skip
    plan = service.plan({"recipe": "fp8-dynamic"})
    assert sentence(plan, "Room") == (
        f"{wait.reason} It starts by itself when there is room, or stop embedded/base."
    )  # fmt: skip
    assert (verdict(plan, "Room"), plan.can_start, plan.stops) == ("warn", True, ("embedded/base",))
    assert plan_view(plan, service.recipes())["stops"] == ["embedded/base"]


def test_a_plan_for_a_cluster_asks_it_for_room_and_not_this_machine(tmp_path: Path, queue: JobQueue) -> None:
    def plan(gpus: float, recipe: str) -> Plan:
        service = QuantizeService(
            Catalog(list_pairs(ROOT / "profiles")[0]), ModelPreparer(tmp_path / "models", ROOT), queue,
            QuantizeSettings(tmp_path, ROOT, "embedded", None, tmp_path / "shared", ClusterShare(cpus=8, gpus=gpus)),
            ask_hub=lambda _repo_id, _token: None,
        )  # fmt: skip
        return service.plan({"recipe": recipe, "model": LARGE} if recipe == "w8a8-gptq" else {"recipe": recipe})

    small = plan(0, "fp8-dynamic")
    assert (small.can_start, verdict(small, "Memory"), verdict(small, "Tool")) == (True, "ok", "ok")
    assert sentence(small, "Memory").endswith("8 CPUs free.")
    assert "shared folder" in sentence(small, "Disk")
    large = plan(1, "w8a8-gptq")
    assert verdict(large, "Memory") == "ok", "this machine could not hold it, and need not"
    assert sentence(large, "Memory").endswith("8 CPUs, 1 GPU free.")
    assert "jobs ask the cluster for none (DIPTYCH_RAY_GPUS)" in sentence(plan(0, "w4a16-awq"), "Device")


def test_the_script_of_a_job_names_no_folder_that_ends_with_it(tmp_path: Path, service: QuantizeService) -> None:
    _, job = service.prepare({"recipe": "w4a16-gptq"})
    script = script_by_hand(job)
    assert str(tmp_path) not in script
    assert '"model": "model"' in script
    assert '"output": "work/output"' in script
    compile(script, "quantize.py", "exec")


def test_the_smallest_spec_is_planned_offline_on_the_running_pair(service: QuantizeService) -> None:
    plan = service.plan({"recipe": "w4a16-gptq"})
    assert (plan.engine_id, plan.tool, plan.can_start) == ("embedded/base", "llmcompressor", True)
    assert plan.size_before_bytes == 15_252_992
    assert plan.size_after_bytes is not None
    assert plan.size_after_bytes < plan.size_before_bytes
    assert {part.name: part.size_bytes for part in plan.stays_16_bit} == {
        "embeddings": 4_194_304, "norms": 4_608, "projector": 786_944, "vision tower": 5_548_544,
    }  # fmt: skip
    assert "tokens" in sentence(plan, "Calibration")
    assert plan.time_estimate_s is not None
    compile(plan.script, "script", "exec")


def test_the_preview_shows_decoded_samples_lengths_and_what_was_dropped(service: QuantizeService) -> None:
    preview = service.preview({"recipe": "w4a16-gptq"})
    assert preview is not None
    assert preview["samples"] == preview["samples_with_pictures"] == len(preview["lengths"]) > 100
    assert preview["sources"][0]["dropped"] == {"without a picture": 128 - preview["samples"]}
    assert preview["shown"][0]["text"].startswith("<s>")
    assert "[IMG]" in preview["shown"][0]["text"]
    assert service.preview({"recipe": "fp8-dynamic"}) is None


def test_a_scheme_without_a_kernel_is_told_and_emulated(service: QuantizeService) -> None:
    plan = service.plan({"recipe": "nvfp4a16"})
    assert plan.emulated
    assert plan.can_start
    assert "labelled emulated" in sentence(plan, "Kernel")
    on_gpu = service.plan({"recipe": "nvfp4a16", "overrides": {"hardware": "rtx-5090"}})
    assert not on_gpu.emulated


def test_a_scheme_that_can_be_neither_run_nor_emulated_is_refused(service: QuantizeService) -> None:
    spec = {"recipe": "fp8-dynamic", "overrides": {"hardware": "a100-80gb"}}
    assert verdict(service.plan(spec), "Kernel") == "fail"
    with pytest.raises(InputError, match="no kernel for FP8-Dynamic") as refused:
        service.submit(spec)
    assert refused.value.field == "recipe"


def test_what_wants_a_gpu_gives_script_and_preflight_and_is_labelled(service: QuantizeService) -> None:
    plan = service.plan({"recipe": "w4a16-awq"})
    assert plan.not_yet_run_here
    assert "AWQModifier" in plan.script
    with pytest.raises(InputError, match="not yet run here"):
        service.submit({"recipe": "w4a16-awq"})


@pytest.mark.parametrize(
    ("model", "recipe", "tool"),
    [
        (LARGE, "w8a8-gptq", "llmcompressor"),
        (SMALL, "w4a16-autoround", "autoround"),
        (SMALL, "nvfp4a16", "llmcompressor"),
    ],
)
def test_the_cards_models_are_planned_without_their_weights(
    service: QuantizeService, model: str, recipe: str, tool: str
) -> None:
    plan = service.plan({"model": model, "recipe": recipe})
    assert (plan.model, plan.tool) == (model, tool)
    assert f'"model": "{model}"' in plan.script
    assert "decompressed_output" not in plan.script.split("# -------------------- llmcompressor")[-1].split("def ")[0]
    assert verdict(plan, "Model") == "fail"
    assert "The script is complete" in sentence(plan, "Model")
    assert verdict(plan, "Licence") == "warn"
    assert plan.needs.memory_bytes > plan.size_before_bytes > 40e9  # type: ignore[operator]
    for part in ("embeddings", "lm_head", "vision tower and projector"):
        assert any(kept.name == part for kept in plan.stays_16_bit)
    with pytest.raises(InputError):
        service.submit({"model": model, "recipe": recipe})


def test_licence_and_gating_are_told_where_the_hub_answers(tmp_path: Path, queue: JobQueue) -> None:
    gated = make_service(tmp_path, queue, HubFacts("apache-2.0", gated=True, has_safetensors=True))
    plan = gated.plan({"model": SMALL, "recipe": "nvfp4a16"})
    assert verdict(plan, "Model") == "ok"
    assert "apache-2.0. Gated" in sentence(plan, "Licence")
    pickled = make_service(tmp_path, queue, HubFacts(None, gated=False, has_safetensors=False))
    assert "pickled weights are refused" in sentence(pickled.plan({"model": SMALL, "recipe": "nvfp4a16"}), "Model")


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "recipe"),
        ({"recipe": "w4a16"}, "recipe"),
        ({"recipe": ["w4a16-gptq"]}, "recipe"),
        ({"recipe": "w4a16-gptq", "modle": "x"}, "modle"),
        ({"recipe": "w4a16-gptq", "model": "x; rm -rf $HOME"}, "model"),
        ({"recipe": "w4a16-gptq", "model": "../../etc"}, "model"),
        ({"recipe": "w4a16-gptq", "model": "a\nb/c"}, "model"),
        ({"recipe": "w4a16-gptq", "model": 3}, "model"),
        ({"recipe": "w4a16-gptq", "model": "/nowhere"}, "model"),
        ({"recipe": "w4a16-gptq", "model": "embedded/w4a16"}, "model"),
        ({"recipe": "w4a16-gptq", "model": "smollm2-135m"}, "overrides.group_size"),
        ({"recipe": "w4a16-gptq", "overrides": {"hardware": "abacus"}}, "overrides.hardware"),
        ({"recipe": "w4a16-gptq", "overrides": {"ignore": ["re:.*"]}}, "overrides.ignore"),
        ({"recipe": "w4a16-gptq", "overrides": {"ignore": ["re:("]}}, "overrides.ignore"),
        ({"recipe": "w4a16-gptq", "overrides": "fast"}, "overrides"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_field(
    service: QuantizeService, spec: dict[str, Any], field: str
) -> None:
    with pytest.raises(InputError) as refused:
        service.plan(spec)
    assert refused.value.field == field
    assert refused.value.message


def text_rows(path: Path, **calibration: Any) -> dict[str, Any]:
    sources = [{"kind": "file", "file": str(path)}]
    wanted = {"modality": "text", "min_tokens_per_chunk": 64, "max_seq_length": 64, "sources": sources, **calibration}
    return {"recipe": "w4a16-gptq", "overrides": {"calibration": wanted}}


def test_a_jsonl_with_broken_lines_is_refused(service: QuantizeService, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "fine"}\n{"text": \n')
    with pytest.raises(InputError, match=r"line 2 of rows\.jsonl is not JSON") as refused:
        service.plan(text_rows(path))
    assert refused.value.field == "overrides.calibration.sources[0]"


def test_an_empty_calibration_set_is_refused(service: QuantizeService, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n")
    with pytest.raises(InputError, match="no sample is left") as refused:
        service.plan(text_rows(path))
    assert refused.value.field == "overrides.calibration.sources"


def test_ones_own_rows_are_counted(service: QuantizeService, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"Sentence {number} is short."}) + "\n" for number in range(100)))
    plan = service.plan(text_rows(path))
    assert "samples of 64 to 64 tokens" in sentence(plan, "Calibration")
    assert "512 were asked for" in sentence(plan, "Calibration")


def test_a_pickle_checkpoint_is_refused(service: QuantizeService, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "assets" / "embedded" / "base", folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match="pickle") as refused:
        service.plan({"recipe": "w4a16-gptq", "model": str(folder)})
    assert refused.value.field == "model"


def test_a_folder_of_this_machine_gets_a_pair_of_its_own(service: QuantizeService, tmp_path: Path) -> None:
    folder = tmp_path / "my model"
    shutil.copytree(ROOT / "assets" / "embedded" / "base", folder)
    data = {"calibration": {"sources": [{"kind": "bundled", "name": "embedded-pictures"}]}}
    plan, job = service.prepare({"recipe": "w4a16-gptq", "model": str(folder), "overrides": data})
    assert plan.engine_id is None
    assert (job.pair.id, job.pair.vision, job.pair.max_image_size) == ("made-my-model", True, 112)
    assert job.pair.serve.config_format == "mistral"


def test_an_architecture_that_is_not_supported_is_told(service: QuantizeService, tmp_path: Path) -> None:
    import torch

    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    save_file({"encoder.layer.0.weight": torch.ones(128, 128)}, tmp_path / "model.safetensors")
    plan = service.plan({"recipe": "fp8-dynamic", "model": str(tmp_path)})
    assert verdict(plan, "Architecture") == "fail"


def test_equal_work_is_queued_once_and_the_job_holds_everything(service: QuantizeService, queue: JobQueue) -> None:
    first = service.submit({"recipe": "fp8-dynamic"})
    assert service.submit({"recipe": "fp8-dynamic", "model": "embedded/base"}) == first
    other = service.submit({"recipe": "fp8-dynamic", "overrides": {"seed": 7}})
    assert other != first
    spec = JobSpec.model_validate(queue.get(first).spec)
    assert spec.recipe.id == "fp8-dynamic"
    assert spec.pair.serve_of(spec.pair.base).config_format == "mistral", "unset settings stay the pair's"
