"""Draw the example pictures of the app: `python samples.py` writes assets/samples/ with an index of questions."""

from __future__ import annotations

from pathlib import Path

import yaml
from pictures import PLACES, Bar, Scene, Shape, paint
from questions import answer_to

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "samples"
CENTRE = PLACES.index("in the centre")
# name → scene, question, question kind, subject
SAMPLES: dict[str, tuple[Scene, str, str, tuple[str, ...]]] = {
    "one-circle": (
        Scene("shapes", 224, 224, 11, shapes=(Shape("circle", "red", CENTRE, "large"),)),
        "Which shape is in this picture?",
        "which_shape",
        (),
    ),
    "four-shapes": (
        Scene(
            "shapes",
            336,
            336,
            12,
            shapes=(
                Shape("circle", "red", 0, "large"),
                Shape("star", "yellow", 2, "medium"),
                Shape("square", "blue", 4, "large"),
                Shape("triangle", "green", 7, "medium"),
            ),
            dark=True,
        ),
        "Describe the picture.",
        "describe",
        (),
    ),
    "where-is-the-star": (
        Scene(
            "shapes",
            448,
            336,
            13,
            shapes=(
                Shape("square", "orange", 1, "medium"),
                Shape("circle", "blue", 3, "large"),
                Shape("star", "purple", 8, "large"),
            ),
        ),
        "Where is the purple star?",
        "place",
        ("purple", "star"),
    ),
    "how-many-red": (
        Scene(
            "shapes",
            336,
            448,
            14,
            shapes=(
                Shape("circle", "red", 0, "medium"),
                Shape("square", "red", 5, "large"),
                Shape("triangle", "green", 6, "large"),
            ),
        ),
        "How many red shapes are there?",
        "how_many_colour",
        ("red",),
    ),
    "number": (Scene("number", 448, 336, 15, text="472"), "What number is shown?", "number", ()),
    "digit-on-dark": (Scene("number", 224, 224, 16, text="7", dark=True), "Which digit is printed here?", "number", ()),
    "word": (Scene("word", 448, 299, 17, text="RIVER"), "Which word is printed here?", "word", ()),
    "word-on-dark": (Scene("word", 336, 252, 18, text="MOON", dark=True), "Read the word.", "word", ()),
    "bar-chart": (
        Scene(
            "bars",
            448,
            336,
            19,
            bars=(Bar("red", 0.45), Bar("blue", 0.9), Bar("green", 0.25), Bar("purple", 0.68)),
        ),
        "Which bar is the tallest?",
        "tallest",
        (),
    ),
    "plain-blue": (Scene("plain", 224, 224, 20, colour="blue"), "What colour fills this picture?", "plain", ()),
}


def main() -> None:
    """Write the pictures and index.yaml."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    index = []
    for name, (scene, question, kind, subject) in SAMPLES.items():
        paint(scene).save(FOLDER / f"{name}.png", optimize=True)
        answer = answer_to(scene, kind, subject)
        index.append({"file": f"{name}.png", "question": question, "answer": answer, "kind": kind})
    header = "# Example pictures for the embedded model, drawn by scripts/embedded/samples.py.\n"
    (FOLDER / "index.yaml").write_text(header + yaml.safe_dump(index, sort_keys=False, width=100), encoding="utf-8")


if __name__ == "__main__":
    main()
