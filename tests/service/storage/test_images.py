"""Uploads through the real decoding child."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from components.core.answers import ImageRecord
from components.core.errors import AmbiguousPixelsError, CorruptImageError, ImageTooLargeError
from components.storage.blobs import BlobStore
from components.storage.database import Database
from components.storage.images import ImageLimits, ImageStore
from tests.data.images import make_images as draw

pytestmark = pytest.mark.service


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def images(tmp_path: Path, database_url: str, blobs: BlobStore) -> Iterator[ImageStore]:
    database = Database(database_url)
    database.open()
    yield ImageStore(blobs, database=database)
    database.close()


def ingest(images: ImageStore, tmp_path: Path, data: bytes, name: str = "picture.png") -> ImageRecord:
    path = tmp_path / "upload"
    path.write_bytes(data)
    return images.ingest(path, name)


def chunks(png: bytes) -> list[bytes]:
    found, position = [], 8
    while position < len(png):
        found.append(png[position + 4 : position + 8])
        position += 12 + int.from_bytes(png[position : position + 4], "big")
    return found


def test_an_upload_becomes_a_canonical_png_stored_by_its_hash(images: ImageStore, tmp_path: Path) -> None:
    data = draw.encode(draw.quarters(), "JPEG")
    record = ingest(images, tmp_path, data, "../holiday\u202e.jpg")
    png = images.png(record.sha256)
    assert (record.width, record.height, record.source_format) == (96, 64, "JPEG")
    assert record.name == "holiday.jpg"
    assert record.notes == ()
    assert record.source_sha256 == hashlib.sha256(data).hexdigest()
    assert record.sha256 == hashlib.sha256(png).hexdigest()
    with Image.open(images.path(record.sha256)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (96, 64))


def test_a_caller_may_have_narrower_limits(images: ImageStore, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(draw.encode(draw.quarters(), "PNG"))
    for narrow in (replace(images.limits, max_bytes=100), replace(images.limits, max_pixels=96 * 64 - 1)):
        with pytest.raises(ImageTooLargeError):
            images.ingest(path, "picture.png", narrow)
    assert images.ingest(path, "picture.png", replace(images.limits, max_pixels=96 * 64)).width == 96


def test_the_same_file_is_decoded_once_and_a_lost_result_is_made_again(
    images: ImageStore, blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []
    real = ImageStore._run_worker
    monkeypatch.setattr(ImageStore, "_run_worker", lambda self, *args: (runs.append("run"), real(self, *args))[1])
    data = draw.exif_photo(6)
    first = ingest(images, tmp_path, data, "a.png")
    again = ingest(images, tmp_path, data, "b.png")
    assert again == first.model_copy(update={"name": "b.png"})
    assert runs == ["run"]
    blobs.path(first.sha256).write_bytes(b"rot")
    assert ingest(images, tmp_path, data, "a.png") == first
    assert hashlib.sha256(images.png(first.sha256)).hexdigest() == first.sha256
    assert runs == ["run", "run"]


def test_f32_all_orientations_have_one_hash(images: ImageStore, tmp_path: Path) -> None:
    assert len({ingest(images, tmp_path, draw.exif_photo(number)).sha256 for number in range(1, 9)}) == 1


def test_f35_nothing_but_pixels_is_kept(images: ImageStore, tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", "SECRET-COMMENT")
    data = draw.encode(draw.quarters(), "PNG", pnginfo=info, icc_profile=draw.icc_profile(), dpi=(99, 99))
    exif = draw.exif_photo(3)
    assert b"SECRET" in data
    assert b"SECRET" in exif
    for upload in (data, exif):
        png = images.png(ingest(images, tmp_path, upload).sha256)
        assert set(chunks(png)) == {b"IHDR", b"IDAT", b"IEND"}
        assert b"SECRET" not in png


def test_refusals_name_the_file_what_was_found_and_what_is_accepted(images: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(CorruptImageError, match=r"“half\.jpg” is damaged or incomplete\."):
        ingest(images, tmp_path, draw.encode(draw.quarters(400, 300), "JPEG")[:-500], "half.jpg")
    with pytest.raises(AmbiguousPixelsError, match=r"“scan\.png” is a 16-bit greyscale image; 8 bits"):
        ingest(images, tmp_path, draw.sixteen_bit_png(0), "scan.png")
    assert not list((tmp_path / "blobs").glob("??/*"))


def test_f29_a_bomb_is_refused_and_the_app_does_not_grow(images: ImageStore, tmp_path: Path) -> None:
    bomb = draw.huge_png(20_000)
    assert len(bomb) < 500_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageTooLargeError, match=r"20,000 × 20,000 pixels \(400 megapixels\); at most 40 megapixels"):
        ingest(images, tmp_path, bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("import os; os.abort()", "gave up"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "gave up"),
        ("import time; time.sleep(60)", "longer than 1 seconds"),
        ("x = bytearray(3_000_000_000)", "gave up"),
        ("raise SystemExit(3)", "gave up"),
        ("print('no JSON')", "gave up"),
        ('print(\'{"width": 5, "height": 5}\')', "gave up"),
        ("print('{\"width\": -1}')", "gave up"),
        ("import sys; sys.stdout.write('x' * 10_000_000)", "gave up"),
    ],
)
def test_f30_whatever_happens_to_the_decoder_the_app_lives(
    behaviour: str, words: str, blobs: BlobStore, tmp_path: Path
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(f"import resource\nresource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9))\n{behaviour}\n")
    store = ImageStore(blobs, ImageLimits(timeout_s=1.0), worker=worker)
    with pytest.raises(CorruptImageError, match=words):
        ingest(store, tmp_path, draw.encode(draw.quarters(), "PNG"))
    assert not list(blobs.temp_dir.iterdir())


def test_f30_the_real_decoder_is_limited_in_memory_and_output(blobs: BlobStore, tmp_path: Path) -> None:
    large = draw.encode(Image.new("RGB", (4000, 4000)), "PNG")  # 64 MB in the decoder
    with pytest.raises(CorruptImageError, match="more memory"):
        ingest(ImageStore(blobs, ImageLimits(memory_bytes=100_000_000)), tmp_path, large)
    noise = draw.encode(Image.effect_noise((400, 400), 60).convert("RGB"), "PNG")
    with pytest.raises(CorruptImageError):
        ingest(ImageStore(blobs, ImageLimits(output_bytes=50_000)), tmp_path, noise)
    assert ingest(ImageStore(blobs), tmp_path, noise).width == 400
