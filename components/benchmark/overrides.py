"""A spec's overrides → the suites' settings: strict, every refusal names its field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from components.benchmark.corpora import CONVENTIONS, find_convention, read_text
from components.benchmark.kl_base_file import read_kl_base
from components.benchmark.metrics import METRICS
from components.benchmark.rows import read_items
from components.benchmark.spec import (
    AccuracySettings,
    CostSettings,
    QualitySettings,
    QuestionCorpus,
    TextCorpus,
    ThroughputSettings,
)
from components.benchmark.text_tasks import check_task_names
from components.benchmark.throughput import CARD_USE_CASES
from components.benchmark.vision_sets import check_set_names
from components.core.answers import Record
from components.core.errors import InputError
from components.profiles.loader import load_hardware
from components.profiles.schema import PairProfile

EMBEDDED = "embedded"
TEXTS = ("auto", "bundled", "wikitext-2")
_OWN_NOTE = (
    "The embedded model was trained to answer, not to go on with a text: its perplexity here is high by nature; the "
    "questions say more about it."
)
_FEWER_ON_CPU: dict[str, int] = {"requests": 4, "rounds": 2, "output_tokens": 64}
_ON_GPU: dict[str, int] = {"requests": 32, "rounds": 3}


class Overrides(Record):
    """What a person may change; everything may be left out."""

    text: str = Field(default="auto", description="bundled, wikitext-2 (from the hub), or auto = bundled")
    text_file: str | None = Field(default=None, max_length=1000, description="A text of one's own instead")
    convention: str = Field(default="llama.cpp-512", description="How the text is cut")
    kl_base_file: str | None = Field(
        default=None, max_length=1000, description="Score the candidate against llama.cpp's --kl-divergence-base file"
    )
    write_kl_base: bool = Field(default=False, description="Write such a file of the base, of the text's chunks")
    chunks: int | None = Field(default=None, ge=2, le=100_000, description="Of the text; None = the default")
    all_chunks: bool = Field(default=False, description="The whole text")
    items_file: str | None = Field(default=None, max_length=1000, description="rows.jsonl of one's own")
    items: int | None = Field(default=None, ge=2, le=20_000)
    vision_sets: tuple[str, ...] = Field(default=(), max_length=8, description="Published sets, such as chartqa")
    lm_eval: tuple[str, ...] = Field(default=(), max_length=16, description="Text tasks for lm-eval, such as mmlu")
    shots: int | None = Field(default=None, ge=0, le=64, description="Examples before them; None = as the task says")
    metric: str | None = Field(default=None)
    max_tokens: int | None = Field(default=None, ge=1, le=8192, description="Of an answer of the accuracy suite")
    draws: int = Field(default=1000, ge=100, le=20_000)
    prompt_lengths: tuple[int, ...] | None = Field(default=None, max_length=6, description="Of generation KL")
    prompts: int | None = Field(default=None, ge=2, le=1000)
    steps: int | None = Field(default=None, ge=8, le=2048)
    use_cases: tuple[str, ...] | None = Field(default=None, max_length=8)
    concurrency: tuple[int, ...] | None = Field(default=None, max_length=8)
    requests: int | None = Field(default=None, ge=2, le=10_000)
    rounds: int | None = Field(default=None, ge=1, le=20)
    output_tokens: int | None = Field(default=None, ge=2, le=8192)
    fixed_length: bool = True
    rate_shares: tuple[float, ...] = Field(
        default=(0.3, 0.6, 0.9), max_length=8, description="Request rates as shares of the base's highest; empty = none"
    )
    hardware: str | None = Field(default=None, max_length=64)
    devices: int = Field(default=1, ge=1, le=64)
    usd_per_hour: float | None = Field(default=None, gt=0, le=10_000)


@dataclass(frozen=True)
class SuiteSettings:
    """Settings of every suite."""

    quality: QualitySettings
    accuracy: AccuracySettings
    throughput: ThroughputSettings
    cost: CostSettings


def check_overrides(given: object) -> Overrides:
    """The overrides of a spec.

    Raises:
        InputError: a field does not exist or can't be used.
    """
    if not isinstance(given, Mapping):
        raise InputError("overrides is no object.", f"Accepted: {_fields()}.", field="overrides")
    try:
        found = Overrides.model_validate(dict(given))
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        unknown = first["type"] == "extra_forbidden"
        hint = f"Accepted: {_fields()}." if unknown else f"{name}: {first['msg']}."
        message = f"There is no field {name[:40]!r}." if unknown else f"{name} can't be used."
        raise InputError(message, hint, field=f"overrides.{name[:60]}") from exc
    find_convention(found.convention)
    _one_of(found.text, TEXTS, "text")
    if found.metric is not None:
        _one_of(found.metric, tuple(METRICS), "metric")
    for case in found.use_cases or ():
        _one_of(case, tuple(case.id for case in CARD_USE_CASES), "use_cases")
    check_task_names(found.lm_eval)
    check_set_names(found.vision_sets)
    if any(not 0 < share <= 2 for share in found.rate_shares):
        raise InputError(
            "rate_shares holds a share that can't be used.",
            "Accepted: above 0, up to 2.",
            field="overrides.rate_shares",
        )
    for name in ("concurrency", "prompt_lengths"):
        if any(not 1 <= number <= 65_536 for number in getattr(found, name) or ()):
            raise InputError(
                f"{name} holds a number that can't be used.", "Accepted: 1 to 65536.", field=f"overrides.{name}"
            )
    return found


def _fields() -> str:
    return ", ".join(Overrides.model_fields)


def _one_of(value: str, accepted: tuple[str, ...], name: str) -> None:
    if value not in accepted:
        raise InputError(
            f"{name}: there is no {value[:40]!r}.", f"Accepted: {', '.join(accepted)}.", field=f"overrides.{name}"
        )


def settings_of(given: Overrides, pair: PairProfile, repository: Path, device: Literal["cpu", "cuda"]) -> SuiteSettings:
    """What the suites will do.

    Raises:
        InputError: a file can't be read, or a hardware profile does not exist.
    """
    sets = repository / "assets" / "benchmark"
    own = pair.id == EMBEDDED or pair.id.startswith(f"made-{EMBEDDED}")
    return SuiteSettings(
        quality=_quality(given, sets, own=own, device=device, window=_longest(pair)),
        accuracy=_accuracy(given, sets, own=own, vision=pair.vision),
        throughput=_throughput(given, pair, device),
        cost=_cost(given, repository, device),
    )


def _longest(pair: PairProfile) -> int:
    return min(pair.serve_of(model).max_model_len for model in pair.models)


def _quality(given: Overrides, sets: Path, *, own: bool, device: str, window: int) -> QualitySettings:
    convention = CONVENTIONS[given.convention]
    if convention.window > window:
        raise InputError(
            f"{convention.id} needs {convention.window} tokens; this pair is served with {window}.",
            "Choose another convention, or raise max_model_len in the pair's profile.", field="overrides.convention",
        )  # fmt: skip
    text = _text(given, sets, own)
    if text.file is not None:
        read_text(Path(text.file), text.name)
    if given.write_kl_base and convention.id != "llama.cpp-512":
        raise InputError(
            "llama.cpp's file holds chunks as llama.cpp cuts them.", "Accepted: convention llama.cpp-512.",
            field="overrides.write_kl_base",
        )  # fmt: skip
    if given.kl_base_file is not None:
        return _against_file(given, device, window)
    questions = sets / "embedded-questions" / "rows.jsonl"
    lengths = given.prompt_lengths if given.prompt_lengths is not None else (128, 512, 1024)
    steps = given.steps or (128 if device == "cuda" else 64)
    return QualitySettings(
        texts=(text,),
        questions=(QuestionCorpus(name="embedded-questions", file=str(questions)),) if own else (),
        chunks=None if given.all_chunks else given.chunks or (64 if device == "cuda" else 16),
        items=min(given.items or 40, 400),
        draws=given.draws,
        prompt_lengths=tuple(length for length in lengths if length + steps <= window),
        prompts=given.prompts or (32 if device == "cuda" else 4),
        steps=steps,
        write_kl_base=given.write_kl_base,
    )


def _against_file(given: Overrides, device: str, window: int) -> QualitySettings:
    """The candidate against a file in place of texts and questions."""
    path = Path(given.kl_base_file or "")
    if not path.is_absolute():
        raise InputError("The path is not absolute.", "Accepted: /folder/base.kld.", field="overrides.kl_base_file")
    if given.write_kl_base:
        raise InputError("A file is read or written, not both.", "Leave one out.", field="overrides.write_kl_base")
    found = read_kl_base(path)
    if found.window > window:
        raise InputError(
            f"{path.name} has chunks of {found.window} tokens; this pair is served with {window}.",
            "Write it with a smaller --ctx-size, or raise max_model_len in the pair's profile.",
            field="overrides.kl_base_file",
        )  # fmt: skip
    chunks = None if given.all_chunks else given.chunks or (64 if device == "cuda" else 16)
    return QualitySettings(kl_base_file=str(path), chunks=chunks, draws=given.draws, prompt_lengths=())


def _text(given: Overrides, sets: Path, own: bool) -> TextCorpus:
    if given.text_file is not None:
        path = Path(given.text_file)
        if not path.is_absolute():
            raise InputError("The path is not absolute.", "Accepted: /folder/file.txt.", field="overrides.text_file")
        return TextCorpus(name=path.name, file=str(path), convention=given.convention)
    if given.text == "wikitext-2":
        return TextCorpus(name="wikitext-2-raw-v1 (test)", file=None, convention=given.convention)
    name = "embedded-conversations" if own else "own-text"
    note = _OWN_NOTE if own else ""
    return TextCorpus(name=name, file=str(sets / name / "text.txt"), convention=given.convention, note=note)


def _accuracy(given: Overrides, sets: Path, *, own: bool, vision: bool) -> AccuracySettings:
    if given.vision_sets and not vision:
        raise InputError("A text pair takes no pictures.", "Accepted: lm_eval.", field="overrides.vision_sets")
    file, name = (sets / "embedded-questions" / "rows.jsonl", "embedded-questions") if own else (None, "")
    if given.items_file is not None:
        file = Path(given.items_file)
        if not file.is_absolute():
            raise InputError("The path is not absolute.", "Accepted: /folder/rows.jsonl.", field="overrides.items_file")
        name = file.parent.name or file.name
        read_items(file, given.items)
    changed = {"max_tokens": given.max_tokens} if given.max_tokens else {}
    return AccuracySettings(
        file=str(file) if file else None, name=name, items=given.items or 300, metric=given.metric,
        vision_sets=given.vision_sets, lm_eval=given.lm_eval, shots=given.shots, **changed,
    )  # fmt: skip


def _throughput(given: Overrides, pair: PairProfile, device: str) -> ThroughputSettings:
    small = _FEWER_ON_CPU if device == "cpu" else _ON_GPU
    chosen = given.use_cases or tuple(case.id for case in CARD_USE_CASES)
    length = given.output_tokens or small.get("output_tokens")
    cases = [case for case in CARD_USE_CASES if case.id in chosen and (pair.vision or case.image is None)]
    if not cases:
        raise InputError("A text pair takes no pictures.", "Accepted: text.", field="overrides.use_cases")
    return ThroughputSettings(
        use_cases=tuple(case.model_copy(update={"output_tokens": length}) if length else case for case in cases),
        concurrency=given.concurrency or ((1, 4) if device == "cpu" else (1, 8, 32)),
        requests=given.requests or small["requests"],
        rounds=given.rounds or small["rounds"],
        fixed_length=given.fixed_length,
        rate_cases=tuple(case.id for case in cases[-1 if device == "cpu" else 0 :]),
        rate_shares=given.rate_shares,
    )


def _cost(given: Overrides, repository: Path, device: str) -> CostSettings:
    profiles = {one.id: one for one in load_hardware(repository / "profiles")[0]}
    name = given.hardware or ("cpu" if device == "cpu" else "")
    if name and name not in profiles:
        hint = f"Accepted: {', '.join(profiles)}."
        raise InputError(f"There is no hardware profile {name!r}.", hint, field="overrides.hardware")
    profile = profiles.get(name)
    if given.usd_per_hour is not None:
        return CostSettings(
            hardware=name, usd_per_hour=given.usd_per_hour, devices=given.devices, source="price given with the job"
        )
    if profile is None or profile.price_usd_per_hour is None:
        return CostSettings(hardware=name, devices=given.devices)
    return CostSettings(
        hardware=name, usd_per_hour=profile.price_usd_per_hour, devices=given.devices,
        source=f"{profile.price_source}, {profile.price_date}",
    )  # fmt: skip
