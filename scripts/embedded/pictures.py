"""Seeded drawing of the pictures the embedded model learns from: shapes, numbers, words, bar charts, plain colours.

A scene is drawn as data first (`draw_scene`) and painted second (`paint`), so that questions are asked of the data
and never of the pixels. Only fonts that travel inside Pillow and OpenCV are used: the same pictures on any machine.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (220, 35, 40),
    "green": (40, 160, 60),
    "blue": (45, 85, 225),
    "yellow": (242, 215, 40),
    "purple": (140, 55, 180),
    "orange": (246, 135, 25),
}
PLAIN_COLOURS: dict[str, RGB] = {**COLOURS, "white": (250, 250, 250), "black": (8, 8, 8), "grey": (128, 128, 128)}
KINDS = ("circle", "square", "triangle", "star")
PLACES = (
    "at the top left",
    "at the top",
    "at the top right",
    "at the left",
    "in the centre",
    "at the right",
    "at the bottom left",
    "at the bottom",
    "at the bottom right",
)
SIZES = {"small": 0.52, "medium": 0.70, "large": 0.88}
HUGE = "huge"  # a lone shape in the centre may fill most of the picture
_WORD_LIST = (
    "APPLE BIRD BOAT BOOK BREAD CAT CHAIR CLOCK CLOUD DOG DOOR EGG FISH FLOWER FOX GLASS HAND HAT HORSE HOUSE "
    "KEY LAMP LEAF MILK MOON MOUSE PAPER RAIN RING RIVER SALT SHIP SHOE SNOW STONE SUN TABLE TREE WATER WINDOW"
)
WORDS: tuple[str, ...] = tuple(_WORD_LIST.split())
SCENE_KINDS = ("shapes", "number", "word", "bars", "plain")
ASPECTS = ((1, 1), (4, 3), (3, 4), (3, 2), (2, 3), (5, 4), (16, 9))
HERSHEY = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX)


@dataclass(frozen=True)
class Shape:
    """One coloured shape in one cell of the 3×3 grid of places."""

    kind: str
    colour: str
    cell: int
    size: str = "medium"


@dataclass(frozen=True)
class Bar:
    """One bar; height is a share of the plot's height."""

    colour: str
    height: float


@dataclass(frozen=True)
class Scene:
    """What a picture shows. `style_seed` fixes jitter, background and lettering, so painting is repeatable."""

    kind: str
    width: int
    height: int
    style_seed: int
    shapes: tuple[Shape, ...] = ()
    text: str = ""
    bars: tuple[Bar, ...] = ()
    colour: str = ""
    dark: bool = field(default=False)


def draw_size(rng: random.Random) -> tuple[int, int]:
    """A picture size: usually 112–448 pixels on the longer side, one in twenty larger."""
    longest = rng.choice((112, 224, 336, 448)) if rng.random() < 0.3 else rng.randint(112, 448)
    if rng.random() < 0.05:
        longest = rng.randint(449, 640)
    across, down = rng.choices(ASPECTS, weights=(8, 3, 3, 2, 2, 2, 1))[0]
    scale = longest / max(across, down)
    return max(1, round(across * scale)), max(1, round(down * scale))


def draw_shapes(rng: random.Random) -> tuple[Shape, ...]:
    """One to four shapes in different cells; colours repeat often enough for "how many red shapes" to matter."""
    count = rng.choices((1, 2, 3, 4), weights=(2, 3, 3, 3))[0]
    if count == 1 and rng.random() < 0.35:
        return (Shape(rng.choice(KINDS), rng.choice(sorted(COLOURS)), PLACES.index("in the centre"), HUGE),)
    palette = rng.sample(sorted(COLOURS), rng.choice((1, 2, 3, 6)))
    kinds = rng.sample(KINDS, rng.choice((1, 2, 3, 4, 4)))
    cells = sorted(rng.sample(range(9), count))
    return tuple(Shape(rng.choice(kinds), rng.choice(palette), cell, rng.choice(sorted(SIZES))) for cell in cells)


def draw_bars(rng: random.Random, gap: float = 0.12) -> tuple[Bar, ...]:
    """Two to five bars of different colours whose heights differ by at least `gap` of the plot."""
    count = rng.randint(2, 5)
    slack = (1.0 - 0.15) - gap * (count - 1)
    cuts = sorted(rng.random() * slack for _ in range(count))
    heights = [0.15 + cut + gap * place for place, cut in enumerate(cuts)]
    rng.shuffle(heights)
    colours = rng.sample(sorted(COLOURS), count)
    return tuple(Bar(colour, round(height, 4)) for colour, height in zip(colours, heights, strict=True))


def draw_number(rng: random.Random) -> str:
    """A number of one to three digits without a leading zero."""
    digits = rng.choices((1, 2, 3), weights=(2, 3, 5))[0]
    return str(rng.randint(0 if digits == 1 else 10 ** (digits - 1), 10**digits - 1))


