"""Pictures for the browser tests: the repository's own samples, and faulty files drawn on the fly."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import yaml
from PIL import Image

from tests.data.images.make_images import RED, animated, encode, exif_photo, huge_png, quarters, sixteen_bit_png
from tests.running_app import ROOT

SAMPLES = ROOT / "assets" / "samples"

File = dict[str, Any]


def file(name: str, data: bytes, kind: str = "image/png") -> File:
    """A file as Playwright hands it to a file chooser."""
    return {"name": name, "mimeType": kind, "buffer": data}


def sample(kind: str) -> tuple[Any, str, str]:
    """A bundled picture of that kind: path, question, right answer."""
    entries = yaml.safe_load((SAMPLES / "index.yaml").read_text(encoding="utf-8"))
    entry = next(e for e in entries if e["kind"] == kind)
    return SAMPLES / entry["file"], entry["question"], entry["answer"]


def plain(number: int) -> File:
    """Good pictures, each another one."""
    return file(f"plain-{number}.png", encode(Image.new("RGB", (40 + number, 40), RED), "PNG"))


def photo(orientation: int) -> File:
    return file("photo.png", exif_photo(orientation))


def truncated_jpeg() -> File:
    data = encode(quarters(600, 400), "JPEG")
    return file("half.jpg", data[: len(data) // 2], "image/jpeg")


FAULTY: dict[str, tuple[File, tuple[str, ...]]] = {
    "text": (file("notes.png", b"These are not the pixels you are looking for.\n"), ("“notes.png”", "it is text")),
    "empty": (file("empty.png", b""), ("“empty.png”", "empty")),
    "truncated": (truncated_jpeg(), ("“half.jpg”",)),
    "huge": (file("huge.png", huge_png(20_000)), ("“huge.png”", "20,000 × 20,000", "at most")),
    "sixteen-bit": (file("scan.png", sixteen_bit_png(0)), ("“scan.png”", "16-bit greyscale", "8 bits")),
    "gif": (file("dance.gif", animated("GIF"), "image/gif"), ("“dance.gif”", "a GIF", "frame")),
    "svg": (file("drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"), ("an SVG drawing",)),
}


def pixels(data: bytes) -> list[tuple[int, int, int]]:
    """The four corners' colours."""
    image = Image.open(BytesIO(data)).convert("RGB")
    right, bottom = image.width - 1, image.height - 1
    return [image.getpixel(at) for at in ((0, 0), (right, 0), (0, bottom), (right, bottom))]  # type: ignore[misc]
