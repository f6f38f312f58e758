"""Items with right answers: rows.jsonl with pictures beside it. Untrusted; read with limits."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from components.benchmark.metrics import METRICS
from components.core.answers import Record
from components.core.errors import InputError

_MAX_BYTES, _MAX_ROWS, _MAX_PICTURE_BYTES = 64 * 2**20, 20_000, 20 * 2**20
PICTURE_KINDS = {
    b"\x89PNG": "png",
    b"\xff\xd8\xff\xe0": "jpeg",
    b"\xff\xd8\xff\xe1": "jpeg",
    b"\xff\xd8\xff\xdb": "jpeg",
}
_PLACE = re.compile(r"(<image [1-9]>)")


class Message(Record):
    """One message of a chat; pictures go with the first of a user."""

    role: str = Field(pattern="^(system|user|assistant)$")
    content: str


class Item(Record):
    """One question."""

    id: str = Field(max_length=80)
    kind: str = Field(default="", max_length=80)
    metric: str = "exact_match"
    messages: tuple[Message, ...] = Field(min_length=1, max_length=64)
    answers: tuple[str, ...] = Field(min_length=1, max_length=64)
    images: tuple[str, ...] = Field(default=(), max_length=10)


def read_items(file: Path, limit: int | None, field: str = "overrides.items_file") -> list[Item]:
    """The first ``limit`` items of a rows.jsonl.

    Raises:
        InputError: it can't be read, or a line is no item; names the line.
    """
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise InputError(f"{file.name} is larger than 64 MiB.", "Split it.", field=field)
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(
            f"{file.name} can't be read.", "Accepted: the absolute path of a .jsonl file.", field=field, detail=str(exc)
        ) from exc
    rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    items = [_item(line, number, file, field) for number, line in rows[: min(limit or _MAX_ROWS, _MAX_ROWS)]]
    if len(items) < 2:
        raise InputError(f"{file.name} holds fewer than two items.", "At least two are needed.", field=field)
    return items


def _item(line: str, number: int, file: Path, field: str) -> Item:
    try:
        item = Item.model_validate({"id": str(number), **json.loads(line)})
    except (ValueError, TypeError, ValidationError) as exc:
        raise InputError(
            f"{file.name}, line {number}: this is no item.",
            'Accepted: {"messages": [{"role", "content"}], "answers": [text], "images": [name], "metric", "kind"}.',
            field=field, detail=str(exc)[:500],
        ) from exc  # fmt: skip
    if item.metric not in METRICS:
        hint = f"Accepted: {', '.join(METRICS)}."
        raise InputError(f"{file.name}, line {number}: there is no metric {item.metric[:40]!r}.", hint, field=field)
    return item


def messages_of(item: Item, folder: Path) -> list[dict[str, Any]]:
    """OpenAI messages; the pictures stand before the first user's text, or where it says ``<image 1>`` and so on.

    Raises:
        InputError: a picture is missing, lies elsewhere, or is no PNG or JPEG.
    """
    urls = [data_url(folder, name) for name in item.images]
    found: list[dict[str, Any]] = []
    for message in item.messages:
        content: Any = message.content
        if urls and message.role == "user":
            content = _with_pictures(
                message.content, [{"type": "image_url", "image_url": {"url": url}} for url in urls]
            )
        found.append({"role": message.role, "content": content})
        if message.role == "user":
            urls = []
    return found


def _with_pictures(text: str, pictures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each picture where the text names it by its number; those it does not name stand before it."""
    named = {number for number in range(1, len(pictures) + 1) if f"<image {number}>" in text}
    parts = [picture for number, picture in enumerate(pictures, 1) if number not in named]
    for piece in _PLACE.split(text):
        number = int(piece[7:-1]) if _PLACE.fullmatch(piece) else 0
        if number in named:
            parts.append(pictures[number - 1])
        elif piece.strip() or text == piece:
            parts.append({"type": "text", "text": piece})
    return parts


def data_url(folder: Path, name: str) -> str:
    """A picture beside the rows as a data URL.

    Raises:
        InputError: see ``messages_of``.
    """
    path = (folder / name).resolve()
    accepted = "Pictures are PNG or JPEG files in the folder of the rows, up to 20 MiB."
    if not path.is_relative_to(folder.resolve()) or not path.is_file() or path.stat().st_size > _MAX_PICTURE_BYTES:
        raise InputError(f"There is no picture {name[:80]!r}.", accepted, field="overrides.items_file")
    data = path.read_bytes()
    kind = PICTURE_KINDS.get(data[:4])
    if kind is None:
        raise InputError(f"{name[:80]!r} is no picture that can be sent.", accepted, field="overrides.items_file")
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")
