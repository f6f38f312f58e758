"""Schema of ``profiles/recipes/*.yaml``: how a model is quantized, and with which calibration data. Pure data."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from components.profiles.schema import AbsolutePath, Profile, RepoId, Scheme, Slug, Words, rule

Tool = Literal["llmcompressor", "autoround"]
Method = Literal["gptq", "smoothquant-gptq", "awq", "rtn", "autoround"]
# A name of a module, or "re:" and a regular expression; nothing else travels to the tool.
Pattern = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.*:|()\[\]\\$^+-]+$", max_length=200)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=120)]
Template = Literal["instruction-response", "query-tools-answers", "sharegpt", "text", "captions"]

_WEIGHT = Field(default=1.0, gt=0, le=1000, description="Share of the tokens relative to the other sources")
_REPEAT = Field(default=1, ge=1, le=100, description="How often its rows are used, count")
METHOD_TOOL: dict[Method, Tool] = {
    "gptq": "llmcompressor", "smoothquant-gptq": "llmcompressor", "awq": "llmcompressor", "rtn": "llmcompressor",
    "autoround": "autoround",
}  # fmt: skip


class BundledSource(Profile):
    """A calibration set that comes with Diptych."""

    kind: Literal["bundled"] = Field(description="A set that comes with Diptych; needs no network")
    name: Literal["embedded-pictures", "embedded-text", "text"] = Field(description="Which set")
    weight: float = _WEIGHT
    repeat: int = _REPEAT


class HubDataSource(Profile):
    """A data set of a hub."""

    kind: Literal["hub"] = Field(description="A data set of a hub")
    label: Label = Field(description="Name on the page")
    repo_id: RepoId = Field(description="owner/name of the data set")
    split: Annotated[str, StringConstraints(pattern=r"^[a-z_]+(\[[0-9]*:[0-9]*\])?$", max_length=60)] = Field(
        default="train", description="Split, with a range of rows in brackets if not all"
    )
    template: Template = Field(description="How a row becomes text or a chat")
    shuffle: bool = Field(default=True, description="Take the rows in an order decided by the seed")
    weight: float = _WEIGHT
    repeat: int = _REPEAT


class SlotSource(Profile):
    """A place for one's own file, where the original recipe used one that is not public."""

    kind: Literal["slot"] = Field(description="A place for your own file; left out while it is empty")
    label: Label = Field(description="What the original held")
    original: Label = Field(description="Name of the original's file, which is not public")
    weight: float = _WEIGHT
    repeat: int = _REPEAT


class FileSource(Profile):
    """A file or folder of this machine."""

    kind: Literal["file"] = Field(description="A .jsonl, a .txt or a folder of them and pictures")
    file: AbsolutePath = Field(description="Absolute path")
    label: Label | None = Field(default=None, description="Name on the page; null = the file's name")
    weight: float = _WEIGHT
    repeat: int = _REPEAT


class TracesSource(Profile):
    """Turns that were asked in this app."""

    kind: Literal["traces"] = Field(description="Turns of this app, with the base's answers")
    trace_ids: Annotated[tuple[Slug, ...], Field(min_length=1, max_length=1000)] = Field(description="Their ids")
    weight: float = _WEIGHT
    repeat: int = _REPEAT


class ReviewSource(Profile):
    """Items of a review batch."""

    kind: Literal["review"] = Field(description="Items of a review batch, with the base's answers")
    batch_id: Slug = Field(description="The batch's id")
    outcome: Literal["regressed", "improved", "both_wrong", "same", "conflict", "unreviewed"] | None = Field(
        default=None, description="Only items that the reviewers found so; null = all that were answered"
    )
    weight: float = _WEIGHT
    repeat: int = _REPEAT


class FlipsSource(Profile):
    """Items of a benchmark that a candidate lost."""

    kind: Literal["flips"] = Field(description="Items of a benchmark that the base has right and a candidate has not")
    model: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._/-]*$", max_length=200)] = Field(
        description="The candidate: pair/model"
    )
    weight: float = _WEIGHT
    repeat: int = _REPEAT


Source = Annotated[
    BundledSource | HubDataSource | SlotSource | FileSource | TracesSource | ReviewSource | FlipsSource,
    Field(discriminator="kind"),
]


