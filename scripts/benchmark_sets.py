"""The sets that benchmarks use when nothing else is named: `python scripts/benchmark_sets.py` writes assets/benchmark.

embedded-questions: held-out questions about drawn pictures with their one right answer, from seeds that neither the
training, the evaluation nor the calibration sets use.
embedded-conversations: plain text of the same kind of questions and answers, for perplexity.
own-text: this project's own documents as they were when it was written, English prose and tables.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "assets" / "benchmark"
QUESTIONS, FIRST_SEED = 300, 5_000_000
CONVERSATIONS, CONVERSATION_TOKENS = 160, 200
DOCUMENTS = ("README.md", "docs/architecture.md", "profiles/README.md", "SECURITY.md", "CHANGELOG.md")
sys.path.insert(0, str(ROOT / "scripts" / "embedded"))


def write_questions() -> None:
    """embedded-questions."""
    from held_out import held_out_item

    folder = TARGET / "embedded-questions"
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(QUESTIONS):
        item = held_out_item(FIRST_SEED + number)
        messages = [{"role": "system", "content": item.system}] if item.system else []
        for turn in item.turns:
            messages += [{"role": "user", "content": turn.text}, {"role": "assistant", "content": turn.answer or ""}]
        names = []
        for place, picture in enumerate(item.turns[0].pictures):
            names.append(f"{number:03d}-{place}.png")
            picture.save(folder / names[-1], optimize=True)
        row = {"id": f"{number:03d}", "kind": item.kind, "metric": "exact_match", "messages": messages[:-1]}
        lines.append(json.dumps({**row, "answers": [item.answer], "images": names}, ensure_ascii=False))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_conversations() -> None:
    """embedded-conversations."""
    from conversations import draw_conversation

    folder = TARGET / "embedded-conversations"
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    for number in range(CONVERSATIONS):
        drawn = draw_conversation(random.Random(f"benchmark:{number}"), CONVERSATION_TOKENS)
        lines += [f"{turn.text}\n{turn.answer}" for turn in drawn.turns]
    (folder / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_own_text() -> None:
    """own-text."""
    folder = TARGET / "own-text"
    folder.mkdir(parents=True, exist_ok=True)
    parts = [(ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS]
    (folder / "text.txt").write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    for write in (write_questions, write_conversations, write_own_text):
        write()
