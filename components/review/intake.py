"""What a person loads for review → questions, with a list of what is wrong, by row. Pictures are found, not decoded.

Accepted: a CSV, JSONL or Parquet with the fields below, beside its pictures or in a zip with them; or pictures alone,
each of which is asked every prompt. Nothing is ever written outside the folder given, and nothing in a zip is believed.
"""

from __future__ import annotations

import csv
import io
import json
import stat
import zipfile
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from components.core.errors import InputError
from components.review.parquet_rows import ParquetRows

FIELDS = {
    "id": ("id", "key"),
    "prompt": ("prompt", "question"),
    "images": ("images", "image", "image_path", "file"),
    "reference": ("reference", "answer", "answers", "expected"),
    "tags": ("tags", "tag", "kind"),
}
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
TABLES = (".csv", ".jsonl", ".parquet")
MAX_ROWS = 100_000
MAX_TABLE_BYTES = 200_000_000
MAX_UNPACKED_BYTES = 2_000_000_000
MAX_TEXT = 100_000
_LINK = stat.S_IFLNK


@dataclass(frozen=True)
class Fault:
    """One thing that can't be used, and where it stands."""

    row: str  # "row 3", or a file's name
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.row}, {self.field}: {self.message}"


@dataclass(frozen=True)
class Row:
    """One question before its pictures are decoded."""

    where: str
    key: str
    prompt: str
    images: tuple[tuple[str, Path], ...]  # the person's name of each, and where it lies
    reference: str | None = None
    tags: tuple[str, ...] = ()


@dataclass
class Intake:
    """What was found: rows that can be used, and faults of those that can't."""

    rows: list[Row] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def read_folder(folder: Path, prompts: Sequence[str], *, max_picture_bytes: int, unpack_to: Path) -> Intake:
    """Everything in a folder: zips are unpacked first; tables give rows, pictures alone are asked every prompt.

    Raises:
        InputError: it is no folder, or holds nothing that can be asked about.
    """
    if not folder.is_dir():
        raise InputError("That is not a folder on this machine.", "Give the path of a folder.", field="source")
    found = Intake()
    files = _files(folder)
    for number, path in enumerate(sorted(p for p in files.values() if p.suffix.lower() == ".zip")):
        files |= unpack(path, unpack_to / str(number), max_picture_bytes=max_picture_bytes, faults=found.faults)
    tables = sorted(name for name in files if name.lower().endswith(TABLES))
    for number, name in enumerate(tables):
        if name.lower().endswith(".parquet"):
            pictures = unpack_to / f"table-{number}"
            table = ParquetRows(
                files[name], name, pictures, max_picture_bytes=max_picture_bytes, max_bytes=MAX_UNPACKED_BYTES
            )
            # A data set may be in many files, and their rows seldom have ids.
            _read_parquet(table, f"{name} " if len(tables) > 1 else "", files, found, prompts)
        else:
            _read_table(name, files, found, prompts)
    if not tables:
        _read_matrix(files, prompts, found)
    _refuse_doubles(found)
    if len(found.rows) > MAX_ROWS:
        raise InputError(f"{len(found.rows):,} questions are too many.", f"Accepted: {MAX_ROWS:,}.", field="source")
    return found


