"""What a file is, told by its first bytes and never by its name. Pure; decodes nothing."""

from __future__ import annotations

import base64
from typing import NamedTuple

ACCEPTED = "Accepted are JPEG, PNG and WebP files; the content counts, not the name."
_FRAME = "Save the frame you mean as a PNG and upload that."
_EXPORT = "Export it as JPEG or PNG."
_SCALE = (
    "Save it as PNG with 8 bits per channel; if it has 16-bit or floating-point values, choose the scaling yourself."
)


class Content(NamedTuple):
    """``format`` is Pillow's name of an accepted format, or None; ``words`` say what it is; ``hint`` what to do."""

    format: str | None
    words: str
    hint: str = ACCEPTED


_SIGNATURES: tuple[tuple[bytes, Content], ...] = (
    (b"\xff\xd8\xff", Content("JPEG", "a JPEG")),
    (b"\x89PNG\r\n\x1a\n", Content("PNG", "a PNG")),
    (b"GIF87a", Content(None, "a GIF", f"{_FRAME} {ACCEPTED}")),
    (b"GIF89a", Content(None, "a GIF", f"{_FRAME} {ACCEPTED}")),
    (b"II*\x00", Content(None, "a TIFF", f"{_SCALE} {ACCEPTED}")),
    (b"MM\x00*", Content(None, "a TIFF", f"{_SCALE} {ACCEPTED}")),
    (b"BM", Content(None, "a BMP", f"{_EXPORT} {ACCEPTED}")),
    (b"8BPS", Content(None, "a Photoshop file", f"{_EXPORT} {ACCEPTED}")),
    (b"%!PS", Content(None, "a PostScript file", f"{_EXPORT} {ACCEPTED}")),
    (b"\xc5\xd0\xd3\xc6", Content(None, "a PostScript file", f"{_EXPORT} {ACCEPTED}")),
    (b"%PDF", Content(None, "a PDF", f"Export the page you mean as a PNG. {ACCEPTED}")),
    (b"\xff\x0a", Content(None, "a JPEG XL", f"{_EXPORT} {ACCEPTED}")),
    (b"\x00\x00\x00\x0cJXL ", Content(None, "a JPEG XL", f"{_EXPORT} {ACCEPTED}")),
    (b"\x00\x00\x00\x0cjP  ", Content(None, "a JPEG 2000", f"{_EXPORT} {ACCEPTED}")),
    (b"PK\x03\x04", Content(None, "a ZIP archive or an office document")),
    (b"\x1f\x8b", Content(None, "a compressed file")),
)
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})


def content_of(data: bytes) -> Content:
    """What these bytes are."""
    if not data:
        return Content(None, "empty", "The upload may have been cut off; try again.")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Content("WEBP", "a WebP")
    if data[4:8] == b"ftyp":
        return _iso_media(data[8:12])
    for signature, content in _SIGNATURES:
        if data.startswith(signature):
            return content
    return _text(data[:4096])


def _iso_media(brand: bytes) -> Content:
    if brand in _HEIC_BRANDS:
        return Content(
            None, "a HEIC photo", f'{_EXPORT} (On an iPhone: Settings, Camera, "Most Compatible".) {ACCEPTED}'
        )
    if brand in (b"avif", b"avis"):
        return Content(None, "an AVIF", f"{_EXPORT} {ACCEPTED}")
    return Content(None, "a video", f"{_FRAME} {ACCEPTED}")


def _text(head: bytes) -> Content:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return Content(None, "an SVG drawing", f"Export it as PNG in the size you need. {ACCEPTED}")
    if start.startswith((b"<!doctype html", b"<html")):
        return Content(None, "a web page", f"Save the picture itself, not the page. {ACCEPTED}")
    # A text may end in the middle of a character here, hence the second look without the last bytes.
    if b"\x00" not in head and any(_is_utf8(part) for part in (head, head[:-1], head[:-2], head[:-3])):
        return Content(None, "text")
    return Content(None, "of an unknown kind")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def png_data_url(png: bytes) -> str:
    """A PNG as a ``data:`` URL, as engines and documents take it."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
