"""What a card may say beside benchmark records: from the profile, the model's own files and the quantize job. Pure."""

from __future__ import annotations

from pydantic import Field, JsonValue

from components.core.answers import Record
from components.core.traces import UtcDatetime
from components.profiles.schema import ModelProfile, PairProfile


class FileFact(Record):
    """One file of the candidate's folder."""

    name: str
    size_bytes: int


PROSE_PARTS = {
    "summary": "Summary",
    "intended_use": "Intended use and limitations",
    "calibration": "About the calibration data",
    "notes": "Further notes",
    "acknowledgments": "Acknowledgments",
}


class Prose(Record):
    """One version of what people wrote; Markdown, by part."""

    version: int = Field(default=0, ge=0, description="0 = nothing was written")
    parts: dict[str, str] = Field(default_factory=dict)
    written_at: UtcDatetime | None = None
    written_by: str = ""


class HardwareFact(Record):
    """What the memory plan says of one size of GPU: the fewest that serve the model."""

    gpu_gb: int = Field(description="As it is sold")
    examples: str = Field(description="GPUs of that size that have a profile")
    gpus: int | None = Field(description="None = it does not fit on any number that was planned")
    context: int | None = Field(default=None, description="Tokens of one user")
    flags: tuple[str, ...] = Field(default=(), description="vLLM's")


class CardFacts(Record):
    """Everything that is known of a candidate but its figures."""

    engine_id: str
    pair: PairProfile
    model: ModelProfile
    base_id: str
    base_name: str = Field(description="Repository of the base, or its engine id where it has none")
    licence: str | None = Field(default=None, description="Of the base; None = not known")
    config: dict[str, JsonValue] = Field(default_factory=dict, description="The candidate's config.json or params.json")
    files: tuple[FileFact, ...] = ()
    quantize_job: str | None = Field(default=None, description="Id of the job that made it")
    quantize_result: dict[str, JsonValue] = Field(default_factory=dict, description="That job's result")
    quantize_spec: dict[str, JsonValue] = Field(default_factory=dict, description="That job's spec")
    hardware: tuple[HardwareFact, ...] = Field(default=(), description="Smallest GPU first; empty = not planned")
    prose: Prose = Prose()


class Card(Record):
    """A model card and what it rests on."""

    model: str
    markdown: str
    missing: tuple[str, ...] = Field(description="What was not measured or is not known, in words")
    prose: Prose = Field(description="What people wrote of it")
    figures: dict[str, str] = Field(description="Every figure as printed → where it is from: a record's id, or a file")
