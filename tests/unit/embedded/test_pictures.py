"""The drawing is seeded, in bounds, and shows what the scene says."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("cv2")

from pictures import (
    COLOURS,
    PLACES,
    SCENE_KINDS,
    Scene,
    Shape,
    draw_bars,
    draw_scene,
    draw_size,
    paint,
    paint_with_marks,
)


def test_equal_seeds_give_equal_pixels() -> None:
    for kind in SCENE_KINDS:
        first, second = (paint(draw_scene(random.Random(f"same:{kind}"), kind)) for _ in range(2))
        assert first.tobytes() == second.tobytes()


def test_training_and_held_out_seeds_give_other_pictures() -> None:
    training = draw_scene(random.Random("train:joint:0:0"))
    held_out = draw_scene(random.Random("held-out:0"))
    assert training != held_out


def test_sizes_stay_in_the_promised_range() -> None:
    rng = random.Random(1)
    for _ in range(300):
        width, height = draw_size(rng)
        assert 112 <= max(width, height) <= 640
        assert min(width, height) >= 60


def test_bars_differ_clearly() -> None:
    rng = random.Random(2)
    for _ in range(200):
        heights = sorted(bar.height for bar in draw_bars(rng))
        assert all(upper - lower > 0.119 for lower, upper in pairwise(heights))
        assert heights[0] > 0.149
        assert heights[-1] < 1.001


@pytest.mark.parametrize("cell", range(9))
def test_a_shape_lies_in_its_cell(cell: int) -> None:
    scene = Scene("shapes", 224, 224, 5, shapes=(Shape("circle", "red", cell, "small"),))
    pixels = np.asarray(paint(scene)).astype(int)
    red = (pixels[..., 0] > 150) & (pixels[..., 1] < 100)
    rows, columns = np.nonzero(red)
    assert (int(rows.mean() * 3 // 224), int(columns.mean() * 3 // 224)) == divmod(cell, 3), PLACES[cell]


def test_marks_point_at_what_was_painted() -> None:
    scene = Scene("shapes", 300, 200, 6, shapes=(Shape("square", "blue", 4, "large"), Shape("star", "green", 8)))
    picture, marks = paint_with_marks(scene)
    for mark in marks:
        colour = COLOURS[mark.name.split()[0]]
        pixel = picture.getpixel((int(mark.x * 300), int(mark.y * 200)))
        assert max(abs(here - there) for here, there in zip(pixel, colour, strict=True)) < 30


def test_every_character_has_a_mark_in_reading_order() -> None:
    _, marks = paint_with_marks(Scene("word", 224, 112, 7, text="RIVER"))
    assert [mark.name for mark in marks] == list("RIVER")
    assert [mark.x for mark in marks] == sorted(mark.x for mark in marks)
