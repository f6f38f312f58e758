"""What the decoding child makes of every kind of picture. Run in this process, on pictures of our own making."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from PIL import Image

from components.storage.image_worker import Limits, RefusedError, check_mode, check_size, examine
from components.storage.images import Edit, ImageLimits
from tests.data.images import make_images as draw

LIMITS = Limits(**json.loads(ImageLimits().for_worker()))
WHITE = (255, 255, 255)


def run(data: bytes, kind: str = "PNG") -> tuple[Image.Image, list[str]]:
    image, report = examine(data, kind, LIMITS)
    assert image is not None, report
    assert image.mode == "RGB"
    assert image.info == {}
    assert (report["width"], report["height"]) == image.size
    return image, report["notes"]


def refusal(data: bytes, kind: str = "PNG") -> dict[str, Any]:
    image, report = examine(data, kind, LIMITS)
    assert image is None
    assert report["hint"]
    return report


def near(found: Any, wanted: tuple[int, int, int], tolerance: int = 0) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_plain_picture_keeps_its_colours_and_gets_no_note(kind: str) -> None:
    image, notes = run(draw.encode(draw.quarters(), kind), kind)
    assert notes == []
    assert near(image.getpixel((10, 10)), draw.RED, 8)
    assert near(image.getpixel((90, 60)), draw.YELLOW, 8)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_f28_truncated_anywhere_is_corrupt(kind: str, share: float) -> None:
    data = draw.encode(draw.quarters(400, 300), kind)
    assert refusal(data[: int(len(data) * share)], kind)["error"] == "corrupt_image"


@pytest.mark.parametrize("missing", [1, 2, 11, 12, 13])
def test_f28_a_png_without_its_last_bytes_is_corrupt(missing: int) -> None:
    assert refusal(draw.encode(draw.quarters(), "PNG")[:-missing])["error"] == "corrupt_image"


def test_f28_any_flipped_byte_of_a_png_is_noticed() -> None:
    data = draw.encode(draw.quarters(), "PNG")
    for position in range(8, len(data), 7):
        flipped = data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :]
        image, report = examine(flipped, "PNG", LIMITS)
        assert image is None, position
        assert report["error"] in ("corrupt_image", "image_too_large", "ambiguous_pixels")


@pytest.mark.parametrize("side", [14_000, 20_000])
def test_f29_a_huge_header_is_refused_with_the_numbers_before_it_is_decoded(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + draw.png_chunk(b"IHDR", header) + draw.png_chunk(b"IDAT", b"x")
    report = refusal(data)
    assert report["error"] == "image_too_large"
    assert f"{side:,} × {side:,}" in report["message"]
    assert "at most 40 megapixels" in report["message"]


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((1, 60_000), "at most 16,384 pixels a side"),
        ((16_385, 100), "at most 16,384 pixels a side"),
        ((201, 1), "at most 200 times the other"),
        ((1, 201), "at most 200 times the other"),
        ((6_325, 6_325), "at most 40 megapixels"),
    ],
)
def test_f29_f36_every_limit_names_its_number(size: tuple[int, int], words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        check_size(*size, LIMITS)
    assert caught.value.report["error"] == "image_too_large"
    assert words in caught.value.report["message"]


@pytest.mark.parametrize("size", [(1, 1), (200, 1), (16_384, 82), (6_324, 6_324)])
def test_f36_what_just_fits_is_accepted(size: tuple[int, int]) -> None:
    check_size(*size, LIMITS)


def test_f36_one_pixel_is_an_image() -> None:
    image, _ = run(draw.encode(Image.new("RGB", (1, 1), draw.RED), "PNG"))
    assert image.getpixel((0, 0)) == draw.RED


def test_f36_nothing_at_all_is_not() -> None:
    with pytest.raises(RefusedError, match="nothing in it"):
        check_size(0, 10, LIMITS)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_f31_of_an_animation_the_first_frame_is_used_and_said(kind: str) -> None:
    image, notes = run(draw.animated(kind), kind)
    assert notes == ["only the first of 3 frames is used"]
    assert near(image.getpixel((5, 5)), draw.RED, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_f32_every_orientation_ends_upright_and_alike(orientation: int) -> None:
    image, notes = run(draw.exif_photo(orientation))
    assert image.tobytes() == draw.quarters().tobytes()
    assert image.size == (96, 64)
    assert image.getexif() == {}
    assert (notes == []) == (orientation == 1)
    if orientation == 6:
        assert notes == ["rotated upright as its EXIF tag says"]


def test_f32_an_impossible_orientation_changes_nothing() -> None:
    exif = Image.Exif()
    exif[draw.EXIF_ORIENTATION] = 77
    assert run(draw.encode(draw.quarters(), "PNG", exif=exif))[1] == []


def test_f33_transparency_becomes_white_in_every_mode() -> None:
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    cases = (
        (draw.encode(clear, "PNG"), WHITE),
        (draw.encode(half, "PNG"), (127, 127, 127)),
        (draw.encode(Image.new("LA", (8, 8), (0, 0)), "PNG"), WHITE),
        (draw.encode(palette, "PNG", transparency=0), WHITE),
        (draw.encode(Image.new("L", (8, 8), 9), "PNG", transparency=9), WHITE),
        (draw.encode(Image.new("RGB", (8, 8), (1, 2, 3)), "PNG", transparency=(1, 2, 3)), WHITE),
    )
    for data, colour in cases:
        image, notes = run(data)
        assert near(image.getpixel((0, 0)), colour, 1)
        assert notes == ["transparent areas became white"]


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (Image.new("1", (8, 8), 1), WHITE),
        (Image.new("L", (8, 8), 77), (77, 77, 77)),
        (draw.quarters().quantize(4), draw.RED),
        (Image.new("LA", (8, 8), (77, 255)), (77, 77, 77)),
        (Image.new("RGBA", (8, 8), (*draw.RED, 255)), draw.RED),
    ],
)
def test_f33_other_modes_become_rgb_without_a_note(image: Image.Image, colour: tuple[int, int, int]) -> None:
    result, notes = run(draw.encode(image, "PNG"))
    assert near(result.getpixel((0, 0)), colour, 2)
    assert notes == []


def test_f33_a_colour_profile_is_applied_and_named() -> None:
    grey = Image.new("RGB", (8, 8), (55, 55, 55))
    image, notes = run(draw.encode(grey, "PNG", icc_profile=draw.icc_profile(gamma=1.0)))
    assert near(image.getpixel((0, 0)), (128, 128, 128), 3)  # linear 55/255 is sRGB 128
    assert notes == ["its colours were converted from “Test linear” to sRGB"]


def test_f33_an_srgb_profile_changes_no_pixel() -> None:
    image, notes = run(draw.encode(draw.quarters(), "PNG", icc_profile=draw.srgb_profile()))
    assert image.tobytes() == draw.quarters().tobytes()
    assert notes == []


def test_f33_a_broken_profile_is_said() -> None:
    image, notes = run(draw.encode(draw.quarters(), "PNG", icc_profile=b"no profile" * 20))
    assert image.tobytes() == draw.quarters().tobytes()
    assert notes == ["its colour profile can't be used and was ignored"]


@pytest.mark.parametrize("profile", [None, draw.srgb_profile()])
def test_f33_cmyk_without_a_fitting_profile_is_refused_with_a_hint(profile: bytes | None) -> None:
    report = refusal(draw.encode(draw.quarters().convert("CMYK"), "JPEG", icc_profile=profile), "JPEG")
    assert report["error"] == "ambiguous_pixels"
    assert "CMYK" in report["message"]
    assert "Convert it to RGB" in report["hint"]


@pytest.mark.parametrize("colour_type", [0, 4])
def test_f34_sixteen_bit_grey_is_refused(colour_type: int) -> None:
    report = refusal(draw.sixteen_bit_png(colour_type))
    assert report["error"] == "ambiguous_pixels"
    assert "16-bit greyscale" in report["message"]
    assert "8-bit RGB PNG" in report["hint"]


@pytest.mark.parametrize("mode", ["F", "I", "I;16"])
def test_f34_float_and_wide_integer_pixels_are_refused(mode: str) -> None:
    with pytest.raises(RefusedError) as caught:
        check_mode(Image.new(mode, (4, 4)))
    assert caught.value.report["error"] == "ambiguous_pixels"


def test_f34_sixteen_bit_colour_is_reduced_and_said() -> None:
    image, notes = run(draw.sixteen_bit_png(2))
    assert image.getpixel((0, 0)) == (0x80, 0x80, 0x80)
    assert notes == ["its 16 bits per channel became 8"]


def edit(data: bytes, change: Edit) -> Image.Image:
    image, report = examine(data, "PNG", LIMITS, json.loads(change.for_worker()))
    assert image is not None, report
    assert (report["width"], report["height"]) == image.size
    return image


def test_a_blurred_picture_keeps_its_size_and_mean_and_loses_its_edges() -> None:
    data = draw.encode(draw.quarters(96, 64), "PNG")
    image = edit(data, Edit(blur_radius=6))
    assert (image.size, image.mode) == ((96, 64), "RGB")
    assert near(image.getpixel((4, 4)), draw.RED, 8)
    assert not near(image.getpixel((47, 4)), draw.RED, 60), "no edge is left in the middle"


def test_a_small_picture_comes_back_in_its_own_size_without_detail() -> None:
    stripes = Image.new("RGB", (64, 64), WHITE)
    for x in range(0, 64, 2):
        stripes.paste((0, 0, 0), (x, 0, x + 1, 64))
    image = edit(draw.encode(stripes, "PNG"), Edit(width=8, height=8, and_back=True))
    assert image.size == (64, 64)
    assert near(image.getpixel((32, 32)), (127, 127, 127), 12)


def test_a_picture_is_fitted_to_the_size_of_another() -> None:
    assert edit(draw.encode(draw.quarters(96, 64), "PNG"), Edit(width=31, height=77)).size == (31, 77)


def test_no_edit_makes_a_picture_that_would_not_be_accepted() -> None:
    image, report = examine(
        draw.encode(draw.quarters(), "PNG"), "PNG", LIMITS, json.loads(Edit(width=20_000, height=9).for_worker())
    )
    assert image is None
    assert report["error"] == "image_too_large"
