"""The YAML head of a card, in the hub library's own words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from components.cards.facts import CardFacts
from components.core.benchmarks import BenchmarkRecord

_TASKS = {True: "image-text-to-text", False: "text-generation"}
_INDEXED = {
    "perplexity_candidate": "perplexity", "mean_kl_base_to_candidate_nats": "kl_divergence",
    "candidate_score_percent": "accuracy",
}  # fmt: skip


def front_matter(facts: CardFacts, records: Sequence[BenchmarkRecord]) -> str:
    """Between two lines of dashes: base, relation, licence, tags, and results as ``model-index``."""
    task = _TASKS[facts.pair.vision]
    document: dict[str, object] = {
        "base_model": facts.base_name,
        "base_model_relation": "quantized",
        "library_name": "vllm",
        "pipeline_tag": task,
        "tags": ["vllm", "quantized", facts.model.scheme.lower()],
    }
    if facts.licence:
        document["license"] = facts.licence
    results = [_result(record, task) for record in records if _is_indexed(record)]
    if results:
        document["model-index"] = [{"name": facts.engine_id, "results": results}]
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{text}---\n"


def _is_indexed(record: BenchmarkRecord) -> bool:
    """Whole tasks only: no kind of question alone, and no KL that rests on generated tokens."""
    whole = not record.details.get("kind") and not record.task.startswith("generation")
    return whole and record.metric in _INDEXED and record.value is not None


def _result(record: BenchmarkRecord, task: str) -> dict[str, object]:
    metric = {"type": _INDEXED[record.metric], "name": f"{record.metric} ({record.id})", "value": record.value}
    return {
        "task": {"type": task},
        "dataset": {"type": record.task.split(",")[0], "name": record.task},
        "metrics": [metric],
    }
