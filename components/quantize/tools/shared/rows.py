"""Rows of calibration data: read from files, folders and data sets of a hub, each as text, chat or ready token ids.

Runs in the tool's interpreter and in the app's (for the preview). Rows are data of strangers: nothing in them is run.
A row is a JSON object of one of these forms; pictures are paths beside the file:

    {"text": "…"}                                            plain text
    {"prompt": "…", "response": "…", "images": ["a.png"]}    one turn
    {"messages": [{"role": "user", "content": "…"}, …], "images": […]}    a chat; pictures belong to its first question
    {"input_ids": [1, 2, 3]}                                 token ids of this very model
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.jobs.tool_reporting import ScriptError

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
QUESTION_ABOUT_PICTURES = "What does this image show?"  # of llm-compressor's own flickr30k recipe
FORMS = "text, prompt (with response, images), messages (with images), input_ids"


@dataclass
class Row:
    """One piece of calibration data, in exactly one of its forms."""

    text: str | None = None
    messages: list[dict[str, str]] | None = None
    input_ids: list[int] | None = None
    images: list[Any] = field(default_factory=list)  # paths, or pictures in memory


def read_source(source: dict[str, Any], place: str, seed: int) -> Iterator[Row]:
    """The rows of a source.

    Args:
        source: ``{"kind": "file", "file": …}`` or ``{"kind": "hub", "repo_id": …, "template": …, "split": …}``.
        place: where it stands in the spec, for messages.
        seed: of a hub's shuffling; files keep their order.

    Raises:
        ScriptError: it can't be read; names the place and what is accepted.
    """
    if source["kind"] == "hub":
        yield from _from_hub(source, place, seed)
        return
    path = Path(source["file"])
    if path.is_dir():
        yield from _from_folder(path, place)
    elif path.suffix == ".jsonl":
        yield from _from_jsonl(path, place)
    elif path.suffix == ".txt":
        yield Row(text=_read_text(path, place))
    else:
        raise ScriptError(f"{place}: {path.name} is no calibration data: a folder, .jsonl or .txt is accepted.", place)


def _read_text(path: Path, place: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ScriptError(f"{place}: {path.name} can't be read as UTF-8 text.", place) from exc


def _from_jsonl(path: Path, place: str) -> Iterator[Row]:
    for number, line in enumerate(_read_text(path, place).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as exc:
            raise ScriptError(f"{place}: line {number} of {path.name} is not JSON.", place) from exc
        yield parse_row(row, path.parent, f"{place}: line {number} of {path.name}", place)


def parse_row(row: object, folder: Path, where: str, place: str) -> Row:
    """A row from its JSON form; ``where`` and ``place`` are for messages.

    Raises:
        ScriptError: it has none of the accepted forms.
    """
    if not isinstance(row, dict):
        raise ScriptError(f"{where} is not a JSON object; accepted: {FORMS}.", place)
    images = row.get("images", [row["image"]] if "image" in row else [])
    if not isinstance(images, list) or not all(isinstance(name, str) for name in images):
        raise ScriptError(f"{where}: images is a list of file names.", place)
    found = [_picture(folder, name, where, place) for name in images]
    if "input_ids" in row:
        ids = row["input_ids"]
        if not isinstance(ids, list) or not ids or not all(type(one) is int and one >= 0 for one in ids):
            raise ScriptError(f"{where}: input_ids is a list of token ids, whole numbers from 0.", place)
        return Row(input_ids=ids)
    if isinstance(row.get("text"), str):
        return Row(text=row["text"])
    messages = row.get("messages")
    if messages is None and isinstance(row.get("prompt"), str):
        messages = turn(row["prompt"], row.get("response"))
    if isinstance(messages, list) and messages and all(_is_message(one) for one in messages):
        return Row(messages=messages, images=found)
    raise ScriptError(f"{where} has none of the accepted forms: {FORMS}.", place)


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


def turn(prompt: str, response: str | None) -> list[dict[str, str]]:
    """A question, and its answer if there is one, as a chat."""
    answer = [{"role": "assistant", "content": response}] if isinstance(response, str) and response else []
    return [{"role": "user", "content": prompt}, *answer]


def _picture(folder: Path, name: str, where: str, place: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file() or path.suffix.lower() not in PICTURES:
        raise ScriptError(f"{where}: there is no picture {name!r} beside it ({', '.join(PICTURES)}).", place)
    return path


def _from_folder(folder: Path, place: str) -> Iterator[Row]:
    """Every .jsonl and .txt of a folder, and its pictures; the text of the same name beside a picture describes it."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    captions = {path.with_suffix(".txt") for path in pictures}
    lists = [path for path in files if path.suffix == ".jsonl"]
    for path in lists:
        yield from _from_jsonl(path, place)
    for path in files:
        if path.suffix == ".txt" and path not in captions:
            yield Row(text=_read_text(path, place))
    for path in [] if lists else pictures:  # beside a list they are the list's
        caption = path.with_suffix(".txt")
        text = _read_text(caption, place).strip() if caption.is_file() else None
        yield Row(messages=turn(QUESTION_ABOUT_PICTURES, text), images=[path])


# -- a hub's data sets: how a row of each becomes one of ours ---------------------------------------------------------


def _instruction(row: dict[str, Any]) -> Row:
    return Row(messages=turn(row["instruction"], row["response"]))


def _tools(row: dict[str, Any]) -> Row:
    return Row(messages=turn(f"{row['query']}\n\nTools:\n{row['tools']}", row["answers"]))


def _sharegpt(row: dict[str, Any]) -> Row:
    roles = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
    roles["tool"] = "user"  # a tool's answer, told as a message: chats of calibration know no call ids
    return Row(messages=[{"role": roles[one["from"]], "content": one["value"]} for one in row["conversations"]])


def _plain(row: dict[str, Any]) -> Row:
    return Row(text=row["text"])


def _captions(row: dict[str, Any]) -> Row:
    return Row(messages=turn(QUESTION_ABOUT_PICTURES, " ".join(row["caption"])), images=[row["image"]])


TEMPLATES: dict[str, Callable[[dict[str, Any]], Row]] = {
    "instruction-response": _instruction,
    "query-tools-answers": _tools,
    "sharegpt": _sharegpt,
    "text": _plain,
    "captions": _captions,
}


def _from_hub(source: dict[str, Any], place: str, seed: int) -> Iterator[Row]:
    import datasets  # type: ignore[import-not-found,unused-ignore]  # only in the tool's environment

    try:
        rows = datasets.load_dataset(source["repo_id"], split=source["split"])
    except Exception as exc:  # the library raises of every kind: network, gated, no such split
        reason = f"{type(exc).__name__}: {exc}".splitlines()[0][:300]
        raise ScriptError(f"{place}: {source['repo_id']} can't be read ({reason}).", place) from exc
    template = TEMPLATES[source["template"]]
    for row in rows.shuffle(seed=seed) if source.get("shuffle", True) else rows:
        try:
            yield template(row)
        except (KeyError, TypeError) as exc:
            message = f"{place}: a row of {source['repo_id']} does not fit the template {source['template']}: {exc!r}."
            raise ScriptError(message, place) from exc
