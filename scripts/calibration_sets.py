"""The calibration sets that come with Diptych: `python scripts/calibration_sets.py` writes assets/calibration.

embedded-pictures: drawn conversations about pictures, from seeds used neither in training nor in the evaluation.
embedded-text: more of them without their pictures, for tools that are calibrated with text only.
text: English prose, the documentation strings of Python's standard library (PSF licence); half of it as answers in a
chat, so that a chat model also sees its own template.
"""

from __future__ import annotations

import importlib
import inspect
import json
import random
import sys
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "assets" / "calibration"
CONVERSATIONS, CONVERSATIONS_OF_TEXT = 128, 600
TOKENS = 200
TEXT_BYTES = 600_000
SHORTEST_DOCUMENT = 400
sys.path.insert(0, str(ROOT / "scripts" / "embedded"))


def conversations(prefix: str, count: int) -> list[Any]:
    """Drawn conversations; those with pictures have all in their first question."""
    from conversations import draw_conversation

    found = []
    for index in range(10 * count):
        drawn = draw_conversation(random.Random(f"{prefix}:{index}"), TOKENS)
        if not any(turn.pictures for turn in drawn.turns[1:]):
            found.append(drawn)
        if len(found) == count:
            break
    return found


def messages_of(conversation: Any) -> list[dict[str, str]]:
    """The chat without its pictures."""
    system = [{"role": "system", "content": conversation.system}] if conversation.system else []
    turns = [
        message
        for turn in conversation.turns
        for message in ({"role": "user", "content": turn.text}, {"role": "assistant", "content": turn.answer})
    ]
    return [*system, *turns]


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    """rows.jsonl of a set."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_pictures() -> None:
    """embedded-pictures."""
    folder = TARGET / "embedded-pictures"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, conversation in enumerate(conversations("calibration", CONVERSATIONS)):
        names = []
        for number, picture in enumerate(conversation.turns[0].pictures):
            names.append(f"{index:03d}-{number}.png")
            picture.save(folder / names[-1], optimize=True)
        rows.append({"messages": messages_of(conversation), **({"images": names} if names else {})})
    write_rows(folder, rows)


def prose() -> list[tuple[str, str]]:
    """Name and documentation string of the standard library's modules, classes and functions."""
    warnings.simplefilter("ignore")
    skipped = {"antigravity", "this", "idlelib", "turtledemo", "lib2to3", "test", "tkinter", "turtle"}
    found: dict[str, str] = {}
    for name in sorted({*sys.stdlib_module_names} - skipped):
        if name.startswith("_"):
            continue
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        for member, thing in [("", module), *inspect.getmembers(module)]:
            documentation = inspect.getdoc(thing)
            if documentation and len(documentation) >= SHORTEST_DOCUMENT and documentation.isascii():
                found.setdefault(documentation, f"{name}.{member}".strip("."))
    return [(name, documentation) for documentation, name in found.items()]


def main() -> None:
    """Write the three sets."""
    write_pictures()
    texts = conversations("calibration-text", CONVERSATIONS_OF_TEXT)
    write_rows(TARGET / "embedded-text", [{"messages": messages_of(one)} for one in texts])
    documents = prose()
    random.Random("calibration").shuffle(documents)
    rows: list[dict[str, Any]] = []
    size = 0
    for name, document in documents:
        if size < TEXT_BYTES:
            asked = {"prompt": f"What is {name} in Python?", "response": document}
            rows.append(asked if len(rows) % 2 else {"text": document})
            size += len(document)
    write_rows(TARGET / "text", rows)
    print(f"{size} bytes of text in {len(rows)} documents")


if __name__ == "__main__":
    main()