def _files(folder: Path) -> dict[str, Path]:
    """Files below a folder by their name in it; links are left out, for they may lead anywhere."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


# ---- zip ------------------------------------------------------------------------------------------------------------


def unpack(archive: Path, target: Path, *, max_picture_bytes: int, faults: list[Fault]) -> dict[str, Path]:
    """Pictures and tables of a zip, by their name in it. Their files get names of ours, so none can lead outside."""
    target.mkdir(parents=True, exist_ok=True)
    unpacked: dict[str, Path] = {}
    left = MAX_UNPACKED_BYTES
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            if len(entries) > MAX_ROWS * 2:
                raise InputError(f"{archive.name} has {len(entries):,} files: too many.", field="source")
            for number, entry in enumerate(entries):
                if entry.is_dir():
                    continue
                most = MAX_TABLE_BYTES if entry.filename.lower().endswith(TABLES) else max_picture_bytes
                reason = _why_not(entry, min(most, left))
                if reason:
                    faults.append(Fault(entry.filename[:200], "file", reason))
                elif entry.filename.lower().endswith((*PICTURES, *TABLES)):
                    path = target / f"{number}{PurePosixPath(entry.filename).suffix.lower()}"
                    left -= _write_entry(opened, entry, path, min(most, left), faults)
                    if path.exists():
                        unpacked[entry.filename] = path
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as exc:
        faults.append(
            Fault(archive.name, "file", f"It can't be read as a zip: {str(exc)[:120] or type(exc).__name__}.")
        )
    return unpacked


def _why_not(entry: zipfile.ZipInfo, most: int) -> str:
    parts = PurePosixPath(entry.filename.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in entry.filename[:3]:
        return "Its path leads out of the zip; it was left out."
    if (entry.external_attr >> 16) & 0o170000 == _LINK:
        return "It is a link; it was left out."
    if entry.flag_bits & 1:
        return "It is encrypted; it was left out."
    if entry.file_size > most:
        return f"It would unpack to {entry.file_size:,} bytes; {most:,} are left. It was left out."
    return ""


def _write_entry(
    opened: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, most: int, faults: list[Fault]
) -> int:  # fmt: skip
    """Unpack one file, never more than it may have whatever its header says; how many bytes were written."""
    written = 0
    try:
        with opened.open(entry) as source, path.open("xb") as out:
            while chunk := source.read(1 << 20):
                written += len(chunk)
                if written > most:
                    raise zipfile.BadZipFile("it is larger than it says")
                out.write(chunk)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as exc:
        path.unlink(missing_ok=True)
        faults.append(Fault(entry.filename[:200], "file", f"It can't be unpacked: {str(exc)[:120]}."))
    return written


# ---- tables ---------------------------------------------------------------------------------------------------------


def _read_table(name: str, files: Mapping[str, Path], found: Intake, prompts: Sequence[str]) -> None:
    path = files[name]
    if path.stat().st_size > MAX_TABLE_BYTES:
        found.faults.append(Fault(name, "file", f"It is larger than {MAX_TABLE_BYTES:,} bytes."))
        return
    text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    records = _csv_rows(name, text, found.faults) if name.lower().endswith(".csv") else _json_rows(text, found.faults)
    for number, record in records:
        _read_row(number, record, name, files, found, prompts)


def _read_parquet(
    table: ParquetRows, prefix: str, files: dict[str, Path], found: Intake, prompts: Sequence[str]
) -> None:  # fmt: skip
    try:
        names = table.columns()
        known = [each for each in names if _field_of(each)]
        if not {_field_of(each) for each in known} & {"prompt", "images"}:
            found.faults.append(_no_columns(table.name, names))
            return
        for where, record in table.rows(known):
            if isinstance(record, InputError):
                found.faults.append(Fault(prefix + where, record.field or "row", str(record)))
            else:
                _read_row(prefix + where, record, table.name, ChainMap(table.pictures, files), found, prompts)
            if len(found.rows) > MAX_ROWS:
                return
    except InputError as exc:
        found.faults.append(Fault(table.name, exc.field or "file", str(exc)))


def _no_columns(name: str, names: Sequence[str]) -> Fault:
    return Fault(name, "columns", f"Found {', '.join(map(repr, names))[:200] or 'none'}. Needed: prompt, or image.")


def _csv_rows(name: str, text: str, faults: list[Fault]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    csv.field_size_limit(MAX_TEXT * 2)
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="__more__")
    try:
        names = reader.fieldnames or []
        if not any(_field_of(each) in ("prompt", "images") for each in names):
            faults.append(_no_columns(name, names))
            return
        for number, record in enumerate(reader, start=2):
            if "__more__" in record:
                faults.append(Fault(f"row {number}", "columns", "It has more fields than the first row."))
            else:
                yield f"row {number}", record
    except csv.Error as exc:
        faults.append(Fault(f"line {reader.line_num}", "file", f"It is not CSV from here on: {exc}."))


def _json_rows(text: str, faults: list[Fault]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as exc:
            faults.append(Fault(f"row {number}", "line", f"It is not JSON: {str(exc)[:120]}."))
            continue
        if isinstance(record, dict):
            yield f"row {number}", record
        else:
            faults.append(Fault(f"row {number}", "line", "It is no JSON object."))


def _field_of(column: object) -> str | None:
    name = str(column).strip().lower()
    return next((own for own, names in FIELDS.items() if name in names), None)


def _read_row(
    where: str, record: Mapping[str, Any], table: str, files: Mapping[str, Path], found: Intake, prompts: Sequence[str]
) -> None:  # fmt: skip
    values: dict[str, Any] = {}
    for column, value in record.items():
        own = _field_of(column)
        if own and value not in (None, "", []):
            values.setdefault(own, value)
    try:
        images = tuple(_picture(name, table, files) for name in _listed(values.get("images"), "|"))
        asked = [_text(values["prompt"], "prompt")] if "prompt" in values else list(prompts)
        if not asked:
            raise InputError("There is no prompt.", "Write one in the column prompt, or give prompts.", field="prompt")
        known = values.get("reference")
        known = known[0] if isinstance(known, list) else known  # of several right answers the first
        reference = None if known is None else _text(known, "reference")
        tags = tuple(_text(tag, "tags")[:80] for tag in _listed(values.get("tags"), ";|,"))
        key = _text(values.get("id", where.removeprefix("row ")), "id")[:200]
    except InputError as exc:
        found.faults.append(Fault(where, exc.field or "row", str(exc)))
        return
    for number, prompt in enumerate(asked):
        own_key = key if len(asked) == 1 else f"{key}.{number + 1}"
        found.rows.append(Row(where, own_key, prompt, images, reference, tags))


def _listed(value: Any, separators: str) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list):
        return value
    parts = [str(value)]
    for separator in separators:
        parts = [piece for part in parts for piece in part.split(separator)]
    return [part.strip() for part in parts if part.strip()]


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str | int | float):
        raise InputError("It is no text.", field=name)
    text = str(value)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError("It is not UTF-8.", "Save the file as UTF-8.", field=name)
    if len(text) > MAX_TEXT or "\x00" in text:
        raise InputError(f"It has {len(text):,} characters or a NUL; {MAX_TEXT:,} are accepted.", field=name)
    if name == "prompt" and not text.strip():
        raise InputError("It is empty.", field=name)
    return text


def _picture(name: Any, table: str, files: Mapping[str, Path]) -> tuple[str, Path]:
    """The file that a row names, looked up among those that came with the table: no other can ever be reached."""
    wanted = _text(name, "image").replace("\\", "/").removeprefix("./")
    beside = str(PurePosixPath(table).parent / wanted)
    path = files.get(beside) or files.get(wanted)
    if path is None:
        raise InputError(f"There is no picture {wanted[:120]!r} beside the table.", field="image")
    return PurePosixPath(wanted).name, path


# ---- pictures alone -------------------------------------------------------------------------------------------------


def _read_matrix(files: Mapping[str, Path], prompts: Sequence[str], found: Intake) -> None:
    pictures = {name: path for name, path in files.items() if name.lower().endswith(PICTURES)}
    if pictures and not prompts:
        raise InputError(
            "There are pictures but no prompt.", "Write prompts, one a line, or add a CSV.", field="prompts"
        )
    for name, path in pictures.items():
        for number, prompt in enumerate(prompts):
            key = name if len(prompts) == 1 else f"{name}.{number + 1}"
            found.rows.append(Row(name, key, prompt, ((PurePosixPath(name).name, path),)))
    if not files and not found.faults:
        found.rows += [Row(f"prompt {n}", str(n), prompt, ()) for n, prompt in enumerate(prompts, start=1)]


def _refuse_doubles(found: Intake) -> None:
    """Of rows with one id the first is kept: what a verdict is about must be clear."""
    seen: set[str] = set()
    kept = []
    for row in found.rows:
        if row.key in seen:
            found.faults.append(Fault(row.where, "id", f"{row.key[:80]!r} stands there twice; the first was kept."))
        else:
            seen.add(row.key)
            kept.append(row)
    found.rows = kept
