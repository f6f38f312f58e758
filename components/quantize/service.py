"""The one door of the Quantize room: recipes, plans, previews, submitting a job. Blocking; call it from a thread."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import JsonValue

from components.core.errors import InputError, ProfileError
from components.core.jobs import ClusterShare, JobNeeds
from components.engines.catalog import Catalog
from components.engines.prepare import ModelPreparer
from components.engines.prepare_files import read_json
from components.engines.prepare_hub import HubFacts, hub_facts
from components.engines.serving import HOOK
from components.engines.specs import cpu_memory_bytes
from components.jobs.lease import Wait
from components.jobs.queue import JobQueue
from components.jobs.tool_environment import environments_root
from components.profiles.loader import load_hardware, load_recipes
from components.profiles.recipe import RecipeProfile
from components.profiles.schema import HardwareProfile
from components.profiles.strict_yaml import parse
from components.quantize.calibration_plan import AppRows, CalibrationPlan, plan_calibration, with_defaults_for
from components.quantize.dry_run import measured_seconds
from components.quantize.environment import quantizer_environment
from components.quantize.folders import tensors_of
from components.quantize.job import tool_spec
from components.quantize.machine import cpu_flops_per_s, this_device
from components.quantize.needs import Work, needs_of, seconds_of
from components.quantize.overrides import with_overrides
from components.quantize.plan_records import JobSpec, Plan, PreflightItem
from components.quantize.preflight import Facts, needs_emulation, preflight
from components.quantize.script import complete_script, requirements_file
from components.quantize.shapes import (
    ModelShape,
    check_groups,
    kept_parts,
    quantized_linears,
    shape_of_figures,
    shape_of_files,
    size_after_bytes,
)
from components.quantize.targets import Target, find_target

_PREVIEW_LIMIT_S = 120
_SPEC_FIELDS = frozenset({"model", "recipe", "overrides"})
_SHOWN_MODEL, _SHOWN_WORK = "model", "work"  # placeholders of a script that has no job yet


@dataclass(frozen=True)
class QuantizeSettings:
    """What the room needs of the app."""

    state_dir: Path
    repository: Path
    default_pair: str
    hub_token: str | None = None
    files_dir: Path | None = None  # where jobs find what the app wrote for them; None = in the state folder
    cluster: ClusterShare | None = None  # None = jobs run on this machine

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """What the jobs run on."""
        if self.cluster is None:
            return this_device()
        return "cuda" if self.cluster.gpus else "cpu"


@dataclass(frozen=True)
class _Wish:
    """A spec, resolved."""

    target: Target
    recipe: RecipeProfile
    calibration: CalibrationPlan
    note: str
    hardware: HardwareProfile | None
    shape: ModelShape | None
    figures: Mapping[str, Any]


class QuantizeService:
    """Plans and submits quantizations."""

    def __init__(
        self, catalog: Catalog, preparer: ModelPreparer, queue: JobQueue, settings: QuantizeSettings,
        rows: AppRows | None = None, ask_hub: Callable[[str, str | None], HubFacts | None] = hub_facts,
        ask_room: Callable[[JobNeeds], Wait | None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._ask_room = ask_room
        self._catalog, self._preparer, self._queue, self._settings = catalog, preparer, queue, settings
        self._environments = environments_root(settings.repository, settings.state_dir)
        self._files_dir = settings.files_dir or settings.state_dir
        self._rows, self._ask_hub = rows, cache(lambda repo_id: ask_hub(repo_id, settings.hub_token))

    def recipes(self) -> tuple[RecipeProfile, ...]:
        """All usable recipes; a file that can't be used is in ``recipe_errors``."""
        return load_recipes(self._settings.repository / "profiles")[0]

    def recipe_errors(self) -> tuple[ProfileError, ...]:
        """Why a recipe's file can't be used, one for each."""
        return load_recipes(self._settings.repository / "profiles")[1]

    def own_data(self) -> list[dict[str, Any]]:
        """What of the app's own records can be picked as calibration data: ``{label, source}``."""
        return self._rows.choices() if self._rows else []

    def plan(self, spec: Mapping[str, Any]) -> Plan:
        """What a job would do and need; starts and downloads nothing.

        Args:
            spec: ``{"model": …, "recipe": id, "overrides": {…}}``; without ``model`` the running pair's base. Overrides
                are fields of a recipe, and ``hardware``: the id of the hardware profile that will serve the result.

        Raises:
            InputError: something in it can't be used or can't work; names the field and what is accepted.
        """
        wish = self._wish(spec)
        preview = self._preview(wish)
        device = self._settings.device
        emulate = needs_emulation(wish.recipe, wish.hardware)
        work = self._work(wish, preview)
        needs = needs_of(work, on_gpu=device == "cuda", emulate=emulate) if work else _NOTHING
        wait = self._ask_room(needs)
        facts = Facts(
            target=wish.target, recipe=wish.recipe, shape=wish.shape, needs=needs, wait=wait,
            calibration=wish.calibration, note=wish.note, hub=self._hub(wish.target),
            published_licence=wish.figures.get("licence"), hardware=wish.hardware, on_gpu=device == "cuda",
            environment=quantizer_environment(self._environments, wish.recipe.tool),
            state_dir=self._files_dir, preview=preview, cluster=self._settings.cluster,
        )  # fmt: skip
        findings = preflight(facts)
        estimate_s, basis = _estimate(work, facts, findings)
        model = wish.target.repo_id or _SHOWN_MODEL
        # Elsewhere, where the model is, there may be a kernel: the script unpacks only what would be served here.
        here = wish.target.offline or wish.target.files is not None
        shown = self._job_spec(wish, emulate and here)
        target, recipe, shape = wish.target, wish.recipe, wish.shape
        return Plan(
            engine_id=target.pair.engine_id(target.model) if target.in_catalog else None,
            model=target.repo_id or target.name,
            recipe=recipe,
            tool=recipe.tool,
            script=complete_script(recipe.tool, tool_spec(shown, model=model, work=Path(_SHOWN_WORK))),
            requirements=_pins(recipe),
            stays_16_bit=kept_parts(shape, recipe) if shape else (),
            size_before_bytes=shape.size_bytes if shape else None,
            size_after_bytes=size_after_bytes(shape, recipe) if shape else None,
            needs=needs,
            stops=wait.engines if wait else (),
            time_estimate_s=estimate_s,
            time_basis=basis,
            emulated=emulate,
            preflight=findings,
            not_yet_run_here=recipe.needs_gpu and device == "cpu",
        )

    def measure(self, spec: Mapping[str, Any]) -> Plan:
        """The plan, its time from a dry run of the real tool on the model's first layer; some ten seconds.

        Raises:
            InputError: see ``plan``; or the model's files or the tool are not here yet. JobError: the tool failed.
        """
        plan, job = self.prepare(spec)
        wish = self._wish(spec)
        if wish.target.files is None or wish.shape is None:
            raise InputError("The model's files are not here yet; nothing can be measured.", field="model")
        environment = quantizer_environment(self._environments, wish.recipe.tool)
        seconds = measured_seconds(job, wish.target.files, wish.shape.layers, environment)
        basis = "From a dry run of the tool on the first layer, and two servers' starts for the check."
        return plan.model_copy(update={"time_estimate_s": round(seconds), "time_basis": basis})

    def preview(self, spec: Mapping[str, Any]) -> dict[str, Any] | None:
        """The calibration set: counts, lengths, what was dropped and why, decoded samples. None = it can't be read yet.

        Raises:
            InputError: a source can't be read, or nothing is left; names the field.
        """
        return self._preview(self._wish(spec))

    def submit(self, spec: Mapping[str, Any]) -> str:
        """Queue the job; equal work that waits or runs is not queued twice. Its id.

        Raises:
            InputError: see ``plan``; or the preflight failed, with its sentence.
        """
        plan, job = self.prepare(spec)
        document: dict[str, JsonValue] = orjson.loads(job.as_json())
        title = f"{job.recipe.title} of {job.pair.title}"
        return self._queue.submit("quantize", document, title, plan.needs, job.work_key).id

    def prepare(self, spec: Mapping[str, Any]) -> tuple[Plan, JobSpec]:
        """The plan, and what the driver of that job is given.

        Raises:
            InputError: see ``submit``.
        """
        plan = self.plan(spec)
        for item in plan.preflight:
            if item.verdict == "fail":
                field = {"Model": "model", "Architecture": "model"}.get(item.name, "recipe")
                raise InputError(item.sentence, "Nothing was started.", field=field)
        return plan, self._job_spec(self._wish(spec), plan.emulated)

    def _wish(self, spec: Mapping[str, Any]) -> _Wish:
        unknown = sorted(set(spec) - _SPEC_FIELDS)
        if unknown:
            raise InputError(
                f"There is no field {unknown[0]!r}.", "Accepted: model, recipe, overrides.", field=unknown[0]
            )
        named = spec.get("model") or ""
        if not isinstance(named, str):
            raise InputError("model is text.", "Accepted: a pair, pair/model, a repository or a folder.", field="model")
        recipe = self._recipe(spec.get("recipe"))
        target = find_target(named, self._catalog, self._settings.default_pair, self._preparer)
        overrides = spec.get("overrides") or {}
        recipe, hardware_id = with_overrides(recipe, overrides)
        recipe, note = with_defaults_for(recipe, overrides, target)
        store = self._files_dir / "quantize" / "calibration"
        calibration = plan_calibration(recipe, self._settings.repository / "assets", store, self._rows)
        figures = _published(self._settings.repository).get(target.repo_id or target.name, {})
        shape = _shape(target, figures)
        if shape is not None:
            chosen = quantized_linears(shape, recipe)
            if not chosen:
                hint = "Take something off the ignore list."
                raise InputError("The recipe leaves nothing to quantize.", hint, field="overrides.ignore")
            check_groups(chosen, recipe)
        return _Wish(target, recipe, calibration, note, self._hardware(hardware_id), shape, figures)

    def _recipe(self, recipe_id: object) -> RecipeProfile:
        found = {recipe.id: recipe for recipe in self.recipes()}
        if not isinstance(recipe_id, str) or recipe_id not in found:
            raise InputError(
                f"There is no recipe {str(recipe_id)[:60]!r}.", f"Accepted: {', '.join(found)}.", field="recipe"
            )  # fmt: skip
        return found[recipe_id]

    def _hardware(self, hardware_id: str | None) -> HardwareProfile | None:
        profiles = {one.id: one for one in load_hardware(self._settings.repository / "profiles")[0]}
        if hardware_id is None:
            return profiles.get("cpu") if self._settings.device == "cpu" else None
        if hardware_id not in profiles:
            hint = f"Accepted: {', '.join(profiles)}."
            raise InputError(f"There is no hardware profile {hardware_id!r}.", hint, field="overrides.hardware")
        return profiles[hardware_id]

    def _hub(self, target: Target) -> HubFacts | None:
        return self._ask_hub(target.repo_id) if target.repo_id else None

    def _work(self, wish: _Wish, preview: dict[str, Any] | None) -> Work | None:
        if wish.shape is None:
            return None
        server = cpu_memory_bytes(wish.target.pair.serve_of(wish.target.model))
        return Work(wish.shape, wish.recipe, server, preview["tokens"]["all"] if preview else None)

    def _job_spec(self, wish: _Wish, emulate: bool) -> JobSpec:
        settings = self._settings
        parts = [
            wish.target.pair.model_dump_json(exclude={"models"}), wish.target.model.model_dump_json(),
            wish.recipe.model_dump_json(), json.dumps(wish.calibration.settings, sort_keys=True), str(emulate),
        ]  # fmt: skip
        return JobSpec(
            pair=wish.target.pair,
            model_id=wish.target.model.id,
            recipe=wish.recipe,
            calibration=wish.calibration.settings,
            emulate=emulate,
            state_dir=str(settings.state_dir),
            repository=str(settings.repository),
            work_key=hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24],
        )

    def _preview(self, wish: _Wish) -> dict[str, Any] | None:
        """Read in a process of its own; only when the model's tokenizer and all of the data are here."""
        plan, files = wish.calibration, wish.target.files
        if plan.settings is None or plan.reads_hub or files is None:
            return None
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            folder.mkdir()
            for name, path in files.items():
                if not name.endswith(".safetensors"):
                    (folder / name).symlink_to(path.resolve())
            spec = Path(scratch) / "spec.json"
            spec.write_bytes(orjson.dumps({"calibration": plan.settings, "model": str(folder)}))
            answer = run_preview(spec, self._settings.repository)
        if "failure" in answer:
            field = answer["field"] or "calibration"
            raise InputError(answer["failure"], "Mend the data, or take the source out.", field=f"overrides.{field}")
        return answer