def draw_scene(rng: random.Random, kind: str | None = None, size: tuple[int, int] | None = None) -> Scene:
    """A scene of the given kind, or of a random one (shapes most often: they carry the hardest questions)."""
    kind = kind or rng.choices(SCENE_KINDS, weights=(42, 19, 16, 17, 6))[0]
    width, height = size or draw_size(rng)
    dark = rng.random() < 0.4
    common = {"kind": kind, "width": width, "height": height, "style_seed": rng.getrandbits(48), "dark": dark}
    if kind == "shapes":
        return Scene(**common, shapes=draw_shapes(rng))
    if kind == "number":
        return Scene(**common, text=draw_number(rng))
    if kind == "word":
        return Scene(**common, text=rng.choice(WORDS))
    if kind == "bars":
        return Scene(**common, bars=draw_bars(rng))
    return Scene(**common, colour=rng.choice(("white", *PLAIN_COLOURS)))


@dataclass(frozen=True)
class Mark:
    """Where the middle of something drawn lies, as shares of the picture's width and height."""

    name: str
    x: float
    y: float


def paint(scene: Scene) -> Image.Image:
    """The picture of a scene; equal scenes give equal pixels."""
    return paint_with_marks(scene)[0]


def paint_with_marks(scene: Scene) -> tuple[Image.Image, list[Mark]]:
    """The picture, and where its shapes, characters and bars' tops are."""
    rng = random.Random(scene.style_seed)
    background = _background(scene, rng)
    # Half of the pictures are painted twice as large and reduced, so that the model meets smooth and jagged edges.
    scale = 2 if rng.random() < 0.5 and max(scene.width, scene.height) <= 320 else 1
    image = Image.new("RGB", (scene.width * scale, scene.height * scale), background)
    marks: list[Mark] = []
    if scene.shapes:
        marks = [_paint_shape(image, shape, rng) for shape in scene.shapes]
    elif scene.text:
        marks = _paint_text(image, scene.text, background, rng)
    elif scene.bars:
        marks = _paint_bars(image, scene, rng)
    if scale > 1:
        image = image.resize((scene.width, scene.height), Image.Resampling.BOX)
    return image, marks


def _jitter(colour: RGB, rng: random.Random, amount: int = 12) -> RGB:
    red, green, blue = (min(255, max(0, value + rng.randint(-amount, amount))) for value in colour)
    return red, green, blue


def _background(scene: Scene, rng: random.Random) -> RGB:
    if scene.kind == "plain":
        amount = 5 if scene.colour in ("white", "black") else 12
        return _jitter(PLAIN_COLOURS[scene.colour], rng, amount)
    if rng.random() < 0.35:
        return (0, 0, 0) if scene.dark else (255, 255, 255)
    return _jitter((28, 28, 32) if scene.dark else (238, 238, 236), rng, 17)


def _paint_shape(image: Image.Image, shape: Shape, rng: random.Random) -> Mark:
    cell_width, cell_height = image.width / 3, image.height / 3
    share = rng.uniform(1.3, 2.4) if shape.size == HUGE else SIZES[shape.size] * rng.uniform(0.95, 1.05)
    side = min(cell_width, cell_height) * share
    row, column = divmod(shape.cell, 3)
    room_x, room_y = max(0.0, cell_width - side) * 0.42, max(0.0, cell_height - side) * 0.42
    centre_x = (column + 0.5) * cell_width + rng.uniform(-room_x, room_x)
    centre_y = (row + 0.5) * cell_height + rng.uniform(-room_y, room_y)
    fill = _jitter(COLOURS[shape.colour], rng)
    draw = ImageDraw.Draw(image)
    half = side / 2
    if shape.kind == "circle":
        draw.ellipse((centre_x - half, centre_y - half, centre_x + half, centre_y + half), fill=fill)
    else:
        outline = _outline(shape.kind, half, math.radians(rng.uniform(-7, 7)))
        draw.polygon([(centre_x + x, centre_y + y) for x, y in outline], fill=fill)
    return Mark(f"{shape.colour} {shape.kind}", centre_x / image.width, centre_y / image.height)


def _outline(kind: str, half: float, turn: float) -> list[tuple[float, float]]:
    """Corner points around the origin, turned by `turn` radians."""
    if kind == "square":
        corners = [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]
    elif kind == "triangle":
        corners = [(0.0, -0.95), (1.0, 0.85), (-1.0, 0.85)]
    else:
        radii = [1.05 if point % 2 == 0 else 0.44 for point in range(10)]
        corners = [
            (radius * math.sin(point * math.pi / 5), -radius * math.cos(point * math.pi / 5))
            for point, radius in enumerate(radii)
        ]
    cos, sin = math.cos(turn), math.sin(turn)
    return [(half * (x * cos - y * sin), half * (x * sin + y * cos)) for x, y in corners]


