"""Exports are complete, are JSON, and hold untrusted text in fences it can't leave."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.answers import Answer, ImageRecord, Timing, TokenStep, TopLogprob
from components.core.states import Outcome
from components.core.trace_export import (
    export_name,
    trace_to_dict,
    trace_to_markdown,
    traces_to_dict,
    traces_to_markdown,
)
from components.core.traces import Alarm, StoredAnswer, Trace
from tests.data.traces import MOMENT, finished, image, label, slot, turn


def _trace(text: str = "Two red circles.", **changes: Any) -> Trace:
    answers = (
        StoredAnswer(slot=slot("a0"), answer=finished(text), started_at=MOMENT, finished_at=MOMENT),
        StoredAnswer(slot=slot("a1", 1), answer=finished("One."), started_at=MOMENT, finished_at=MOMENT),
    )
    return turn(columns=0, **{"answers": answers} | changes)


def test_json_holds_ids_logprobs_settings_and_hashes() -> None:
    document = json.loads(json.dumps(trace_to_dict(_trace()), allow_nan=False))
    column = document["columns"][0]
    assert column["role"] == "base"
    assert column["answer"]["token_ids"] == [0, 1, 2]
    assert len(column["answer"]["tokens"][0]["top"]) == 20
    assert column["answer"]["tokens"][1]["logprob"] == -0.5
    assert column["answer"]["prompt_token_ids"] == [1, 2, 3]
    assert column["timing"]["ttft_ms"] == 12.5
    assert column["sampling"]["max_tokens"] == 256
    assert document["images"][0]["sha256"] == "b" * 64
    assert document["tools"][0]["function"]["name"] == "look"


@pytest.mark.parametrize(
    ("record", "exported"),
    [
        (Trace, "trace"),
        (Answer, "answer"),
        (ImageRecord, "image"),
        (TokenStep, "step"),
        (Timing, "timing"),
        (StoredAnswer, "column"),
    ],
)
def test_every_field_of_a_record_is_exported_or_this_fails(record: Any, exported: str) -> None:
    document = trace_to_dict(_trace())
    column = document["columns"][0]
    step = column["answer"]["tokens"][0]
    places = {
        "trace": set(document) | {"answers"},
        "answer": set(column["answer"]) | {"timing"},
        "image": set(document["images"][0]),
        "step": set(step),
        "timing": set(column["timing"]),
        "column": set(column) | {"slot"},
    }
    assert set(record.model_fields) <= places[exported]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_null_never_nan(number: float) -> None:
    step = TokenStep(
        token_id=1, text="x", logprob=number, top=(TopLogprob(token_id=1, text="x", logprob=number),), at_ms=1.0
    )
    answer = finished(tokens=(step,), timing=Timing(tpot_ms=number))
    trace = _trace(answers=(StoredAnswer(slot=slot("a0"), answer=answer, started_at=MOMENT),))
    document = json.loads(json.dumps(trace_to_dict(trace), allow_nan=False))
    exported = document["columns"][0]
    assert exported["answer"]["tokens"][0]["logprob"] is None
    assert exported["answer"]["tokens"][0]["top"][0]["logprob"] is None
    assert exported["timing"]["tpot_ms"] is None
    assert "nan" not in trace_to_markdown(trace).lower()


def test_markdown_reads_like_a_report() -> None:
    trace = _trace(alarms=(Alarm(code="settings_differ", severity="warning", message="The seeds differ."),))
    text = trace_to_markdown(trace)
    for expected in (
        "### Prompt",
        "How many circles?",
        f"sha256 `{'b' * 64}`",
        "96 × 64",
        "### Base: Embedded base",
        "### Candidate: Embedded candidate",
        "TTFT 12 ms · TPOT 3.2 ms · 307.7 tok/s · prompt 70 tokens · image 64 tokens · output 3 tokens",
        "weights W4A16 · revision aaaaaaaaaaaa · unquantized\\: vision, head",
        "Settings: temperature 0 · top-p 1 · max tokens 256",
        "> **warning**: The seeds differ.",
    ):
        assert expected in text


def test_a_failed_answer_says_what_happened() -> None:
    answer = finished("Tw", outcome=Outcome.TRUNCATED, finish_reason=None, error={"code": "x", "message": "It died."})
    text = trace_to_markdown(_trace(answers=(StoredAnswer(slot=slot("a0", 0, 2), answer=answer, started_at=MOMENT),)))
    assert "> **truncated**: It died." in text
    assert "attempt 2" in text


_LINES = st.sampled_from(
    ["```", "````", "`````` ", "  ```", "~~~", "```text", "# h", "<b>", "![x](y)", "\u202e\u2028", "\r", ""]
)


@given(st.lists(_LINES, max_size=8).map("\n".join))
def test_f38_untrusted_text_cannot_leave_its_fence(text: str) -> None:
    lines = trace_to_markdown(_trace(text)).split("\n")
    fence: str | None = None
    for line in lines:
        assert not re.search("[\x00-\x08\x0b-\x1f\u202e\u2028]", line)
        if fence is None and (opening := re.fullmatch(r"(`{3,})text", line)):
            fence = opening[1]
        elif fence is not None and re.fullmatch(r" {0,3}" + fence + "`*[ \t]*", line):
            fence = None
        elif fence is None:
            assert line == "" or re.match(
                r"## Diptych|### |\d{4}-|- |weights |TTFT |Settings: |Made with |\(no text\)", line
            ), line
    assert fence is None


def test_f38_names_and_labels_are_inert_in_a_line() -> None:
    hostile = "![x](https://evil.example/a)<img src=x>\n# h\n|@everyone `c`"
    answers = (StoredAnswer(slot=slot("a0").model_copy(update={"label": label(model=hostile)}), started_at=MOMENT),)
    text = trace_to_markdown(_trace(images=(image(name=hostile),), answers=answers, pair=hostile))
    outside = re.sub(r"`+text\n.*?\n`+", "", text, flags=re.DOTALL)
    assert "\n# h" not in outside
    assert not re.search(r"(?<!\\)[\[<@|]", outside)
    assert "https://" not in outside


def test_f37_hostile_prompts_are_exact_in_json_and_visible_in_markdown() -> None:
    prompt = "a\x00b\u202ec\x1b[31m\ud800"
    trace = _trace(prompt=prompt)
    assert trace_to_dict(trace)["prompt"] == "a\x00b\u202ec\x1b[31m\\u{d800}"
    json.dumps(trace_to_dict(trace)).encode("utf-8")
    assert "a\\u{0000}b\\u{202e}c\\u{001b}[31m\\u{d800}" in trace_to_markdown(trace)


def test_f45_an_export_name_holds_nothing_of_the_user() -> None:
    assert export_name(_trace(prompt="../../etc/passwd"), "json") == "diptych-20261121-010203-t1.json"
    with pytest.raises(ValueError):
        export_name(_trace(), "../x")
    for bad in ("../x", "a/b", "a.b", "%2e", "", "x\n", "a" * 65):
        with pytest.raises(ValueError):
            turn(bad)


def test_a_conversation_is_one_document() -> None:
    assert [entry["id"] for entry in traces_to_dict([_trace(), turn("t2")])["traces"]] == ["t1", "t2"]
    assert traces_to_markdown([_trace(), turn("t2")]).count("## Diptych comparison") == 2


def test_the_newest_attempt_of_every_column_is_found() -> None:
    stored = [
        StoredAnswer(slot=slot(name, position, attempt), started_at=MOMENT)
        for name, position, attempt in (("a", 0, 1), ("b", 0, 2), ("c", 1, 1))
    ]
    assert [answer.slot.id for answer in turn(columns=0).latest_answers] == []
    assert [answer.slot.id for answer in _trace(answers=tuple(stored)).latest_answers] == ["b", "c"]