def run_preview(spec: Path, repository: Path) -> dict[str, Any]:
    """What the preview's process says of ``{"calibration": settings, "model": folder}``.

    Raises:
        InputError: it takes too long, or can't be read.
    """
    argv = [sys.executable, "-m", "components.quantize.tools.shared.preview", str(spec)]
    env = {**os.environ, "PYTHONPATH": str(HOOK)}  # transformers imports torchvision, which may be a build for CUDA
    try:
        done = subprocess.run(argv, cwd=repository, capture_output=True, timeout=_PREVIEW_LIMIT_S, check=False, env=env)
        answer = orjson.loads(done.stdout)
    except subprocess.TimeoutExpired as exc:
        raise InputError(
            f"Reading the calibration data took longer than {_PREVIEW_LIMIT_S} s.",
            "Take less data, or try again when the machine has less to do.", field="overrides.calibration.sources",
        ) from exc  # fmt: skip
    except orjson.JSONDecodeError as exc:
        raise InputError(
            "The calibration data could not be read.", "Look whether a file is damaged.",
            field="overrides.calibration.sources", detail=done.stderr[-2000:].decode(errors="replace"),
        ) from exc  # fmt: skip
    return dict(answer)


_NOTHING = JobNeeds()


def _pins(recipe: RecipeProfile) -> tuple[str, ...]:
    lines = requirements_file(recipe.tool).read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if "==" in line)


def _estimate(work: Work | None, facts: Facts, findings: Sequence[PreflightItem]) -> tuple[float | None, str]:
    if work is None:
        return None, "Nothing can be said before the model's files are here."
    if any(item.name == "Memory" and item.verdict == "fail" for item in findings):
        return None, "This machine can't hold the model."
    if facts.on_gpu:
        return None, "No formula for a GPU was checked against a run; the job tells after its first layer."
    basis = "By formula and this processor's measured speed; the job tells more exactly after its first layer."
    return round(seconds_of(work, cpu_flops_per_s())), basis


def _shape(target: Target, figures: Mapping[str, Any]) -> ModelShape | None:
    if target.files is not None and "config.json" in target.files:
        return shape_of_files(tensors_of(target.files), read_json(target.files["config.json"]))
    return shape_of_figures(figures) if figures else None


@cache
def _published(repository: Path) -> dict[str, Any]:
    data = (repository / "assets" / "published" / "models.yaml").read_bytes()
    return dict(parse(data, "models.yaml").plain())
