"""The time of a job from a dry run: the real tool on the model's first layer and a few samples; keeps nothing."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from components.core.errors import InputError
from components.engines.prepare_files import Files
from components.jobs.tool_environment import ToolEnvironment
from components.jobs.tool_run import child_environment, run_tool
from components.quantize.folders import write_hugging_face_folder
from components.quantize.needs import CHECK_S
from components.quantize.plan_records import JobSpec
from components.quantize.script import complete_script

_SAMPLES, _STEPS = 8, 5


def measured_seconds(spec: JobSpec, files: Files, layers: int, environment: ToolEnvironment) -> float:
    """The whole job, by what its first layer took.

    Args:
        spec: the job's.
        files: the model's, at hand.
        layers: of the model.

    Raises:
        InputError: the tool's environment is not there yet. JobError: the tool failed, which the job would too.
    """
    if not environment.is_ready():
        raise InputError(
            "The tool is not installed yet; its first job does that.", "Measure after that.", field="recipe"
        )
    recipe, calibration = spec.recipe, spec.calibration
    with tempfile.TemporaryDirectory(prefix="dry-run-") as scratch:
        folder = Path(scratch)
        write_hugging_face_folder(files, folder / "model")
        tool = {
            "model": str(folder / "model"), "output": str(folder / "output"), "resume": str(folder / "resume"),
            "vision": spec.pair.vision, "dry_run": True,
            "recipe": recipe.for_tool() | {"iterations": min(recipe.iterations, _STEPS)},
            "calibration": {**calibration, "samples": _SAMPLES} if calibration else None,
        }  # fmt: skip
        script, spec_file = folder / "quantize.py", folder / "spec.json"
        script.write_text(complete_script(recipe.tool, tool), encoding="utf-8")
        spec_file.write_bytes(orjson.dumps(tool))
        started_s = time.monotonic()
        told = run_tool(environment.python, script, spec_file, folder, child_environment(), lambda _event: None)
        took_s = time.monotonic() - started_s
    return took_s + CHECK_S + layers * _layer_seconds(spec, told)


def _layer_seconds(spec: JobSpec, told: dict[str, Any]) -> float:
    if "step_s" in told:
        return float(told["step_s"]) * spec.recipe.iterations
    samples = spec.calibration["samples"] if spec.calibration else 0
    return float(told["layer_s"]) + float(told["sample_s"]) * float(str(samples))
