"""Verdicts as one Parquet file, every column with its type, so that an empty export reads like a full one. Pure."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

# Fields of a verdict's row that are no text.
_NUMBERS = ("divergence_base_to_candidate_nats", "disagreement", "seconds")
_FLAGS = (
    "in_random_slice", "a_right", "b_right", "base_right", "candidate_right", "zoomed", "settles_conflict"
)  # fmt: skip
_TEXTS = (
    "verdict_id", "batch", "item_id", "key", "prompt", "reference", "base_engine", "candidate_engine", "base_text",
    "candidate_text", "divergence_method", "trace_id", "reviewer", "verdict", "a_is", "outcome", "note", "state",
    "submitted_at",
)  # fmt: skip
_LISTS = ("tags", "images")


def as_parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The rows of ``export.verdict_rows``; half a surrogate pair, which no UTF-8 holds, becomes U+FFFD."""
    import pyarrow as pa  # 0.2 s and 100 MB that only an export needs
    import pyarrow.parquet as pq

    text = pa.string()
    box = pa.struct([("image", pa.int64()), *((name, pa.float64()) for name in ("x", "y", "width", "height"))])
    claim = pa.struct(
        [
            *((name, text) for name in ("answer", "side", "error_type", "severity", "text", "note")),
            ("start", pa.int64()), ("other_too", pa.bool_()), ("box", box),
        ]
    )  # fmt: skip
    schema = pa.schema(
        [
            *((name, text) for name in _TEXTS), *((name, pa.float64()) for name in _NUMBERS),
            *((name, pa.bool_()) for name in _FLAGS), *((name, pa.list_(text)) for name in _LISTS),
            ("round", pa.int64()), ("claims", pa.list_(claim)),
        ]
    )  # fmt: skip
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([_whole(row) for row in rows], schema=schema), out, compression="zstd")
    return out.getvalue()


def _whole(value: Any) -> Any:
    """The same with texts that UTF-8 can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {key: _whole(each) for key, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value
