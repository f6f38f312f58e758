"""The built-in pictures of the sight check, drawn with numpy and written as PNG: no file to lose, nothing to decode."""

from __future__ import annotations

import struct
import zlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

from components.storage.image_formats import png_data_url

SIDE = 224  # pixels; small for any model, larger than the embedded one's limit
_WHITE, _RED, _BLUE, _BLACK = (255, 255, 255), (225, 30, 30), (30, 60, 220), (0, 0, 0)

Mask = NDArray[np.bool_]


@cache
def picture(name: str) -> str:
    """The ``data:`` URL of one picture: plain, circle, digit or blank."""
    colours = {"plain": _RED, "circle": _BLUE, "digit": _BLACK, "blank": _WHITE}
    pixels = np.full((SIDE, SIDE, 3), _WHITE, dtype=np.uint8)
    pixels[_mask(name)] = colours[name]
    return png_data_url(_png(pixels))


def _mask(name: str) -> Mask:
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    if name == "circle":
        circle: Mask = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.3**2
        return circle
    if name == "digit":
        return _stroke(x, y, (0.32, 0.2), (0.68, 0.2)) | _stroke(x, y, (0.68, 0.2), (0.44, 0.8))
    return np.ones((SIDE, SIDE), dtype=np.bool_)


def _stroke(
    x: NDArray[np.float64], y: NDArray[np.float64], start: tuple[float, float], end: tuple[float, float]
) -> Mask:
    """Points within a pen's width of a line."""
    along = np.array(end) - np.array(start)
    share = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / (along @ along), 0.0, 1.0)
    distance = np.hypot(x - start[0] - share * along[0], y - start[1] - share * along[1])
    near: Mask = distance < 0.055
    return near


def _png(pixels: NDArray[np.uint8]) -> bytes:
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
