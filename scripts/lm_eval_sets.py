"""Writes the two small tasks for lm-eval in assets/benchmark/lm-eval: one of MMLU's shape, one of MGSM's.

    python scripts/lm_eval_sets.py

Questions and sums are made here, from the tables below and a fixed seed; nothing is taken from another set.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "benchmark" / "lm-eval"
LETTERS = "ABCD"

FACTS = {
    "What is the capital of {}?": {
        "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Egypt": "Cairo", "Greece": "Athens",
        "Norway": "Oslo", "Portugal": "Lisbon", "Austria": "Vienna", "Kenya": "Nairobi", "Peru": "Lima",
        "Cuba": "Havana",
    },
    "Which chemical symbol stands for {}?": {
        "oxygen": "O", "gold": "Au", "iron": "Fe", "silver": "Ag", "sodium": "Na", "carbon": "C", "lead": "Pb",
        "helium": "He", "nitrogen": "N", "copper": "Cu", "tin": "Sn", "potassium": "K",
    },
    "What is the opposite of {}?": {
        "hot": "cold", "early": "late", "empty": "full", "heavy": "light", "rough": "smooth", "narrow": "wide",
        "noisy": "quiet", "wet": "dry", "cheap": "expensive", "brave": "cowardly", "deep": "shallow", "strong": "weak",
    },
    "What does a {} mostly do at work?": {
        "baker": "make bread", "teacher": "teach pupils", "pilot": "fly aircraft", "farmer": "grow crops",
        "nurse": "care for the sick", "plumber": "mend water pipes", "tailor": "sew clothes",
        "judge": "decide in court", "librarian": "lend books", "carpenter": "work with wood",
        "sailor": "sail ships", "miner": "dig for ore",
    },
}  # fmt: skip
NAMES = ("Ana", "Ben", "Chen", "Dora", "Emil", "Fatima", "Goran", "Hana", "Ivo", "Jana")
THINGS = ("apples", "books", "stamps", "marbles", "pencils", "tickets", "shells", "coins")
SUMS, SHOWN = 40, 4


def choice_rows(draw: random.Random) -> list[dict[str, object]]:
    """Each fact once, with three answers of others of its kind, in drawn order."""
    rows = []
    for question, table in FACTS.items():
        for subject, answer in table.items():
            others = draw.sample([other for other in table.values() if other != answer], 3)
            choices = draw.sample([answer, *others], 4)
            rows.append({"question": question.format(subject), "choices": choices, "answer": choices.index(answer)})
    draw.shuffle(rows)
    return rows


def sum_rows(draw: random.Random) -> list[dict[str, object]]:
    """Problems of two steps, with the steps written out."""
    rows = []
    for _ in range(SUMS):
        who, other = draw.sample(NAMES, 2)
        thing, have, times, gone = draw.choice(THINGS), draw.randint(3, 20), draw.randint(2, 4), draw.randint(2, 5)
        bought = have * times
        rows.append({
            "question": f"{who} has {have} {thing}. {other} gives {who} {bought} more {thing}, and then {who} loses "
            f"{gone} {thing}. How many {thing} does {who} have now?",
            "answer": f"{who} begins with {have} {thing}. {have} + {bought} = {have + bought}. "
            f"{have + bought} - {gone} = {have + bought - gone}. The answer is {have + bought - gone}.",
            "answer_number": have + bought - gone,
        })  # fmt: skip
    return rows


def write(name: str, rows: list[dict[str, object]]) -> None:
    """One JSON object a line."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    random_source = random.Random(20)
    FOLDER.mkdir(parents=True, exist_ok=True)
    choices, sums = choice_rows(random_source), sum_rows(random_source)
    write("choices-dev.jsonl", choices[:5])
    write("choices.jsonl", choices[5:])
    write("sums-dev.jsonl", sums[:SHOWN])
    write("sums.jsonl", [{**row, "answer": ""} for row in sums[SHOWN:]])  # as MGSM: only examples show the way
