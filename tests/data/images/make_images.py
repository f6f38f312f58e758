"""Draws one file per image fault and per image kind, on the fly: nothing binary lies in the repository.

Every function returns the bytes of one file. The pictures have known colours so that a test can tell what a
conversion did to them.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

from PIL import Image, ImageCms

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 180, 60), (40, 60, 220), (240, 220, 40)
EXIF_ORIENTATION = 0x0112


def quarters(width: int = 96, height: int = 64) -> Image.Image:
    """Red and green above, blue and yellow below: every turn and mirroring of it looks different."""
    image = Image.new("RGB", (width, height))
    for index, colour in enumerate((RED, GREEN, BLUE, YELLOW)):
        left, top = (index % 2) * (width // 2), (index // 2) * (height // 2)
        image.paste(colour, (left, top, left + width // 2, top + height // 2))
    return image


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as a file of that kind."""
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk with a right checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(width: int, height: int, bits: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG of any header; ``rows`` are its bytes before compression."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(rows, 9)), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def huge_png(side: int) -> bytes:
    """A real, valid black-and-white PNG: a few hundred KB that decode to ``side`` squared pixels."""
    row = b"\x00" + bytes((side + 7) // 8)
    return raw_png(side, side, 1, 0, row * side)


def huge_rgb_png(side: int) -> bytes:
    """The same with 8-bit RGB: a real bomb."""
    squeeze = zlib.compressobj(9)
    row = b"\x00" + bytes(3 * side)
    body = b"".join(squeeze.compress(row) for _ in range(side)) + squeeze.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", body), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def sixteen_bit_png(colour_type: int) -> bytes:
    """4 × 4 pixels of 16 bits per channel; colour type 0 grey, 2 RGB, 4 grey with alpha, 6 RGBA."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    row = b"\x00" + struct.pack(f">{4 * channels}H", *(0x8042 for _ in range(4 * channels)))
    return raw_png(4, 4, 16, colour_type, row * 4)


def exif_photo(orientation: int) -> bytes:
    """``quarters`` turned so that a viewer that follows the tag shows it upright; with a comment and a place."""
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    image = quarters() if undo is None else quarters().transpose(undo)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    exif[0x010E] = "SECRET-DESCRIPTION"
    exif.get_ifd(0x8825)[1] = "SECRET-PLACE"
    return encode(image, "PNG", exif=exif)


def animated(kind: str, frames: int = 3) -> bytes:
    """A red first frame, then others."""
    pictures = [Image.new("RGB", (32, 24), colour) for colour in (RED, GREEN, BLUE, YELLOW)[:frames]]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    return encode(pictures[0], kind, save_all=True, append_images=pictures[1:], duration=100, **options)


def icc_profile(gamma: float = 1.0) -> bytes:
    """A small RGB profile that is certainly not sRGB: its curves are other ones. Written by hand, as ICC.1 says."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(x: float, y: float, z: float) -> bytes:
        return b"XYZ \x00\x00\x00\x00" + fixed(x) + fixed(y) + fixed(z)

    curve = b"curv\x00\x00\x00\x00" + struct.pack(">IH", 1, round(gamma * 256)) + b"\x00\x00"
    name = b"Test linear"
    text = b"desc\x00\x00\x00\x00" + struct.pack(">I", len(name) + 1) + name + b"\x00" + bytes(78)
    tags = {
        b"desc": text + bytes(-len(text) % 4),
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.4361, 0.2225, 0.0139),
        b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    offset, table, body = 132 + 12 * len(tags), b"", b""
    for tag, data in tags.items():
        table += tag + struct.pack(">II", offset + len(body), len(data))
        body += data
    size = offset + len(body)
    header = struct.pack(
        ">I4sI4s4s4s12s4s", size, b"\0\0\0\0", 0x02400000, b"mntr", b"RGB ", b"XYZ ", bytes(12), b"acsp"
    )
    header += bytes(28) + fixed(0.9642) + fixed(1.0) + fixed(0.8249) + bytes(48)
    return header + struct.pack(">I", len(tags)) + table + body


def srgb_profile() -> bytes:
    """The sRGB profile that most photos carry."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