def _ink(background: RGB, rng: random.Random) -> RGB:
    """A lettering colour that stands out from the background: black or white mostly, else one of the six colours."""
    dark = sum(background) < 384
    if rng.random() < 0.6:
        return _jitter((245, 245, 245) if dark else (14, 14, 14), rng, 10)
    names = ("yellow", "orange", "red", "green") if dark else ("red", "blue", "green", "purple")
    return _jitter(COLOURS[rng.choice(names)], rng)


def _text_mask(text: str, pixels: int, rng: random.Random) -> Image.Image:
    """The text in white on black, cropped to its ink, about `pixels` high before any stretching."""
    if rng.random() < 0.25:
        scale = pixels / 21
        weight = max(1, round(pixels * rng.uniform(0.08, 0.16)))
        face = rng.choice(HERSHEY)
        (width, height), base = cv2.getTextSize(text, face, scale, weight)
        canvas = np.zeros((height + base + 4 * weight, width + 4 * weight), np.uint8)
        cv2.putText(canvas, text, (2 * weight, height + 2 * weight), face, scale, 255, weight, cv2.LINE_AA)
        mask = Image.fromarray(canvas)
    else:
        font = ImageFont.load_default(size=pixels * 1.4)
        weight = round(pixels * rng.choice((0, 0, 0.02, 0.05, 0.08)))
        left, top, right, bottom = font.getbbox(text, stroke_width=weight)
        mask = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
        ImageDraw.Draw(mask).text((2 - left, 2 - top), text, fill=255, font=font, stroke_width=weight)
    if rng.random() < 0.4:
        mask = mask.rotate(rng.uniform(-6, 6), Image.Resampling.BILINEAR, expand=True)
    return mask.crop(mask.getbbox())


def _paint_text(image: Image.Image, text: str, background: RGB, rng: random.Random) -> list[Mark]:
    width, height = image.size
    mask = _text_mask(text, max(12, round(height * 0.4)), rng)
    # Words need the width of the picture to stay legible at 112 pixels; a single digit does not.
    if text.isdigit():
        target = height * rng.uniform(0.30, 0.72)
        target = min(target, mask.height * width * 0.88 / mask.width)
    else:
        target = mask.height * width * rng.uniform(0.66, 0.92) / mask.width
    target = min(target, height * 0.8)
    stretch = rng.uniform(0.88, 1.12)
    new_height = max(8, round(target))
    new_width = min(round(width * 0.94), max(4, round(mask.width * target / mask.height * stretch)))
    mask = mask.resize(
        (new_width, new_height), Image.Resampling.BOX if new_height < mask.height else Image.Resampling.BILINEAR
    )
    room_x, room_y = width - new_width, height - new_height
    left = round(room_x / 2 + rng.uniform(-0.42, 0.42) * room_x)
    top = round(room_y / 2 + rng.uniform(-0.42, 0.42) * room_y)
    image.paste(_ink(background, rng), (left, top), mask)
    # Near enough for every face: the middles of the characters in Pillow's own.
    font = ImageFont.load_default(size=20)
    length = font.getlength(text)
    middles = [(font.getlength(text[:place]) + font.getlength(text[: place + 1])) / 2 for place in range(len(text))]
    centre = (top + new_height / 2) / height
    return [
        Mark(character, (left + new_width * middle / length) / width, centre)
        for character, middle in zip(text, middles, strict=True)
    ]


def _paint_bars(image: Image.Image, scene: Scene, rng: random.Random) -> list[Mark]:
    width, height = image.size
    left, right = width * rng.uniform(0.05, 0.12), width * rng.uniform(0.88, 0.95)
    top, floor = height * rng.uniform(0.05, 0.14), height * rng.uniform(0.86, 0.95)
    draw = ImageDraw.Draw(image)
    pitch = (right - left) / len(scene.bars)
    thickness = pitch * rng.uniform(0.55, 0.8)
    # Few bars need not fill the picture: otherwise the width alone would give their number away.
    thickness = min(thickness, width * rng.uniform(0.16, 0.3))
    marks = []
    for place, bar in enumerate(scene.bars):
        middle = left + (place + 0.5) * pitch
        crown = floor - bar.height * (floor - top)
        box = (middle - thickness / 2, crown, middle + thickness / 2, floor)
        draw.rectangle(box, fill=_jitter(COLOURS[bar.colour], rng))
        marks.append(Mark(f"{bar.colour} bar", middle / width, crown / height))
    if rng.random() < 0.5:
        ink = (225, 225, 225) if scene.dark else (40, 40, 40)
        draw.line((left, floor, right, floor), fill=ink, width=max(1, round(height * 0.012)))
    return marks
