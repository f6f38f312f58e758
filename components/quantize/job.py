"""The driver of a quantization: ``python -m components.quantize.job JOB_FOLDER``.

environment → source → quantize (with calibration, in the tool's interpreter) → finish → check → summary. The result is
renamed into place only when a real server has served it; what a failed job wrote is deleted.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import orjson
from pydantic import JsonValue

from components.core.states import Sight
from components.engines.prepare import ModelPreparer
from components.engines.prepare_files import Files, list_files
from components.engines.prepare_hub import check_space
from components.jobs.driver import run_driver
from components.jobs.records import JobEvent, JobFolder
from components.jobs.tool_environment import environments_root
from components.jobs.tool_run import child_environment, run_tool
from components.profiles.schema import FolderSource, HubSource, ModelProfile, ServeSettings
from components.quantize.candidates import RESULT_KEY, MadeCandidate
from components.quantize.check import CheckReport, Machine, check
from components.quantize.environment import quantizer_environment
from components.quantize.folders import tensors_of, write_hugging_face_folder, write_served_folder
from components.quantize.machine import this_device
from components.quantize.plan_records import JobSpec
from components.quantize.script import complete_script, requirements_file
from components.quantize.summary import summarize

# Beside what is served, in the result: the record of how it was made, and the packed weights where others are served.
RECORD, PACKED = "record", "packed"


class Driver:
    """One job."""

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder
        self._spec = JobSpec.model_validate_json(orjson.dumps(folder.read_spec()))
        self._recipe = self._spec.recipe
        self._state_dir, self._repository = Path(self._spec.state_dir), Path(self._spec.repository)
        self._env = child_environment()
        self._started_s = time.monotonic()
        self._peak_memory_bytes = 0
        self._record = folder.partial / RECORD
        self._packed = folder.partial / PACKED if self._spec.emulate else folder.partial
        # Where a tool that can resume finds what an earlier attempt left; the others start anew.
        kept = folder.common / "quantize" / "work" / self._spec.work_key
        self._work = kept if self._recipe.tool == "autoround" else folder.partial / "work"

    def run(self) -> dict[str, JsonValue]:
        """The whole job; its result."""
        partial = self._folder.partial
        partial.mkdir(mode=0o700, parents=True)
        self._record.mkdir(mode=0o700)
        self._work.mkdir(mode=0o700, parents=True, exist_ok=True)
        python = self._environment()
        base = self._source()
        told = self._quantize(python)
        self._finish(Path(told["output"]), base)
        report = self._check()
        result = self._summarize(base, told, report)
        shutil.rmtree(self._work, ignore_errors=True)
        self._folder.finish_result()
        return result

    def _say(self, phase: str, message: str = "") -> None:
        self._folder.append_event(JobEvent(phase=phase, message=message))

    def _environment(self) -> Path:
        environment = quantizer_environment(environments_root(self._repository, self._state_dir), self._recipe.tool)
        self._say("Environment", "Looking at the tool's environment")
        python = environment.ensure(self._env, lambda text: self._say("Environment", text))
        packages = "\n".join(environment.freeze(self._env)) + "\n"
        (self._record / "packages.txt").write_text(packages, encoding="utf-8")
        return python

    def _source(self) -> Files:
        self._say("Source", "Looking for the model's files")
        preparer = ModelPreparer(self._state_dir / "models", self._repository, child_env=self._env)
        pair = self._spec.pair
        base = preparer.source_files(pair, pair.model(self._spec.model_id), lambda text, _s: self._say("Source", text))
        size = tensors_of(base).size_bytes
        check_space(self._work, 2 * size, "The state folder may lie on another disk (--state-dir).")
        model = self._work / "model"
        shutil.rmtree(model, ignore_errors=True)
        write_hugging_face_folder(base, model)
        return base

    def _quantize(self, python: Path) -> dict[str, Any]:
        spec = tool_spec(self._spec, model=str(self._work / "model"), work=self._work)
        script, spec_file = self._record / "quantize.py", self._record / "tool_spec.json"
        script.write_text(script_by_hand(self._spec), encoding="utf-8")  # this run gives it the spec's file
        spec_file.write_bytes(orjson.dumps(spec, option=orjson.OPT_INDENT_2))
        shutil.copyfile(requirements_file(self._recipe.tool), self._record / "requirements.txt")
        return run_tool(python, script, spec_file, self._record, self._env, self._tell)

    def _tell(self, event: JobEvent) -> None:
        self._peak_memory_bytes = max(self._peak_memory_bytes, event.peak_memory_bytes or 0)
        self._folder.append_event(event)

    def _finish(self, written: Path, base: Files) -> None:
        self._say("Finishing", "Writing the weights under the names that are served")
        text, vision = recipe_text(self._spec), self._spec.pair.vision
        write_served_folder(written, base, self._packed, vision=vision, recipe_text=text)
        if self._spec.emulate:
            decompressed = self._work / "decompressed"
            write_served_folder(decompressed, base, self._folder.partial, vision=vision, recipe_text=text)

    def _check(self) -> CheckReport:
        pair = self._spec.pair
        machine = Machine(self._state_dir, self._repository, this_device(), self._record)
        candidate = self._candidate(self._folder.partial)
        report = asyncio.run(
            check(pair, pair.model(self._spec.model_id), candidate, machine, lambda text: self._say("Checking", text))
        )
        if report.sight is Sight.UNCLEAR:
            self._say("Checking", "The sight check is unclear: some of its answers are wrong")
        shutil.rmtree(self._record / "exchange", ignore_errors=True)
        return report

    def _summarize(self, base: Files, told: dict[str, Any], report: CheckReport) -> dict[str, JsonValue]:
        before, after = tensors_of(base), tensors_of(list_files(self._packed))
        summary = summarize(before, after) | {
            "recipe": self._recipe.id,
            "scheme": self._recipe.scheme,
            "emulated": self._spec.emulate,
            "calibration": told.get("calibration"),
            "versions": told.get("versions"),
            "check": report.model_dump(mode="json"),
            "peak_memory_bytes": self._peak_memory_bytes or None,
            "took_s": round(time.monotonic() - self._started_s, 1),
        }
        (self._record / "summary.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
        model = self._candidate(self._folder.result)
        made = MadeCandidate(pair=self._spec.pair, model=model)
        return {
            **summary,
            "engine_id": f"{self._spec.pair.id}/{model.id}",
            "packed": PACKED if self._spec.emulate else ".",
            RESULT_KEY: made.model_dump(mode="json", exclude_unset=True),
        }

    def _candidate(self, folder: Path) -> ModelProfile:
        """The profile of what this job makes, served from ``folder``."""
        recipe, base = self._recipe, self._spec.pair.model(self._spec.model_id)
        title = f"{recipe.title}, made here" + (", emulated" if self._spec.emulate else "")
        return ModelProfile(
            id=f"{recipe.id}-{self._folder.path.name[-6:].lower()}",
            role="candidate",
            label=title[:80],
            scheme=recipe.scheme,
            source=FolderSource(kind="folder", folder=str(folder)),
            serve=ServeSettings(),
            unquantized=tuple(name.removeprefix("re:") for name in recipe.ignore),
            description=f"Made by a job of this app from {base.label}, recipe {recipe.id}. {recipe.description}",
            prepare="image-limit" if base.prepare != "none" else "none",
            emulated=self._spec.emulate,
        )


def tool_spec(spec: JobSpec, *, model: str, work: Path) -> dict[str, Any]:
    """What the tool's script reads."""
    recipe = spec.recipe
    found: dict[str, Any] = {
        "model": model,
        "output": str(work / "output"),
        "vision": spec.pair.vision,
        "recipe": recipe.for_tool(),
        "calibration": spec.calibration,
    }
    if recipe.tool == "autoround":
        found["resume"] = str(work / "resume")
    if spec.emulate:
        found["decompressed_output"] = str(work / "decompressed")
    return found


def script_by_hand(spec: JobSpec) -> str:
    """The job's script with a spec that holds after the job too: its folders are gone by then."""
    source = spec.pair.model(spec.model_id).source
    model = source.repo_id if isinstance(source, HubSource) else "model"
    return complete_script(spec.recipe.tool, tool_spec(spec, model=model, work=Path("work")))


def recipe_text(spec: JobSpec) -> str:
    """recipe.yaml of the result: the recipe as it was used, and its data. JSON is YAML."""
    document = {"recipe": spec.recipe.model_dump(mode="json"), "calibration": spec.calibration}
    return (
        "# Made by Diptych. The exact script and packages lie beside this folder.\n"
        + orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
    )


if __name__ == "__main__":
    sys.exit(run_driver(sys.argv[1:], lambda folder: Driver(folder).run()))
