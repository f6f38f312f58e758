"""What a benchmark job is given: everything resolved, so that it does not change when profiles do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.core.answers import Record
from components.profiles.schema import PairProfile

SuiteChoice = Literal["quality", "accuracy", "throughput", "all"]
SUITE_CHOICES: tuple[SuiteChoice, ...] = ("all", "quality", "accuracy", "throughput")


class TextCorpus(Record):
    """A text that is cut into chunks."""

    name: str
    file: str | None = Field(description="None = WikiText-2 from the hub")
    convention: str
    note: str = Field(default="", description="What a reader of its figures should know")


class QuestionCorpus(Record):
    """Questions, with pictures or without, whose right answers are scored."""

    name: str
    file: str


class QualitySettings(Record):
    """Perplexity, static KL, generation KL."""

    texts: tuple[TextCorpus, ...] = ()
    questions: tuple[QuestionCorpus, ...] = ()
    kl_base_file: str | None = Field(default=None, description="A base's log-probabilities as llama.cpp writes them")
    write_kl_base: bool = Field(default=False, description="Such a file of our base for each text")
    chunks: int | None = Field(default=24, ge=2, description="Of each text, from its beginning; None = all")
    items: int | None = Field(default=60, ge=2, description="Of each set of questions; None = all")
    floor_chunks: int = Field(default=3, ge=1, description="On which the base is compared with itself")
    draws: int = Field(default=1000, ge=100, le=20_000, description="Of the bootstrap")
    prompt_lengths: tuple[int, ...] = Field(default=(128, 512, 1024), description="Of generation KL; empty = none")
    prompts: int = Field(default=4, ge=2, description="For each length")
    steps: int = Field(default=128, ge=8, description="Tokens that are generated")


class AccuracySettings(Record):
    """Items with right answers."""

    file: str | None = Field(default=None, description="rows.jsonl; None = there is nothing to ask this pair")
    name: str = ""
    items: int | None = Field(default=300, ge=2, description="From the beginning; None = all")
    metric: str | None = Field(default=None, description="For all items; None = each row's own")
    vision_sets: tuple[str, ...] = Field(default=(), description="Published sets, from the hub")
    lm_eval: tuple[str, ...] = Field(default=(), description="Text tasks that lm-eval asks")
    shots: int | None = Field(default=None, ge=0, description="Examples before them; None = as the task says")
    max_tokens: int = Field(default=96, ge=1)
    concurrency: int = Field(default=8, ge=1, le=256)


class UseCase(Record):
    """What one request looks like."""

    id: str
    label: str
    prompt_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=2)
    image: tuple[int, int] | None = Field(default=None, description="Width and height, pixels")


class ThroughputSettings(Record):
    """Load on the engines."""

    use_cases: tuple[UseCase, ...] = ()
    concurrency: tuple[int, ...] = (1, 4)
    requests: int = Field(default=8, ge=2, description="Of each use case and level, in one round")
    rounds: int = Field(default=2, ge=1, description="Base and candidate in turn")
    fixed_length: bool = Field(default=True, description="Exactly output_tokens; false = to the natural end")
    seed: int = 0
    rate_cases: tuple[str, ...] = Field(default=(), description="Use cases asked at request rates too")
    rate_shares: tuple[float, ...] = Field(default=(), description="Rates as shares of the base's highest")


class CostSettings(Record):
    """What an hour costs."""

    hardware: str = Field(default="", description="Id of the hardware profile")
    usd_per_hour: float | None = Field(default=None, gt=0, description="Of one device; None = not priced")
    devices: int = Field(default=1, ge=1)
    source: str = Field(default="", description="Who asked that price, and when")


class BenchmarkSpec(Record):
    """The driver's input."""

    format: Literal[1] = 1
    pair: PairProfile
    candidate_ids: tuple[str, ...] = Field(min_length=1)
    suite: SuiteChoice
    quality: QualitySettings
    accuracy: AccuracySettings
    throughput: ThroughputSettings
    cost: CostSettings
    device: Literal["cpu", "cuda"]
    state_dir: str
    repository: str
    work_key: str = Field(description="Equal for equal work: what a job that was ended left is gone on with")

    def as_json(self) -> bytes:
        """For the job's folder. What a profile left unset stays so: a model's settings are the pair's unless set."""
        return self.model_dump_json(exclude_unset=True).encode()

    @property
    def runs(self) -> tuple[str, ...]:
        """Suites in the order they run."""
        return ("quality", "accuracy", "throughput") if self.suite == "all" else (self.suite,)
