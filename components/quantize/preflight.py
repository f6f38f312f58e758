"""What is looked at before a job starts. Each finding is a sentence; nothing here starts or downloads anything."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.jobs import ClusterShare, JobNeeds
from components.engines.memory import free_memory_bytes, in_gib
from components.engines.prepare_hub import HubFacts
from components.jobs.lease import Wait
from components.jobs.tool_environment import ToolEnvironment
from components.profiles.recipe import RecipeProfile
from components.profiles.schema import HardwareProfile
from components.quantize.calibration_plan import CalibrationPlan
from components.quantize.plan_records import PreflightItem, Verdict
from components.quantize.shapes import ModelShape
from components.quantize.targets import Target

_HEADROOM_BYTES = 2 * 1024**3
# Weights alone are rounded: their values can be unpacked to 16 bits without changing the result.
WEIGHTS_ONLY = frozenset({"W4A16", "W8A16", "NVFP4A16", "MXFP4"})
_SUPPORTED = "Mistral 3, Llava with Pixtral, and text models (…ForCausalLM)"


@dataclass(frozen=True)
class Facts:
    """Everything that was found out about a wish."""

    target: Target
    recipe: RecipeProfile
    shape: ModelShape | None
    needs: JobNeeds
    calibration: CalibrationPlan
    note: str  # about data that was put in place of the recipe's
    hub: HubFacts | None
    published_licence: str | None
    hardware: HardwareProfile | None  # what will serve the result; None = a GPU that no profile describes
    on_gpu: bool
    environment: ToolEnvironment
    state_dir: Path  # where its result and what it is made of are written
    preview: dict[str, Any] | None  # of the calibration data, where it could be read
    wait: Wait | None = None  # why the job would not start at once
    cluster: ClusterShare | None = None  # where it runs; None = on this machine


def preflight(facts: Facts) -> tuple[PreflightItem, ...]:
    """All findings, in the order in which they matter."""
    return tuple(_items(facts))


def _item(name: str, verdict: Verdict, sentence: str) -> PreflightItem:
    return PreflightItem(name=name, verdict=verdict, sentence=sentence)


def _items(facts: Facts) -> Iterator[PreflightItem]:
    yield _model(facts)
    yield _architecture(facts)
    yield _licence(facts)
    yield _device(facts)
    yield _kernel(facts)
    yield from _data(facts)
    yield _memory(facts)
    if facts.wait is not None:
        yield _room(facts.wait)
    yield _disk(facts)
    yield _tool(facts)
    yield _item("Output", "ok", "The result gets a folder of its own among the jobs; nothing is overwritten.")


def _model(facts: Facts) -> PreflightItem:
    target = facts.target
    if target.files is not None:
        count = sum(name.endswith(".safetensors") for name in target.files)
        return _item("Model", "ok", f"{target.name}: {count} weight files, safetensors only, each whole.")
    if target.model.source.kind == "pypi-gguf":
        return _item(
            "Model", "ok", f"{target.name} is downloaded as a Python package and converted when the job starts."
        )
    if facts.hub is None:
        return _item(
            "Model", "fail",
            f"{target.name} is not on this machine, and the hub can't be reached. The script is complete: run it where "
            "the hub can be reached.",
        )  # fmt: skip
    if not facts.hub.has_safetensors:
        return _item("Model", "fail", f"{target.name} has no safetensors; pickled weights are refused.")
    return _item("Model", "ok", f"{target.name} is on the hub with safetensors; the job downloads it first.")


def _architecture(facts: Facts) -> PreflightItem:
    if facts.shape is None:
        return _item("Architecture", "warn", "Not known before the model's files are here.")
    name = facts.shape.architecture
    known = name in ("Mistral3ForConditionalGeneration", "LlavaForConditionalGeneration") or name.endswith(
        "ForCausalLM"
    )
    if not known:
        return _item("Architecture", "fail", f"{name} can't be quantized here; supported: {_SUPPORTED}.")
    basis = "" if facts.shape.from_files else " (from published figures; the files are not here)"
    return _item("Architecture", "ok", f"{name}, {facts.shape.layers} layers{basis}.")


def _licence(facts: Facts) -> PreflightItem:
    if facts.target.offline:
        licence = facts.published_licence or "that of this repository"
        return _item("Licence", "ok", f"Comes with Diptych; licence: {licence}.")
    if facts.target.repo_id is None:
        return _item("Licence", "warn", "A folder of this machine: look at its LICENSE yourself.")
    if facts.hub is None:
        known = f" Its card names: {facts.published_licence}." if facts.published_licence else ""
        return _item("Licence", "warn", f"The hub can't be asked for licence and gating.{known}")
    words = f"Licence: {facts.hub.licence or 'none named'}."
    if facts.hub.gated:
        return _item("Licence", "warn", f"{words} Gated: accept its terms on the hub and set HF_TOKEN.")
    return _item("Licence", "ok", f"{words} Not gated.")


def _device(facts: Facts) -> PreflightItem:
    if facts.recipe.needs_gpu and not facts.on_gpu:
        none = "jobs ask the cluster for none (DIPTYCH_RAY_GPUS)" if facts.cluster else "there is none"
        return _item(
            "Device", "fail",
            f"{facts.recipe.title} wants a GPU, and {none}: the script is complete, but not yet run here.",
        )  # fmt: skip
    return _item("Device", "ok", "The tool uses the GPU." if facts.on_gpu else "The tool runs this method on the CPU.")


def needs_emulation(recipe: RecipeProfile, hardware: HardwareProfile | None) -> bool:
    """Whether the result can only be served with its weights unpacked to 16 bits."""
    return hardware is not None and recipe.scheme not in hardware.native_formats and recipe.scheme in WEIGHTS_ONLY


def _kernel(facts: Facts) -> PreflightItem:
    hardware, scheme = facts.hardware, facts.recipe.scheme
    if hardware is None:
        return _item(
            "Kernel", "warn", f"No hardware profile describes this GPU; whether it runs {scheme} shows at the end."
        )
    if scheme in hardware.native_formats:
        return _item("Kernel", "ok", f"{hardware.label} serves {scheme} with a kernel of its own.")
    if needs_emulation(facts.recipe, hardware):
        return _item(
            "Kernel", "warn",
            f"No kernel for {scheme} on {hardware.label}: it is served unpacked to 16 bits, labelled emulated: "
            "the answers are the scheme's, speed and memory are not.",
        )  # fmt: skip
    return _item("Kernel", "fail", f"vLLM has no kernel for {scheme} on {hardware.label}, and it can't be emulated.")


def _data(facts: Facts) -> Iterator[PreflightItem]:
    plan = facts.calibration
    if plan.settings is None:
        yield _item("Calibration", "ok", "This method looks at the weights alone; it takes no data.")
        return
    if facts.note:
        yield _item("Calibration", "ok", facts.note)
    for note in plan.notes:
        yield _item("Calibration", "warn", note)
    if plan.reads_hub:
        names = ", ".join(plan.reads_hub)
        yield _item("Calibration", "warn", f"Read from the hub when the job starts; terms and columns unseen: {names}.")
    preview = facts.preview
    if preview is None:
        return
    tokens = preview["tokens"]
    words = (
        f"{preview['samples']} samples of {tokens['shortest']} to {tokens['longest']} tokens, {tokens['all']:,} in all"
    )
    few = preview["samples"] < preview["samples_asked"]
    asked = f"; {preview['samples_asked']} were asked for" if few else ""
    yield _item("Calibration", "warn" if few else "ok", f"{words}{asked}.")
    yield _item("Tokenizer", "ok", f"Coded by {preview['tokenizer']}; decoded samples are in the preview.")


def _memory(facts: Facts) -> PreflightItem:
    if facts.shape is None:
        return _item("Memory", "warn", "Not known before the model's files are here.")
    if facts.cluster is not None:
        return _item("Memory", "ok", _asked_of_cluster(facts.needs, facts.cluster))
    needed, free = facts.needs.memory_bytes, free_memory_bytes()
    words = f"About {in_gib(needed)} of memory at the peak; {in_gib(free)} is free."
    if facts.needs.gpu_memory_bytes:
        words += f" About {in_gib(facts.needs.gpu_memory_bytes)} on the GPU."
    if needed <= free:
        return _item("Memory", "ok", words)
    total = _total_memory_bytes()
    if needed > total:
        return _item("Memory", "fail", f"{words} This machine has {in_gib(total)} in all.")
    return _item("Memory", "warn", f"{words} The job waits until there is enough: stop an engine.")


def _asked_of_cluster(needs: JobNeeds, share: ClusterShare) -> str:
    gpus = f", {share.gpus:g} GPU" + ("" if share.gpus == 1 else "s") if share.gpus else ""
    return f"The cluster is asked for a node with {in_gib(needs.memory_bytes)}, {share.cpus:g} CPUs{gpus} free."


def _room(wait: Wait) -> PreflightItem:
    """What engines hold that the job needs; it never fights them."""
    by_choice = f" It starts by itself when there is room, or stop {', '.join(wait.engines)}." if wait.engines else ""
    return _item("Room", "warn", f"{wait.reason}{by_choice}")


def _total_memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def _disk(facts: Facts) -> PreflightItem:
    if facts.shape is None:
        return _item("Disk", "warn", "Not known before the model's files are here.")
    folder = facts.state_dir
    while not folder.exists():
        folder = folder.parent
    needed, free = facts.needs.disk_bytes, shutil.disk_usage(folder).free
    where = "shared folder" if facts.cluster else "state folder"
    words = f"About {in_gib(needed)} in the {where} while it runs; {in_gib(free)} is free."
    return _item("Disk", "ok" if needed + _HEADROOM_BYTES <= free else "fail", words)


def _tool(facts: Facts) -> PreflightItem:
    tool = facts.recipe.tool
    if facts.cluster is not None:
        return _item("Tool", "ok", f"A node that lacks the environment of {tool} makes it first: minutes, once.")
    if facts.environment.is_ready():
        return _item("Tool", "ok", f"The environment of {tool} is there.")
    return _item(
        "Tool", "warn", f"The environment of {tool} is installed first: minutes, and the package index is needed."
    )
