"""The report's arithmetic and the exports: every text escaped, no figure without its base."""

from __future__ import annotations

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.reviews import Box, Choice, Claim, Item, Verdict, outcome_of
from components.review.export import as_csv, as_html, as_jsonl, as_markdown, verdict_rows
from components.review.parquet import as_parquet
from components.review.report import coverage_curve, report_of
from tests.data.reviews import batch, item, items
from tests.data.traces import MOMENT

HOSTILE = "<img src=x onerror=alert(1)>\"'`${x}`"


def verdict(the_item: Item, choice: str = "a", *, number: int = 1, reviewer: str = "ann", **changes: object) -> Verdict:
    values: dict[str, object] = {
        "id": f"{the_item.id}-{len(reviewer)}-{number}", "item_id": the_item.id, "reviewer": reviewer, "round": number,
        "verdict": Choice(choice), "a_is": "base", "created_at": MOMENT, "seconds": 4.0,
        "outcome": outcome_of(Choice(choice), "base", None, None),
    }  # fmt: skip
    return Verdict.model_validate(values | changes)


def judged(the_item: Item, outcome: str) -> Item:
    return the_item.model_copy(update={"outcome": outcome, "verdicts": 1})


def test_counts_shares_and_sign_test() -> None:
    outcomes = ["regressed"] * 7 + ["improved"] * 3 + ["same"] * 10
    rows = [judged(found, outcome) for found, outcome in zip(items(20), outcomes, strict=True)] + [item(20)]
    report = report_of(rows, [verdict(row) for row in rows[:20]])
    assert report["outcomes"]["counts"] == {
        "regressed": 7, "improved": 3, "both_wrong": 0, "same": 10, "conflict": 0,
    }  # fmt: skip
    assert (report["items"], report["answered"], report["judged"]) == (21, 21, 20)
    assert report["outcomes"]["sign_test_p"] == 0.34375
    assert report["regressed_turns"] == [f"b1-t{n}" for n in reversed(range(7))], "all of them, most divergent first"
    assert report["outcomes"]["shares"]["regressed"]["hits"] == 7
    assert report["estimate"] == {"judged": 0, "slice": 0, "regressed": None, "improved": None}
    assert report["by_tag"][0]["name"] in ("even", "(no tag)")
    assert sum(row["judged"] for row in report["by_tag"]) == 20
    assert report["seconds_per_item"] == 4.0
    assert json.dumps(report, allow_nan=False)


def test_what_two_reviewers_claim_alike_counts_once_an_item() -> None:
    claim = Claim(answer="b", error_type="wrong_count", text="three")
    both = Claim(answer="a", error_type="language", other_too=True)
    row = judged(item(1), "regressed")
    said = [
        verdict(row, "a", claims=(claim, both), note="Off by one."),
        verdict(
            row,
            "b",
            reviewer="benny",
            a_is="candidate",
            claims=(claim.model_copy(update={"answer": "a"}),),
            note="Off by one.",
        ),
    ]
    report = report_of([row], said)
    assert report["by_error_type"] == [
        {"name": "language", "base": 1, "candidate": 1}, {"name": "wrong_count", "base": 0, "candidate": 1},
    ]  # fmt: skip
    (worst,) = report["worst"]
    assert [(c["error_type"], c["side"], c["reviewers"]) for c in worst["claims"]] == [
        ("wrong_count", "candidate", 2), ("language", "base", 1),
    ]  # fmt: skip
    assert worst["notes"] == ["Off by one."]
    page = as_html(batch(), report, lambda sha: None, made_at="now")
    assert "candidate: wrong count, major “three”, by 2 reviewers" in page


def test_nothing_judged_gives_no_number() -> None:
    report = report_of(items(3), [])
    assert report["outcomes"]["shares"] == {}
    assert report["outcomes"]["sign_test_p"] is None
    assert report["agreement"]["krippendorff_alpha"] is None
    assert report["curve"] is None
    text = as_markdown(batch(), report)
    assert "not measured" in text
    assert "kappa not defined (no item was judged again)" in text
    assert "not known" in text


def test_the_slice_estimates_the_whole() -> None:
    rows = [judged(found, "regressed" if found.position < 2 else "same") for found in items(8)]
    rows = [row.model_copy(update={"in_slice": row.position % 2 == 0}) for row in rows]
    estimate = report_of(rows, [])["estimate"]
    assert (estimate["judged"], estimate["slice"], estimate["regressed"]["hits"]) == (4, 4, 1)


def test_the_curve_follows_the_order_of_divergence() -> None:
    rows = items(30)  # the last are the most divergent
    curve = coverage_curve(rows, lambda row: row.position >= 27)
    assert curve is not None
    assert (curve["regressions"], curve["found_in_first_third"], curve["reviewed_for_90_percent"]) == (3, 1.0, 0.1)
    assert curve["points"][0] == [0.0, 0.0]
    assert curve["points"][-1] == [1.0, 1.0]
    worst = coverage_curve(rows, lambda row: row.position == 0)
    assert worst is not None
    assert worst["reviewed_for_90_percent"] == 1.0
    assert coverage_curve(rows, lambda row: None) is None


def test_every_text_of_the_html_is_escaped() -> None:
    one = judged(item(1, base=HOSTILE, candidate=HOSTILE), "regressed")
    question = one.question.model_copy(update={"prompt": HOSTILE, "reference": HOSTILE, "key": HOSTILE})
    one = one.model_copy(update={"question": question})
    claim = Claim(answer="a", error_type="misread_text", text=HOSTILE, note=HOSTILE)
    said = verdict(one, claims=(claim,), note=HOSTILE, reviewer="<b>ann</b>")
    page = as_html(batch(name=HOSTILE), report_of([one], [said]), lambda _: None, made_at="now")
    assert "<img" not in page
    assert "<b>" not in page
    assert "<script" not in page
    assert page.count("&lt;img") >= 6
    assert "default-src 'none'" in page


def test_rows_as_jsonl_and_csv() -> None:
    one = judged(item(1, base="=1+1", candidate="line\nbreak"), "regressed")
    rows = verdict_rows(batch(), {one.id: one}, [verdict(one, note="a,b")])
    assert json.loads(as_jsonl(rows)) == rows[0]
    assert (rows[0]["base_text"], rows[0]["a_is"], rows[0]["outcome"]) == ("=1+1", "base", "regressed")
    (read,) = csv.DictReader(io.StringIO(as_csv(rows)))
    assert read["base_text"] == "'=1+1", "no formula for a spreadsheet"
    assert (read["candidate_text"], read["note"]) == ("line\nbreak", "a,b")
    assert as_csv([]) == ""


def test_rows_as_parquet_come_back_with_their_types() -> None:
    claim = Claim(answer="b", error_type="spatial", text="left", start=3, box=Box(x=1, y=2, width=3, height=4))
    the_item = item(1, base="half \ud800")
    rows = verdict_rows(batch(), {the_item.id: the_item}, [verdict(the_item, claims=(claim,), note=HOSTILE)])
    table = pq.read_table(io.BytesIO(as_parquet(rows)))
    (read,) = table.to_pylist()
    assert read.keys() == rows[0].keys(), "no field is left out"
    assert read["base_text"] == "half \ufffd\ufffd\ufffd"
    same = set(rows[0]) - {"base_text", "claims"}
    assert {name: read[name] for name in same} == {name: rows[0][name] for name in same}
    assert read["claims"] == rows[0]["claims"]
    empty = pq.read_table(io.BytesIO(as_parquet([])))
    assert empty.schema == table.schema
    assert (empty.num_rows, empty.schema.field("seconds").type) == (0, pa.float64())
