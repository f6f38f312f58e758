"""The model card: every section of the published one, no number without a record, nothing untrusted as markup."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from components.cards.card import build_card
from components.cards.facts import CardFacts, FileFact
from components.cards.markdown import code, table, text
from components.core.benchmarks import BenchmarkRecord
from components.core.markdown import fenced
from components.profiles.loader import load_pair

ROOT = Path(__file__).parents[3]
PAIR = load_pair(ROOT / "profiles", "embedded")
ENGINE = "embedded/w4a16"
# Headings of shared card 002, in its order; the two that name its own tools are ours' names for the same.
SECTIONS = (
    "Model Details", "Quantization Configuration", "Calibration Dataset", "Quality Benchmarks", "Perplexity",
    "KL Divergence vs the Base (Static / Prefill)", "KL Divergence vs the Base (Generation)", "vLLM Throughput",
    "Single Request", "Concurrent Requests", "Hardware Requirements", "Usage with vLLM", "Docker Deployment",
    "Inference Test", "Tokenizer", "Vision: Image Size Limit", "Files in This Repository", "License", "Citation",
)  # fmt: skip


def facts(**changes: Any) -> CardFacts:
    given = {
        "engine_id": ENGINE, "pair": PAIR, "model": PAIR.model("w4a16"), "base_id": "embedded/base",
        "base_name": "embedded/base", "licence": "apache-2.0", "config": {"num_hidden_layers": 6, "hidden_size": 320},
        "files": (FileFact(name="model.safetensors", size_bytes=8_123_456),), **changes,
    }  # fmt: skip
    return CardFacts(**given)


def record(number: int, suite: str, task: str, metric: str, value: float, **more: Any) -> BenchmarkRecord:
    common = {
        "id": f"benchmark-ab12-{number:04d}",
        "source": "measured",
        "suite": suite,
        "model": ENGINE,
        "base": "embedded/base",
        "job_id": "benchmark-ab12",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return BenchmarkRecord.model_validate({**common, "task": task, "metric": metric, "value": value, **more})


def measured() -> list[BenchmarkRecord]:
    text_task, load = "a text, llama.cpp-512", "text (128/64 tokens), 1 at a time"
    many, steps = "text (128/64 tokens), 4 at a time", "generation, prompts of 128 tokens, 64 steps"
    rows = [
        ("quality", text_task, "perplexity_base", 7.0332), ("quality", text_task, "perplexity_candidate", 7.2478),
        ("quality", text_task, "perplexity_ratio", 1.03051), ("quality", text_task, "perplexity_change_percent", 3.051),
        ("quality", text_task, "mean_kl_base_to_candidate_nats", 0.07461),
        ("quality", text_task, "median_kl_base_to_candidate_nats", 0.02791),
        ("quality", text_task, "p99_kl_base_to_candidate_nats", 0.5923),
        ("quality", steps, "step0_kl_base_to_candidate_nats", 0.0723),
        ("quality", steps, "mean_kl_base_to_candidate_nats", 0.0811),
        ("accuracy", "questions", "base_score_percent", 96.03),
        ("accuracy", "questions", "candidate_score_percent", 95.33),
        ("accuracy", "questions", "recovery_percent", 99.271), ("accuracy", "questions", "mcnemar_p", 0.62),
        ("throughput", load, "output_tokens_per_s", 107.63), ("throughput", many, "output_tokens_per_s", 2604.4),
        ("throughput", load, "median_e2el_ms", 5231.2),
        ("throughput", "text (128/64 tokens), all at once", "max_requests_per_s", 6.669),
        ("throughput", "text (128/64 tokens), at 60 % of the base's highest rate", "e2el_at_rate_ms", 413.21),
        ("cost", load, "queries_per_usd", 123.45),
    ]  # fmt: skip
    return [
        record(i, s, t, m, v, low=v * 0.97, high=v * 1.03, n=6120, n_unit="tokens", floor=3.21e-6)
        for i, (s, t, m, v) in enumerate(rows)
    ]  # fmt: skip


def numbers(markdown: str) -> set[str]:
    """Numbers of the prose and the tables: without code, metadata, and names of tasks, which hold their own."""
    body = re.sub(r"\A---\n.*?\n---\n", "", markdown, flags=re.DOTALL)
    body = re.sub(r"(`{3,}).*?\1", "", body, flags=re.DOTALL)
    body = re.sub(r"`[^`\n]*`", "", body)
    return set(re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?", body))


def test_no_number_of_the_card_lacks_a_source() -> None:
    card = build_card(facts(), measured())
    sourced = {number for shown in card.figures for number in re.findall(r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?", shown)}
    # Written by hand: names of formats and conventions, the interval's level, and what the profile's own words hold.
    words = {"16", "95", "99", "90", "20", "4", "0", "512"}
    left = numbers(card.markdown) - sourced - words
    assert left == set()
    ids = {r.id for r in measured()}
    assert {source for source in card.figures.values() if source.startswith("benchmark-")} <= ids


def test_it_has_every_section_and_says_what_is_missing() -> None:
    card = build_card(facts(), [])
    headings = re.findall(r"^#+ (.+)$", card.markdown, flags=re.MULTILINE)
    assert [name for name in SECTIONS if name not in headings] == []
    for words in ("Perplexity", "KL divergence (static)", "KL divergence (generation)", "Accuracy", "Throughput"):
        assert words in card.missing
    assert "not measured" in card.markdown
    full = build_card(facts(), measured())
    assert "Perplexity" not in full.missing
    assert "Accuracy" not in full.missing


def test_its_head_is_what_the_hub_reads() -> None:
    card = ModelCard(build_card(facts(), measured()).markdown)
    data = card.data.to_dict()
    assert (data["base_model"], data["base_model_relation"], data["license"]) == (
        "embedded/base",
        "quantized",
        "apache-2.0",
    )
    assert data["pipeline_tag"] == "image-text-to-text"
    assert card.data.eval_results
    assert {result.metric_type for result in card.data.eval_results} == {"perplexity", "kl_divergence", "accuracy"}


def test_the_hubs_library_loses_nothing_of_its_results() -> None:
    same_set = [
        record(30, "quality", "a text, gptq-2048", "perplexity_candidate", 5.5),
        record(31, "accuracy", "docvqa, anls", "candidate_score_percent", 91.5, details={"set": "lmms-lab/DocVQA"}),
        record(32, "accuracy", "docvqa, exact", "candidate_score_percent", 80.5, details={"set": "lmms-lab/DocVQA"}),
        record(33, "accuracy", "docvqa: tables", "candidate_score_percent", 70.5, details={"kind": "tables"}),
    ]
    markdown = build_card(facts(), [*measured(), *same_set]).markdown
    written = yaml.safe_load(markdown.split("---\n")[1])
    name, results = model_index_to_eval_results(written["model-index"])
    assert eval_results_to_model_index(name, results) == written["model-index"]
    assert ModelCard(markdown).data.to_dict() == written
    told = {
        (one.dataset_type, one.dataset_name, one.metric_type, one.metric_config): one.metric_value for one in results
    }
    assert told == {
        ("a text", "a text", "perplexity", "llama.cpp-512"): 7.2478,
        ("a text", "a text", "kl_divergence", "llama.cpp-512"): 0.07461,
        ("a text", "a text", "perplexity", "gptq-2048"): 5.5,
        ("questions", "questions", "accuracy", None): 95.33,
        ("lmms-lab/DocVQA", "docvqa", "accuracy", "anls"): 91.5,
        ("lmms-lab/DocVQA", "docvqa", "accuracy", "exact"): 80.5,
    }


def test_a_table_says_how_many_it_rests_on_and_what_its_brackets_hold() -> None:
    rows = [r.model_copy(update={"interval": "95 %, bootstrap over requests"}) for r in measured()]
    rate = next(r for r in rows if r.metric == "e2el_at_rate_ms")
    of_base = rate.model_copy(
        update={"id": "benchmark-ab12-0900", "model": "embedded/base", "base": None, "value": 398.5}
    )
    other_run = of_base.model_copy(update={"id": "benchmark-zz-0900", "job_id": "benchmark-zz", "value": 111.25})
    markdown = build_card(facts(), [*rows, of_base, other_run]).markdown
    line = next(line for line in markdown.splitlines() if "at 60 % of the base" in line)
    assert "6120 tokens" in line and "398.5 ms" in line and "413.2 ms (" in line
    assert "In brackets: 95 %, bootstrap over requests." in markdown
    assert "111.2" not in markdown  # the base on another day


def test_an_earlier_run_is_neither_shown_nor_indexed() -> None:
    old = record(40, "accuracy", "questions", "candidate_score_percent", 11.25, id="benchmark-old-0001",
                 job_id="benchmark-old", created_at=datetime(2025, 1, 1, tzinfo=UTC))  # fmt: skip
    card = build_card(facts(), [old, *measured()])
    assert "11.25" not in card.markdown
    assert "benchmark-old" not in card.markdown


def test_an_unknown_licence_is_missing_and_never_assumed() -> None:
    card = build_card(facts(licence=None), [])
    assert "license" not in yaml.safe_load(card.markdown.split("---")[1])
    assert "Licence of the base" in card.missing


HOSTILE = "<script>alert(1)</script> | [x](javascript:1) `code` \n# heading"


def test_untrusted_text_stays_text() -> None:
    model = PAIR.model("w4a16").model_copy(update={"label": HOSTILE[:70], "description": HOSTILE})
    records = [record(1, "accuracy", HOSTILE, "candidate_score_percent", 50.0, n=2, n_unit="items")]
    markdown = build_card(facts(model=model, files=(FileFact(name=HOSTILE, size_bytes=10),)), records).markdown
    body = markdown.split("---\n", 2)[2]
    outside = re.sub(r"`[^`\n]*`", "", re.sub(r"(`{3,}).*?\1", "", body, flags=re.DOTALL))
    assert "<script>" not in outside
    assert "](javascript" not in outside.replace("\\]", "").replace("\\[", "")
    assert "\n# heading" not in outside


@pytest.mark.parametrize("value", ["a|b", "`x`", "<b>", "*x*", "[l](u)", "line\nbreak", "\\"])
def test_cells_cannot_leave_their_table(value: str) -> None:
    lines = table(["h", "i"], [[text(value), code(value)]]).splitlines()
    assert len(lines) == 3
    assert len(re.findall(r"(?<!\\)\|", lines[2])) == 3


def test_what_turns_or_hides_text_is_shown() -> None:
    assert text("a\u202eb") == "a\\\\u\\{202e\\}b"
    assert code("a\u200bb") == "`a\\u{200b}b`"


def test_a_fence_is_longer_than_any_in_it() -> None:
    assert fenced("a ``` b", "json").startswith("````json\n")
