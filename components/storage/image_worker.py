"""The process that decodes an untrusted image: limits first, then Pillow; one image, then it ends.

Run by ``images.py`` as ``python -I -S image_worker.py <folder of PIL> <format> <limits as JSON> [<edit as JSON>]``: the
file's bytes on standard input; on standard output one line of JSON, and after it, if the image is accepted, an RGB PNG
without metadata. It imports nothing of ours, so that it starts quickly and whatever takes it over finds little.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image

ORIENTATION_TAG = 0x0112
# EXIF orientation -> names of Pillow's transpositions, and the words for it.
TURNS: dict[int, tuple[str, str]] = {
    2: ("FLIP_LEFT_RIGHT", "mirrored"),
    3: ("ROTATE_180", "rotated upright"),
    4: ("FLIP_TOP_BOTTOM", "mirrored"),
    5: ("TRANSPOSE", "mirrored and rotated upright"),
    6: ("ROTATE_270", "rotated upright"),
    7: ("TRANSVERSE", "mirrored and rotated upright"),
    8: ("ROTATE_90", "rotated upright"),
}
# What Pillow, zlib, libjpeg, libwebp and the EXIF reader raise on bytes that are not what they should be.
DECODING_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    KeyError,
    TypeError,
    IndexError,
    ArithmeticError,
    zlib.error,
)
EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK"})
# Level 1 writes a photo three times as fast as level 6, and about a tenth larger [measured].
PNG_LEVEL = 1
SCALING_HINT = "Choose yourself how its values map to 0-255, and save it as an 8-bit RGB PNG."


class Limits(NamedTuple):
    """What ``images.ImageLimits`` hands over."""

    max_pixels: int
    max_side: int
    max_aspect: int
    memory_bytes: int
    cpu_s: int
    open_files: int
    output_bytes: int


class RefusedError(Exception):
    """The image is not accepted: ``code`` of our error, what was found, and what to do."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.report = {"error": code, "message": message, "hint": hint}


def limit_myself(limits: Limits) -> None:
    """From here on the kernel ends this process when it takes too much."""
    for kind, value in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_FSIZE, limits.output_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        # A second more before the hard limit, so that the end of CPU time can be told from a kill by somebody else.
        resource.setrlimit(kind, (value, value + 1 if kind == resource.RLIMIT_CPU else value))


def check_size(width: int, height: int, limits: Limits) -> None:
    """Refuse by the header alone, before a pixel is decoded."""
    found = f"is {width:,} × {height:,} pixels"
    hint = "Scale it down or cut out the part that matters, then upload it again."
    if width < 1 or height < 1:
        raise RefusedError("corrupt_image", f"{found}: there is nothing in it.", "Save it again as PNG.")
    if width * height > limits.max_pixels:
        megapixels, accepted = width * height / 1e6, limits.max_pixels // 1_000_000
        message = f"{found} ({megapixels:,.0f} megapixels); at most {accepted} megapixels are accepted."
        raise RefusedError("image_too_large", message, hint)
    if max(width, height) > limits.max_side:
        message = f"{found}; at most {limits.max_side:,} pixels a side are accepted."
        raise RefusedError("image_too_large", message, hint)
    if max(width, height) > limits.max_aspect * min(width, height):
        message = f"{found}; one side may be at most {limits.max_aspect} times the other."
        raise RefusedError("image_too_large", message, hint)


def check_png(data: bytes) -> bool:
    """Check every chunk's sum, which Pillow does not for pixel data; tell whether it has 16 bits per channel."""
    position, kind = 8, b""
    while kind != b"IEND":
        length = int.from_bytes(data[position : position + 4], "big")
        kind, end = data[position + 4 : position + 8], position + 12 + length
        if end > len(data):
            raise RefusedError("corrupt_image", "ends too early: a part of the file is missing.", "Upload it again.")
        if zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise RefusedError("corrupt_image", "is damaged: a checksum in it is wrong.", "Upload it again.")
        position = end
    bits, colour_type = data[24], data[25]
    if bits == 16 and colour_type in (0, 4):
        raise RefusedError(
            "ambiguous_pixels", "is a 16-bit greyscale image; 8 bits per channel are accepted.", SCALING_HINT
        )
    return bits == 16


def check_mode(image: Image) -> None:
    """Refuse pixels without a single meaning as 8-bit RGB. Pillow would convert them, wrongly and silently."""
    if image.mode not in EIGHT_BIT_MODES:
        kind = f"{image.mode}: 16 or 32 bits, or floating point"
        message = f"has pixels of an unusual kind ({kind}); 8 bits per channel are accepted."
        raise RefusedError("ambiguous_pixels", message, SCALING_HINT)
    if image.mode == "CMYK" and not image.info.get("icc_profile"):
        raise RefusedError(
            "ambiguous_pixels",
            "is a CMYK image without a colour profile, so its true colours are not known; RGB is accepted.",
            "Convert it to RGB in the program it comes from, or save it with its colour profile.",
        )


def upright(image: Image, notes: list[str]) -> Image:
    """Apply the EXIF orientation once."""
    from PIL import Image as PillowImage

    try:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    except DECODING_ERRORS:
        notes.append("its EXIF data can't be read and was ignored")
        return image
    if orientation not in TURNS:
        return image
    method, words = TURNS[orientation]
    notes.append(f"{words} as its EXIF tag says")
    turned = image.transpose(PillowImage.Transpose[method])
    turned.info = image.info
    return turned


