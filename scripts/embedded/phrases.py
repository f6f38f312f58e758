"""The wordings of every question kind, and the small changes of wording that people make."""

from __future__ import annotations

import random

# {place}, {shape}, {shapes} and {colour} are filled in by questions.py.
PHRASES: dict[str, tuple[str, ...]] = {
    "describe": (
        "Describe the picture.",
        "What is in the picture?",
        "What do you see?",
        "What does the picture show?",
        "Tell me what you see in this picture.",
        "Describe what is shown here.",
        "Describe this picture in one sentence.",
        "What can you see in this picture?",
        "What is this?",
    ),
    "count": (
        "How many shapes are there?",
        "How many shapes are in the picture?",
        "Count the shapes.",
        "How many shapes do you see?",
        "What is the number of shapes?",
        "How many objects are there?",
    ),
    "colour_at": (
        "What colour is the shape {place}?",
        "Which colour is the shape {place}?",
        "What is the colour of the shape {place}?",
        "What colour is {place}?",
        "Tell me the colour of the shape {place}.",
    ),
    "shape_at": (
        "Which shape is {place}?",
        "What shape is {place}?",
        "What is {place}?",
        "Tell me which shape is {place}.",
        "What do you see {place}?",
    ),
    "place": (
        "Where is the {colour} {shape}?",
        "At which place is the {colour} {shape}?",
        "Where do you see the {colour} {shape}?",
        "Find the {colour} {shape}.",
        "In which part of the picture is the {colour} {shape}?",
        "Where can I find the {colour} {shape}?",
    ),
    "colour_of": (
        "What colour is the {shape}?",
        "Which colour is the {shape}?",
        "What is the colour of the {shape}?",
        "Tell me the colour of the {shape}.",
        "Which colour does the {shape} have?",
    ),
    "colour": (
        "What colour is the shape?",
        "Which colour is the shape?",
        "What is the colour of the shape?",
        "What colour is the shape in this picture?",
        "Which colours do the shapes have?",
        "What colours are the shapes?",
    ),
    "how_many_colour": (
        "How many {colour} shapes are there?",
        "How many shapes are {colour}?",
        "Count the {colour} shapes.",
        "How many of the shapes are {colour}?",
        "What is the number of {colour} shapes?",
        "How many {colour} shapes do you see?",
    ),
    "how_many_kind": (
        "How many {shapes} are there?",
        "Count the {shapes}.",
        "How many {shapes} do you see?",
        "How many {shapes} are in the picture?",
        "What is the number of {shapes}?",
    ),
    "which_shape": (
        "Which shape is in this picture?",
        "What shape is this?",
        "Which shape is shown?",
        "Name the shape.",
        "Which shapes are in the picture?",
        "Which shape do you see?",
    ),
    "number": (
        "What number is shown?",
        "Which number is printed in this picture?",
        "Which digit is printed in this picture?",
        "Read the number.",
        "What is the number?",
        "Which number do you see?",
        "Which digits are in the picture?",
        "What number is this?",
    ),
    "word": (
        "Which word is printed here?",
        "What word is shown?",
        "Read the word.",
        "What is the word?",
        "Which word do you see in the picture?",
        "What does the word say?",
    ),
    "text": (
        "Read the text.",
        "What is written here?",
        "What is printed in the picture?",
        "What does the text say?",
        "What does it say?",
    ),
    "tallest": (
        "Which bar is the tallest?",
        "What colour is the tallest bar?",
        "Which bar is the highest?",
        "What is the tallest bar?",
        "Which colour has the tallest bar?",
        "Name the tallest bar.",
    ),
    "shortest": (
        "Which bar is the shortest?",
        "What colour is the shortest bar?",
        "Which bar is the lowest?",
        "What is the shortest bar?",
        "Which colour has the shortest bar?",
        "Name the shortest bar.",
    ),
    "count_bars": (
        "How many bars are there?",
        "How many bars does the chart have?",
        "Count the bars.",
        "How many bars do you see?",
        "What is the number of bars?",
        "How many bars are in the chart?",
    ),
    "plain": (
        "What colour fills this picture?",
        "What colour is this picture?",
        "Which colour is the picture?",
        "What is the colour of the picture?",
        "Which colour fills the picture?",
    ),
}

PLACE_WORDINGS: tuple[tuple[str, ...], ...] = (
    ("at the top left", "in the top left", "in the top left corner", "in the upper left"),
    ("at the top", "at the top centre", "in the top middle"),
    ("at the top right", "in the top right", "in the top right corner", "in the upper right"),
    ("at the left", "on the left", "on the left side", "in the middle left"),
    ("in the centre", "at the centre", "in the middle"),
    ("at the right", "on the right", "on the right side", "in the middle right"),
    ("at the bottom left", "in the bottom left", "in the bottom left corner", "in the lower left"),
    ("at the bottom", "at the bottom centre", "in the bottom middle"),
    ("at the bottom right", "in the bottom right", "in the bottom right corner", "in the lower right"),
)

SUFFIXES = (
    "Answer with one word.",
    "Answer in one word.",
    "Answer in one sentence.",
    "Answer briefly.",
    "Be brief.",
    "Keep it short.",
    "Answer with a short sentence.",
    "Reply with one word.",
    "Answer with the number only.",
)
PREFIXES = (
    "Look at the picture.",
    "Here is a picture.",
    "Hello!",
    "Now:",
    "And",
    "Next question:",
    "Tell me:",
    "Question:",
    "Could you tell me:",
)
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a careful assistant that looks at pictures.",
    "Answer questions about the picture.",
    "You are a vision assistant. Answer briefly.",
    "Be polite and precise.",
    "You are Diptych's embedded model.",
    "Answer in English.",
)
SWAPS = (("colour", "color"), ("picture", "image"), ("centre", "center"), ("Which", "What"), ("shown", "displayed"))


def dress(text: str, rng: random.Random) -> str:
    """The same question as another person would type it: spelling, courtesy, case and punctuation vary."""
    for old, new in SWAPS:
        if rng.random() < (0.35 if old != "shown" else 0.1):
            text = text.replace(old, new)
    if rng.random() < 0.06:
        text = f"{text[:-1]}, please{text[-1]}" if rng.random() < 0.5 else f"Please: {text}"
    if rng.random() < 0.08:
        text = f"{rng.choice(PREFIXES)} {text}"
    if rng.random() < 0.22:
        text = f"{text} {rng.choice(SUFFIXES)}"
    if rng.random() < 0.10:
        text = text.lower()
    if rng.random() < 0.08:
        text = text.rstrip(".?!")
    return text
