"""The YAML head of a card, written by the hub's own library. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.cards.facts import CardFacts
from components.core.benchmarks import BenchmarkRecord

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_TASKS = {True: "image-text-to-text", False: "text-generation"}
_INDEXED = {
    "perplexity_candidate": "perplexity", "mean_kl_base_to_candidate_nats": "kl_divergence",
    "candidate_score_percent": "accuracy",
}  # fmt: skip
_ORDER = ["base_model", "base_model_relation", "library_name", "pipeline_tag", "tags", "license"]


def front_matter(facts: CardFacts, records: Sequence[BenchmarkRecord]) -> str:
    """Between two lines of dashes: base, relation, licence, tags, and results as ``model-index``.

    Args:
        records: the candidate's, of each task and metric one.
    """
    from huggingface_hub import ModelCardData  # not at import: the app starts without it

    task = _TASKS[facts.pair.vision]
    results = [_result(record, task) for record in records if _is_indexed(record)]
    data = ModelCardData(
        base_model=facts.base_name, base_model_relation="quantized", library_name="vllm", pipeline_tag=task,
        tags=["vllm", "quantized", facts.model.scheme.lower()], license=facts.licence,
        model_name=facts.engine_id if results else None, eval_results=results or None,
    )  # fmt: skip
    return f"---\n{data.to_yaml(original_order=_ORDER)}\n---\n"


def _is_indexed(record: BenchmarkRecord) -> bool:
    """Whole tasks only: no kind of question alone, and no KL that rests on generated tokens."""
    whole = not record.details.get("kind") and not record.task.startswith("generation")
    return whole and record.metric in _INDEXED and record.value is not None


def _result(record: BenchmarkRecord, task: str) -> EvalResult:
    """One figure. The hub groups them by data set alone, so the convention or filter stands with the metric."""
    from huggingface_hub import EvalResult

    name, _, convention = record.task.partition(", ")
    return EvalResult(
        task_type=task, dataset_type=str(record.details.get("set") or name), dataset_name=name,
        metric_type=_INDEXED[record.metric], metric_value=record.value,
        metric_name=f"{record.metric} ({record.id})", metric_config=convention or None,
    )  # fmt: skip
