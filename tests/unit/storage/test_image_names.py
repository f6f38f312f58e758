"""Kinds of files told by content, and names made fit to be shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.errors import ImageTooLargeError, InputError, MediaError, UnsupportedFormatError
from components.storage.blobs import BlobStore
from components.storage.image_formats import content_of
from components.storage.images import ImageLimits, ImageStore, display_name
from tests.data.images import make_images as draw

NO_IMAGES = [
    (b"", "empty"),
    (b"just text, na\xc3\xafve", "text"),
    (b"<!DOCTYPE html><html></html>", "a web page"),
    (b'<?xml version="1.0"?><svg xmlns="x"/>', "an SVG drawing"),
    (b"\x00\x00\x00\x18ftypheic\x00\x00", "a HEIC photo"),
    (b"\x00\x00\x00\x18ftypavif\x00\x00", "an AVIF"),
    (b"%!PS-Adobe-3.0 EPSF-3.0", "a PostScript file"),
    (b"%PDF-1.7", "a PDF"),
    (b"BM\x00\x00", "a BMP"),
    (b"II*\x00", "a TIFF"),
    (b"\x89PN\x00\xff\xfe", "of an unknown kind"),
]


def store(tmp_path: Path, limits: ImageLimits | None = None) -> ImageStore:
    return ImageStore(BlobStore(tmp_path / "blobs"), limits, worker=tmp_path / "no-child-may-start.py")


@pytest.mark.parametrize(("data", "words"), NO_IMAGES)
def test_f27_what_is_no_image_is_refused_by_content_not_by_name(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(data)
    with pytest.raises(UnsupportedFormatError) as caught:
        store(tmp_path).ingest(path, "holiday.png")
    assert "“holiday.png”" in caught.value.message
    assert words in caught.value.message
    assert caught.value.hint


def test_f31_a_gif_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(draw.animated("GIF"))
    with pytest.raises(UnsupportedFormatError, match="it is a GIF") as caught:
        store(tmp_path).ingest(path, "a.gif")
    assert "Save the frame you mean as a PNG" in caught.value.hint


def test_accepted_kinds_are_told() -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        assert content_of(draw.encode(draw.quarters(), kind)).format == kind


@given(st.binary(max_size=64))
def test_any_bytes_are_some_kind(data: bytes) -> None:
    assert content_of(data).words


def test_f36_one_byte_too_many_is_told_with_the_numbers(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(bytes(20_000_001))
    with pytest.raises(ImageTooLargeError, match=r"20,000,001 bytes; at most 20,000,000 \(20 MB\)"):
        store(tmp_path).ingest(path, "big.png")


def test_f36_the_eleventh_image_is_refused_with_the_number(tmp_path: Path) -> None:
    images = store(tmp_path)
    images.check_count(10)
    with pytest.raises(InputError, match="at most 10 are accepted") as caught:
        images.check_count(11)
    assert caught.value.field == "images"
    with pytest.raises(InputError, match=r"6 images are too many.*at most 4.*Remove 2"):
        images.check_count(6, engine_limit=4)
    with pytest.raises(InputError, match="at most 0"):
        images.check_count(1, engine_limit=0)


def test_f45_a_link_or_a_pipe_as_upload_is_refused(tmp_path: Path) -> None:
    import os

    (tmp_path / "secret").write_bytes(draw.encode(draw.quarters(), "PNG"))
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "missing", "."):
        with pytest.raises(MediaError):
            store(tmp_path).ingest(tmp_path / name, "a.png")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\pictures\\cat.png", "cat.png"),
        ("a\x00b\n\u202egnp.exe", "abgnp.exe"),
        ("", "image"),
        ("\u202e", "image"),
        ("a\ud800.png", "a.png"),
        ("Größe 你好 🎨.png", "Größe 你好 🎨.png"),
    ],
)
def test_f45_f37_names_are_shown_without_folders_and_unseen_characters(name: str, shown: str) -> None:
    assert display_name(name) == shown


@given(st.text(max_size=300))
def test_f45_no_name_is_long_or_a_path(name: str) -> None:
    shown = display_name(name)
    assert 0 < len(shown) <= 80
    assert "/" not in shown
