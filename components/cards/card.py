"""The model card of a candidate, in the structure of the published ones, from records and files only. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from components.cards.facts import Card, CardFacts
from components.cards.markdown import code, prose, text
from components.cards.measured import write_accuracy, write_cost, write_quality, write_throughput
from components.cards.metadata import front_matter
from components.cards.model_parts import (
    write_acknowledgments,
    write_calibration,
    write_details,
    write_files,
    write_hardware,
    write_intended_use,
    write_licence,
    write_notes,
    write_quantization,
    write_usage,
)
from components.cards.writer import CardWriter
from components.core.benchmarks import BenchmarkRecord, newest, of_the_same_runs


def build_card(facts: CardFacts, records: Sequence[BenchmarkRecord]) -> Card:
    """The whole card.

    Args:
        records: measured figures of this candidate and of its base; others are passed over.
    """
    own = newest(record for record in records if record.source == "measured" and record.model == facts.engine_id)
    of_base = [record for record in records if record.source == "measured" and record.model == facts.base_id]
    base = of_the_same_runs(own, of_base)
    writer = CardWriter(own)
    _summary(writer, facts, own)
    write_intended_use(writer, facts)
    write_details(writer, facts)
    write_quantization(writer, facts)
    write_calibration(writer, facts)
    writer.heading("Quality Benchmarks")
    write_quality(writer)
    write_accuracy(writer)
    write_throughput(writer, CardWriter(base))
    write_cost(writer)
    write_hardware(writer, facts)
    write_usage(writer, facts)
    write_notes(writer, facts)
    write_files(writer, facts)
    write_licence(writer, facts)
    write_acknowledgments(writer, facts)
    if writer.missing:
        writer.heading("Not Measured or Not Known")
        writer.write("\n".join(f"- {text(words)}" for words in writer.missing))
    head = front_matter(facts, own)
    return Card(
        model=facts.engine_id, markdown=f"{head}\n{writer.markdown}", missing=tuple(writer.missing),
        prose=facts.prose, figures=writer.figures,
    )  # fmt: skip


def _summary(writer: CardWriter, facts: CardFacts, own: Sequence[BenchmarkRecord]) -> None:
    writer.heading(f"{text(facts.pair.title)}: {text(facts.model.label)}", level=1)
    own_words = facts.prose.parts.get("summary")
    words = prose(own_words) if own_words else text(facts.model.description)
    writer.write(f"A {text(facts.model.scheme)} quantization of {code(facts.base_name)}.", words)
    runs = sorted({record.job_id for record in own if record.job_id})
    if runs:
        writer.write(
            "What this card tells of quality, speed and cost was measured by Diptych; the last column of a table names "
            f"the record that holds the figures. Runs: {', '.join(code(run) for run in runs)}."
        )
    else:
        writer.write("Nothing was measured yet.")