class CalibrationProfile(Profile):
    """What a method looks at while it quantizes."""

    modality: Literal["text", "image+text"] = Field(description="What the samples hold")
    samples: int = Field(ge=1, le=8192, description="Samples, count")
    max_seq_length: int = Field(ge=32, le=131072, description="Longest sample, tokens")
    min_tokens_per_chunk: int = Field(
        ge=0, le=131072, description="Short rows are joined to at least this many tokens; 0 = each row is a sample"
    )
    batch_size: int = Field(default=1, ge=1, le=64, description="Samples computed together, count")
    sources: Annotated[tuple[Source, ...], Field(min_length=1, max_length=16)] = Field(
        description="Where they come from"
    )


class RecipeProfile(Profile):
    """One way to quantize."""

    schema_version: int = Field(ge=1, le=1, description="Version of this file's format: 1")
    kind: Literal["recipe"] = Field(description="recipe")
    id: Slug = Field(description="The file's name without .yaml")
    title: Label = Field(description="Name on the page")
    description: Words = Field(description="What it does, in plain words")
    card: Literal["001", "002", "004"] | None = Field(
        default=None, description="The published card whose recipe this is; null = none"
    )
    differs_from_card: tuple[Words, ...] = Field(default=(), description="What had to be said otherwise today, and why")
    method: Method = Field(description="Algorithm; it decides the tool")
    scheme: Scheme = Field(description="Format of the result")
    tool_scheme: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_]+$", max_length=32)] = Field(
        description="The scheme's name in the tool"
    )
    targets: Annotated[tuple[Pattern, ...], Field(min_length=1)] = Field(
        default=("Linear",), description="What is quantized: classes or names of modules"
    )
    ignore: tuple[Pattern, ...] = Field(
        default=(), description="What stays in 16 bits: names, or re: and an expression"
    )
    group_size: Literal[16, 32, 64, 128, 256] | None = Field(
        default=None, description="Weights that share a scale, count; null = the scheme's own"
    )
    symmetric: bool | None = Field(default=None, description="No zero points; null = the scheme's own")
    block_size: int = Field(default=128, ge=16, le=1024, description="GPTQ: columns at once, count")
    dampening_frac: float = Field(default=0.01, gt=0, le=1, description="GPTQ: dampening, share of the mean diagonal")
    smoothing_strength: float = Field(default=0.8, ge=0, le=1, description="SmoothQuant: how much moves to the weights")
    iterations: int = Field(default=200, ge=0, le=5000, description="AutoRound: steps per block, count; 0 = none")
    low_gpu_memory: bool = Field(default=False, description="AutoRound: keep inputs of blocks off the GPU")
    packing_format: Literal["auto_round:auto_gptq", "auto_round:llm_compressor"] = Field(
        default="auto_round:auto_gptq", description="AutoRound: format of the files"
    )
    blocks: Pattern | None = Field(
        default=None, description="AutoRound: the blocks quantized; null = the text decoder's"
    )
    sequential_targets: tuple[Pattern, ...] | None = Field(
        default=None, description="Class of the layers done one after the other; null = the tool's choice"
    )
    needs_gpu: bool = Field(default=False, description="The tool refuses to run this method on a CPU")
    seed: int = Field(default=42, ge=0, le=2**32 - 1, description="Seed of shuffling and sampling")
    calibration: CalibrationProfile | None = Field(default=None, description="null = the method takes no data")

    @property
    def tool(self) -> Tool:
        """The tool that runs the method."""
        return METHOD_TOOL[self.method]

    @property
    def reads_data(self) -> bool:
        """Whether the calibration data has any influence; rounding to nearest looks at the weights alone."""
        return self.method != "rtn"

    def for_tool(self) -> dict[str, Any]:
        """The parameters as the tool's script reads them."""
        names = {
            "method", "tool_scheme", "targets", "ignore", "group_size", "symmetric", "block_size", "dampening_frac",
            "smoothing_strength", "iterations", "low_gpu_memory", "packing_format", "blocks", "sequential_targets",
            "seed",
        }  # fmt: skip
        found = self.model_dump(mode="json", include=names)
        if self.calibration is not None:
            found |= {
                "batch_size": self.calibration.batch_size,
                "max_seq_length": self.calibration.max_seq_length,
            }
        return found

    @model_validator(mode="after")
    def _has_data_if_it_needs_any(self) -> Self:
        if self.reads_data and self.calibration is None:
            raise rule(("method",), f"{self.method} needs calibration data; add calibration")
        if self.calibration is None:
            return self
        if self.calibration.min_tokens_per_chunk > self.calibration.max_seq_length:
            path = ("calibration", "min_tokens_per_chunk")
            raise rule(path, f"at most max_seq_length ({self.calibration.max_seq_length})")
        if self.method == "autoround" and self.calibration.modality != "text":
            raise rule(("calibration", "modality"), "AutoRound is calibrated with text here; write text")
        return self
