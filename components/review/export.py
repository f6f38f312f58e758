"""Verdicts for other programs (rows, CSV, JSONL) and for people (static HTML, a table for the model card). Pure.

One row per verdict, fields named here one by one. In HTML every text is escaped and no script runs; in CSV a text that
a spreadsheet would take for a formula gets an apostrophe before it.
"""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from components.core.errors import InputError
from components.core.reviews import Batch, Item, Verdict
from components.review.report import claimed_side

FORMATS = ("json", "jsonl", "csv", "parquet", "html", "markdown")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#1c1c21;"
    "background:#faf9f6}table{border-collapse:collapse;margin:1rem 0}th,td{text-align:left;padding:4px 14px 4px 0;"
    "border-bottom:1px solid #e4e1da;vertical-align:top}img{max-width:220px;max-height:220px}article{border:1px solid "
    "#e4e1da;border-radius:10px;padding:14px 18px;margin:1rem 0;background:#fff}pre{white-space:pre-wrap;"
    "overflow-wrap:anywhere;margin:0;font:inherit}.soft{color:#66645f}"
)


def verdict_rows(batch: Batch, items: Mapping[str, Item], verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """One row per verdict. Times are ISO-8601 UTC, divergences nats."""
    return [verdict_record(batch, items[verdict.item_id], verdict) for verdict in verdicts]


def verdict_record(batch: Batch, item: Item, verdict: Verdict) -> dict[str, Any]:
    """A stored verdict with its item, unsealed."""
    answered = item.answered
    base_right, candidate_right = (
        (verdict.a_right, verdict.b_right) if verdict.a_is == "base" else (verdict.b_right, verdict.a_right)
    )
    return {
        "verdict_id": verdict.id,
        "batch": batch.id,
        "item_id": item.id,
        "key": item.question.key,
        "prompt": item.question.prompt,
        "reference": item.question.reference,
        "tags": list(item.question.tags),
        "images": [image.sha256 for image in item.question.images],
        "base_engine": batch.base_engine,
        "candidate_engine": item.candidate_engine,
        "base_text": answered.base_text if answered else None,
        "candidate_text": answered.candidate_text if answered else None,
        "divergence_base_to_candidate_nats": answered.divergence_nats if answered else None,
        "divergence_method": answered.method if answered else None,
        "disagreement": answered.disagreement if answered else None,
        "in_random_slice": item.in_slice,
        "trace_id": item.trace_id,
        "reviewer": verdict.reviewer,
        "round": verdict.round,
        "verdict": verdict.verdict.value,
        "a_is": verdict.a_is,
        "a_right": verdict.a_right,
        "b_right": verdict.b_right,
        "base_right": base_right,
        "candidate_right": candidate_right,
        "outcome": verdict.outcome.value,
        "claims": [
            {**claim.model_dump(mode="json"), "side": claimed_side(verdict, claim.answer)} for claim in verdict.claims
        ],
        "note": verdict.note,
        "zoomed": verdict.zoomed,
        "seconds": verdict.seconds,
        "settles_conflict": verdict.settles,
        "state": verdict.state,
        "submitted_at": verdict.created_at.isoformat(),
    }


def as_jsonl(rows: Sequence[Mapping[str, Any]]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """With a head; lists are JSON."""
    out = io.StringIO()
    if rows:
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow(rows[0].keys())
        writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def as_markdown(batch: Batch, report: Mapping[str, Any]) -> str:
    """A table for the model card: only counts and figures, no text of any model."""
    lines = [
        f"Human review of {report['judged']} of {report['answered']} items, blind, by {len(report['reviewers'])} "
        f"reviewer{'' if len(report['reviewers']) == 1 else 's'}.",
        "",
        "| outcome | items | share of judged (95 % interval) |",
        "|---|---:|---|",
    ]
    for name, count in report["outcomes"]["counts"].items():
        shares = report["outcomes"]["shares"]
        lines.append(f"| {name.replace('_', ' ')} | {count} | {share_text(shares.get(name))} |")
    lines += ["", f"Sign test, regressed against improved: {p_text(report['outcomes']['sign_test_p'])}."]
    estimate = report["estimate"]
    if estimate["regressed"]:
        lines.append(
            f"Random slice, {estimate['judged']} of {estimate['slice']} judged: regressed "
            f"{share_text(estimate['regressed'])} of all items."
        )
    else:
        lines.append("The random slice is not judged yet: how often the candidate regresses on all items is not known.")
    agreed = report["agreement"]
    lines.append(
        f"Reviewers with themselves on {agreed['repeats']} repeats: kappa {_agreed_text(agreed, 'self_kappa')}; "
        f"with each other on {agreed['shared_items']} items: Krippendorff's alpha "
        f"{_agreed_text(agreed, 'krippendorff_alpha')}."
    )
    if agreed["conflicts"]:
        lines.append(
            f"Items on which they differed: {agreed['conflicts']}, {agreed['conflicts_settled']} settled by a third."
        )
    return "\n".join(lines) + "\n"


def share_text(share: Mapping[str, Any] | None) -> str:
    """Such as ``12.5 % [4.0, 31.0], 2 of 16``."""
    if not share:
        return "not measured"
    low, high = share["low"] * 100, share["high"] * 100
    return f"{share['value'] * 100:.1f} % [{low:.1f}, {high:.1f}], {share['hits']} of {share['of']}"


def p_text(value: float | None) -> str:
    """A p value in words."""
    return "no item changed" if value is None else f"p = {value:.3g}"


def _agreed_text(agreed: Mapping[str, Any], name: str) -> str:
    value, missing = agreed[name], agreed[f"{name}_missing"]
    return f"not defined ({missing})" if value is None else f"{value:.2f}"


def as_html(
    batch: Batch, report: Mapping[str, Any], data_url: Callable[[str], str | None], *, made_at: str
) -> str:  # fmt: skip
    """One file without scripts that needs nothing else.

    Args:
        batch: which.
        report: from ``report.report_of``.
        data_url: a picture's ``data:`` URL by its hash; None = leave it out.
        made_at: when, in words.
    """
    facts = "".join(f"<li>{html.escape(line)}</li>" for line in as_markdown(batch, report).splitlines()
                    if line and not line.startswith("|"))  # fmt: skip
    rows = "".join(
        f"<tr><th>{html.escape(name.replace('_', ' '))}</th><td>{count}</td>"
        f"<td>{html.escape(share_text(report['outcomes']['shares'].get(name)))}</td></tr>"
        for name, count in report["outcomes"]["counts"].items()
    )
    worst = "".join(_article(row, data_url) for row in report["worst"])
    title = html.escape(f"Review of {batch.name}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; style-src '
        f"'unsafe-inline'\"><title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f'<p class="soft">{html.escape(batch.base_engine)} against '
        f"{html.escape(', '.join(batch.candidate_engines))} · {html.escape(made_at)}</p><ul>{facts}</ul>"
        f"<table><thead><tr><th>outcome</th><th>items</th><th>share of judged</th></tr></thead><tbody>{rows}"
        f"</tbody></table><h2>Regressed, most divergent first</h2>{worst or '<p>None.</p>'}</body></html>\n"
    )


def _article(row: Mapping[str, Any], data_url: Callable[[str], str | None]) -> str:
    pictures = "".join(
        f'<img src="{html.escape(url, quote=True)}" alt="">' for sha in row["images"] if (url := data_url(sha))
    )
    claims = "".join(f"<li>{html.escape(_claim_text(claim))}</li>" for claim in row["claims"])
    parts = [("Prompt", row["prompt"]), ("Base", row["base_text"]), ("Candidate", row["candidate_text"])]
    if row["reference"] is not None:
        parts.append(("Reference", row["reference"]))
    parts += [("Note", note) for note in row["notes"]]
    cells = "".join(f"<tr><th>{name}</th><td><pre>{html.escape(text)}</pre></td></tr>" for name, text in parts)
    divergence = row["divergence_nats"]
    line = "not measured" if divergence is None else f"{divergence:.3f} nats"
    return f'<article>{pictures}<table>{cells}</table><ul>{claims}</ul><p class="soft">Divergence {line}</p></article>'


def _claim_text(claim: Mapping[str, Any]) -> str:
    """Such as ``candidate: wrong count, major “three”, by 2 reviewers``."""
    words = f" “{claim['text']}”" if claim["text"] else ""
    by = f", by {claim['reviewers']} reviewers" if claim["reviewers"] > 1 else ""
    return f"{claim['side']}: {claim['error_type'].replace('_', ' ')}, {claim['severity']}{words}{by}"


def check_format(name: object) -> str:
    """A format's name.

    Raises:
        InputError: there is no such format.
    """
    if name in (None, ""):
        return "json"
    if name not in FORMATS:
        raise InputError(f"{str(name)[:40]!r} is no format.", f"Accepted: {', '.join(FORMATS)}.", field="format")
    return str(name)
