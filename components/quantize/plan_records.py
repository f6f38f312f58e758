"""Records of the Quantize room: what a person asks for, what it will need, and what a job is given."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from components.core.answers import Record
from components.core.jobs import JobNeeds
from components.profiles.recipe import RecipeProfile
from components.profiles.schema import PairProfile

Verdict = Literal["ok", "warn", "fail"]


class PreflightItem(Record):
    """One thing that was looked at before a job starts."""

    name: str = Field(description="What was looked at: Model, Licence, Disk …")
    verdict: Verdict
    sentence: str = Field(description="What was found, for a person")


class KeptPart(Record):
    """A part that stays in 16 bits."""

    name: str = Field(description="vision tower, projector, embeddings, lm_head …")
    size_bytes: int | None = Field(description="None where the model's files are not at hand")


class Plan(Record):
    """What a job would do and need. Starting nothing."""

    engine_id: str | None = Field(description="pair/model of the base; None for a model outside the catalog")
    model: str = Field(description="What was named, resolved: pair/model, repository or folder")
    recipe: RecipeProfile = Field(description="With the overrides in it")
    tool: str
    script: str = Field(description="The complete script, one Python file that runs without this app")
    requirements: tuple[str, ...] = Field(description="Pinned packages of the tool's interpreter")
    stays_16_bit: tuple[KeptPart, ...]
    size_before_bytes: int | None
    size_after_bytes: int | None = Field(description="By formula; None where the model's shape is not known")
    needs: JobNeeds
    time_estimate_s: float | None = Field(description="Whole job; a rough figure. None where nothing is known")
    time_basis: str = Field(description="What the estimate rests on, or why there is none")
    emulated: bool = Field(description="The result will be served decompressed, for want of a kernel here")
    preflight: tuple[PreflightItem, ...]
    stops: tuple[str, ...] = Field(default=(), description="Engines that would make room by stopping")
    not_yet_run_here: bool = Field(default=False, description="This machine can't run it; script and preflight only")

    @property
    def can_start(self) -> bool:
        """Whether nothing stands in the way."""
        return all(item.verdict != "fail" for item in self.preflight)


class JobSpec(Record):
    """The driver's input: everything resolved, so that a job does not change when profiles do."""

    format: Literal[1] = 1
    pair: PairProfile
    model_id: str = Field(description="The base in that pair")
    recipe: RecipeProfile
    calibration: dict[str, JsonValue] | None = Field(description="As the tool's script reads it; None = no data")
    emulate: bool
    state_dir: str
    repository: str
    work_key: str = Field(description="Equal for equal work; a tool that can resume goes on in the folder of that name")

    def as_json(self) -> bytes:
        """For the job's folder. What a profile left unset stays so: a model's settings are the pair's unless set."""
        return self.model_dump_json(exclude_unset=True).encode()
