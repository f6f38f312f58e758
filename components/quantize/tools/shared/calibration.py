"""From rows to the samples a tool is calibrated with: token ids of the model's own tokenizer, and its own pixels.

Short rows are joined to chunks of at least so many tokens; a row with a picture stays a sample of its own, for a cut
could go through the picture. What is dropped is counted with its reason. Needs no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from components.jobs.tool_reporting import ScriptError
from components.quantize.tools.shared.coders import Coder, Sample, load_coder
from components.quantize.tools.shared.rows import Row, read_source


@dataclass
class SourceReport:
    """What became of one source."""

    name: str
    rows: int = 0
    tokens: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass
class Calibration:
    """The samples, and how they came about."""

    samples: list[Sample]
    sources: list[SourceReport]
    tokenizer: str
    asked: int

    def lengths(self) -> list[int]:
        """Tokens of each sample."""
        return [len(sample.ids) for sample in self.samples]

    def fingerprint(self) -> str:
        """SHA-256 of all token ids in their order."""
        return hashlib.sha256(json.dumps([sample.ids for sample in self.samples]).encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """What is kept of it with the job."""
        lengths = self.lengths()
        return {
            "tokenizer": self.tokenizer,
            "samples": len(self.samples),
            "samples_asked": self.asked,
            "samples_with_pictures": sum(bool(sample.pictures) for sample in self.samples),
            "tokens": {"all": sum(lengths), "shortest": min(lengths), "longest": max(lengths)},
            "token_ids_sha256": self.fingerprint(),
            "sources": [
                {"name": one.name, "rows": one.rows, "tokens": one.tokens, "dropped": dict(one.dropped)}
                for one in self.sources
            ],
        }


def build(settings: dict[str, Any], model_folder: Path) -> Calibration:
    """The calibration set of a job.

    Args:
        settings: ``samples``, ``max_seq_length`` and ``min_tokens_per_chunk`` (tokens; 0 = each row is a sample),
            ``pictures`` (every sample has some, or none has: tools follow the way of the first one), ``seed``, and
            ``sources``: each with ``name``, ``weight``, ``repeat`` and what ``read_source`` wants.
        model_folder: where the model's tokenizer is.

    Raises:
        ScriptError: a source can't be read, or nothing is left to calibrate with.
    """
    coder = load_coder(model_folder)
    feeds = [_Feed(source, index, coder, settings) for index, source in enumerate(settings["sources"])]
    samples = _pack(feeds, coder, settings)
    if not samples:
        dropped = sum((feed.report.dropped for feed in feeds), Counter[str]())
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "the sources have no rows"
        raise ScriptError(f"calibration: no sample is left to calibrate with: {why}.", "calibration.sources")
    return Calibration(samples, [feed.report for feed in feeds], coder.name, settings["samples"])


class _Feed:
    """The coded rows of one source, one after the other."""

    def __init__(self, source: dict[str, Any], index: int, coder: Coder, settings: dict[str, Any]) -> None:
        self.report = SourceReport(source["name"])
        self.weight = float(source.get("weight", 1.0))
        self._source, self._place, self._coder = source, f"calibration.sources[{index}]", coder
        self._longest, self._seed = settings["max_seq_length"], settings["seed"]
        self._pictures = settings["pictures"]
        self._coded = self._code()

    def take(self) -> Sample | None:
        """The next row that can be used; None at the end."""
        return next(self._coded, None)

    def _code(self) -> Iterator[Sample]:
        for _ in range(self._source.get("repeat", 1)):
            for row in read_source(self._source, self._place, self._seed):
                self.report.rows += 1
                sample = self._sample(row)
                if sample is not None:
                    self.report.tokens += len(sample.ids)
                    yield sample

    def _sample(self, row: Row) -> Sample | None:
        if bool(row.images) != self._pictures:
            self.report.dropped["without a picture" if self._pictures else "with a picture, in a set of text"] += 1
            return None
        try:
            sample = self._coder.encode(row)
        except ValueError as exc:
            self.report.dropped[str(exc)] += 1
            return None
        if not sample.ids:
            self.report.dropped["empty"] += 1
            return None
        if sample.pictures and len(sample.ids) > self._longest:
            self.report.dropped[f"with pictures and longer than {self._longest} tokens"] += 1
            return None
        return sample


def _pack(feeds: list[_Feed], coder: Coder, settings: dict[str, Any]) -> list[Sample]:
    """Rows from all sources by their weights, joined until there are enough samples."""
    least, longest = settings["min_tokens_per_chunk"], settings["max_seq_length"]
    samples: list[Sample] = []
    chunk: list[int] = []
    open_feeds = list(feeds)
    while open_feeds and len(samples) < settings["samples"]:
        feed = min(open_feeds, key=lambda one: one.report.tokens / one.weight)
        row = feed.take()
        if row is None:
            open_feeds.remove(feed)
        elif row.pictures or not least:
            samples.append(Sample(row.ids[:longest], row.pictures))
        else:
            chunk += row.ids if chunk else [*coder.start, *row.ids]
            while len(chunk) >= least and len(samples) < settings["samples"]:
                samples.append(Sample(chunk[:longest]))
                chunk = [*coder.start, *chunk[longest:]] if len(chunk) > longest else []
    if len(chunk) > len(coder.start) and len(samples) < settings["samples"]:
        feeds[-1].report.dropped[f"tokens left over, fewer than a chunk of {least}"] += len(chunk)
    return samples


def as_batch(sample: Sample) -> dict[str, Any]:
    """A sample as arrays for a model: ``input_ids`` (1, T), ``attention_mask`` (1, T), ``pixel_values`` (N, 3, H, W).

    Pictures of different sizes are padded with zeros to the largest; ``image_sizes`` (N, 2) tells the true ones.
    """
    ids = np.asarray([sample.ids], dtype=np.int64)
    batch: dict[str, Any] = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    if sample.pictures:
        sizes = np.asarray([picture.shape[1:] for picture in sample.pictures], dtype=np.int64)
        pixels = np.zeros((len(sizes), 3, *sizes.max(axis=0)), dtype=np.float32)
        for place, picture in enumerate(sample.pictures):
            pixels[place, :, : picture.shape[1], : picture.shape[2]] = picture
        batch |= {"pixel_values": pixels, "image_sizes": sizes}
    return batch