def split_alpha(image: Image, notes: list[str]) -> tuple[Image, Image | None]:
    """The colours, and the opacity where there is any transparency."""
    if image.mode not in ("LA", "La", "PA", "RGBA", "RGBa") and "transparency" not in image.info:
        return image, None
    grey = image.mode in ("LA", "La")
    with_alpha = image.convert("LA" if grey else "RGBA")
    alpha = with_alpha.getchannel("A")
    colours = with_alpha.convert("L" if grey else "RGB")
    if alpha.getextrema() == (255, 255):
        return colours, None
    notes.append("transparent areas became white")
    return colours, alpha


def to_srgb(image: Image, profile_bytes: bytes | None, notes: list[str]) -> Image:
    """Colours as sRGB values in mode RGB."""
    if not profile_bytes:
        return image.convert("RGB")
    from io import BytesIO

    from PIL import ImageCms

    mode = image.mode if image.mode == "CMYK" else "RGB"
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(profile_bytes))
        space = profile.profile.xcolor_space.strip()
        if space == "GRAY" and image.mode in ("1", "L"):
            mode = "L"
        if {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space) != mode:
            raise ImageCms.PyCMSError("the profile is for another kind of image")
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, *DECODING_ERRORS) as exc:
        if image.mode == "CMYK":
            message = "is a CMYK image whose colour profile can't be used, so its true colours are not known."
            raise RefusedError("ambiguous_pixels", message, "Convert it to RGB in the program it comes from.") from exc
        notes.append("its colour profile can't be used and was ignored")
        return image.convert("RGB")
    source = image.convert(mode)
    if mode == "RGB" and _changes_nothing(transform):
        return source
    name = " ".join(ImageCms.getProfileDescription(profile).split())[:60]
    notes.append(f"its colours were converted from “{name}” to sRGB")
    return ImageCms.applyTransform(source, transform) or source


def _changes_nothing(transform: Any) -> bool:
    """Whether the profile is sRGB under some name: then rounding is all that a conversion would do."""
    from PIL import Image as PillowImage
    from PIL import ImageChops, ImageCms

    steps = range(0, 256, 17)
    probe = PillowImage.frombytes(
        "RGB", (256, 16), bytes(v for r in steps for g in steps for b in steps for v in (r, g, b))
    )
    converted = ImageCms.applyTransform(probe, transform) or probe
    difference = ImageChops.difference(probe, converted).tobytes()
    return max(difference) <= 2


def canonical(data: bytes, image_format: str, limits: Limits) -> tuple[Image, dict[str, Any]]:
    """The image as plain RGB, and what was done to it."""
    from io import BytesIO

    from PIL import Image as PillowImage

    if image_format == "WEBP":
        from PIL import WebPImagePlugin  # noqa: F401  (or Pillow would import every plugin it has to find this one)

    PillowImage.MAX_IMAGE_PIXELS = None  # check_size is stricter, and says what is accepted
    notes: list[str] = []
    image: Image = PillowImage.open(BytesIO(data), formats=(image_format,))
    check_size(*image.size, limits)
    if image_format == "PNG" and check_png(data):
        notes.append("its 16 bits per channel became 8")
    check_mode(image)
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1:
        notes.append(f"only the first of {frames} frames is used")
    image.load()
    profile = image.info.get("icc_profile")
    image = upright(image, notes)
    colours, alpha = split_alpha(image, notes)
    del image
    colours = to_srgb(colours, profile, notes)
    if alpha is not None:
        white = PillowImage.new("RGB", colours.size, "white")
        white.paste(colours, mask=alpha)
        colours = white
    colours.info = {}  # or Pillow would write the profile and the comments into the PNG
    return colours, {"width": colours.width, "height": colours.height, "notes": notes}


def edited(image: Image, edit: dict[str, Any], limits: Limits) -> Image:
    """The image blurred, or scaled to another size and, where asked, back to its own (``images.Edit``)."""
    from PIL import Image as PillowImage
    from PIL import ImageFilter

    if edit["blur_radius"]:
        return image.filter(ImageFilter.GaussianBlur(edit["blur_radius"]))
    size, own = (edit["width"], edit["height"]), image.size
    check_size(*size, limits)
    image = image.resize(size, PillowImage.Resampling.LANCZOS)
    return image.resize(own, PillowImage.Resampling.BICUBIC) if edit["and_back"] else image


def examine(
    data: bytes, image_format: str, limits: Limits, edit: dict[str, Any] | None = None
) -> tuple[Image | None, dict[str, Any]]:
    """The image and its report, or no image and the reason."""
    try:
        image, report = canonical(data, image_format, limits)
        if edit is not None:
            image = edited(image, edit, limits)
            report |= {"width": image.width, "height": image.height}
        return image, report
    except RefusedError as exc:
        return None, exc.report
    except MemoryError:
        report = {"error": "corrupt_image", "message": "takes more memory to decode than is allowed."}
    except DECODING_ERRORS as exc:
        report = {
            "error": "corrupt_image",
            "message": "is damaged or incomplete.",
            "detail": f"{type(exc).__name__}: {exc}",
        }
    return None, report | {"hint": "Open it in an image program and save it again as PNG."}


def main() -> None:
    """Read, limit, decode, write."""
    pillow_folder, image_format, limits_json, *edits = sys.argv[1:]
    limits = Limits(**json.loads(limits_json))
    limit_myself(limits)
    sys.path.append(pillow_folder)
    edit = json.loads(edits[0]) if edits else None
    image, report = examine(sys.stdin.buffer.read(), image_format, limits, edit)
    with os.fdopen(1, "wb", buffering=0) as output:
        output.write(json.dumps(report).encode("ascii") + b"\n")
        if image is not None:
            image.save(output, "PNG", compress_level=PNG_LEVEL)


if __name__ == "__main__":
    main()
