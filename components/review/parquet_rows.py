"""Rows of a Parquet file as those of any other table; pictures that lie inside it become files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from components.core.errors import InputError

_ROWS_AT_ONCE = 64


class ParquetRows:
    """One file. ``pictures`` fills while the rows are read: a row names its pictures by its keys."""

    def __init__(self, path: Path, name: str, folder: Path, *, max_picture_bytes: int, max_bytes: int) -> None:
        """``folder`` is where the pictures go, ``max_bytes`` what all of them may take together."""
        self._path, self.name, self._folder = path, name, folder
        self._max_picture_bytes, self._left = max_picture_bytes, max_bytes
        self.pictures: dict[str, Path] = {}

    def columns(self) -> list[str]:
        """The names of its columns.

        Raises:
            InputError: it is no Parquet file, or would unpack to too much.
        """
        import pyarrow as pa  # 0.2 s that only this needs
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(self._path)
            groups = [file.metadata.row_group(number).total_byte_size for number in range(file.metadata.num_row_groups)]
            names = [str(name) for name in file.schema_arrow.names]
        except (pa.ArrowException, OSError) as exc:
            raise InputError(f"It can't be read as Parquet: {str(exc)[:120]}.", field="file") from exc
        if sum(groups) > self._left:
            raise InputError(f"It would unpack to {sum(groups):,} bytes; {self._left:,} are accepted.", field="file")
        return names

    def rows(self, columns: list[str]) -> Iterator[tuple[str, Mapping[str, Any] | InputError]]:
        """``("row N", its values)`` from 1 on; an error instead where a picture of it can't be used.

        Raises:
            InputError: from here on it can't be read.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._folder.mkdir(parents=True, exist_ok=True)
        number = 0
        try:
            for part in pq.ParquetFile(self._path).iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns):
                for values in part.to_pylist():
                    number += 1
                    try:
                        yield f"row {number}", {key: self._value(value, number) for key, value in values.items()}
                    except InputError as exc:
                        yield f"row {number}", exc
        except (pa.ArrowException, OSError) as exc:
            raise InputError(f"It can't be read after row {number}: {str(exc)[:120]}.", field="file") from exc

    def _value(self, value: Any, row: int) -> Any:
        if isinstance(value, list):
            return [self._value(each, row) for each in value]
        if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
            return self._keep(value["bytes"], str(value.get("path") or ""), row)
        return self._keep(value, "", row) if isinstance(value, bytes) else value

    def _keep(self, data: bytes, called: str, row: int) -> str:
        """A picture as a file with a name of ours; the key that the row names it by."""
        if len(data) > min(self._max_picture_bytes, self._left):
            raise InputError(f"A picture of {len(data):,} bytes is too large.", field="image")
        self._left -= len(data)
        number = len(self.pictures)
        path = self._folder / f"{number}.picture"
        path.write_bytes(data)
        ending = PurePosixPath(called).suffix[:8] or ".png"
        key = f"{self.name}.{row}.{number}{ending}"
        self.pictures[key] = path
        return key
