"""Uploaded files to canonical images: RGB PNG without metadata, the same bytes for every engine, stored by hash.

The app never decodes: a child process with limits does (``image_worker.py``), and vLLM only ever sees the child's PNG.
Every image limit is here. A one-shot child costs
90 ms of CPU for a small picture, 1.2 s for a 12-megapixel photo, up to 7.6 s for 40 megapixels with alpha, profile and
rotation, and up to 0.6 GB [measured]; the same file again costs a lookup of about 1 ms.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from pydantic import Field, ValidationError
from sqlalchemy import select

from components.core.answers import ImageRecord, Record
from components.core.errors import (
    AmbiguousPixelsError,
    BlobDamagedError,
    CorruptImageError,
    ImageTooLargeError,
    InputError,
    MediaError,
    UnsupportedFormatError,
)
from components.storage.atomic_write import make_private_folder, translate_os_error
from components.storage.blobs import BlobStore
from components.storage.database import Database
from components.storage.image_formats import content_of, png_data_url
from components.storage.tables import CanonicalImageRow

PNG_SUFFIX = ".png"
# Raise it whenever the worker would make other pixels of the same file: what was stored under older rules stays.
RULES = 1
_WORKER = Path(__file__).with_name("image_worker.py")
_ERRORS: dict[str, type[MediaError]] = {
    kind.code: kind for kind in (AmbiguousPixelsError, CorruptImageError, ImageTooLargeError, UnsupportedFormatError)
}
_SAVE_AGAIN = "Open it in an image program and save it again as PNG."


@dataclass(frozen=True)
class ImageLimits:
    """Every limit on images and on the process that decodes them."""

    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000
    max_side: int = 16_384
    max_aspect: int = 200
    max_images: int = 10  # in one turn; an engine may allow fewer
    memory_bytes: int = 1_500_000_000  # address space
    cpu_s: int = 10  # what a decoder may work; engines that keep the machine busy don't make a good photo fail
    open_files: int = 32
    output_bytes: int = 180_000_000  # 40 megapixels of noise are 120 MB
    timeout_s: float = 30.0  # what it may take by the clock, for one that hangs without working
    at_once: int = 2  # decoders at the same time

    def for_worker(self) -> str:
        """The part that the child needs, as JSON."""
        names = ("max_pixels", "max_side", "max_aspect", "memory_bytes", "cpu_s", "open_files", "output_bytes")
        return json.dumps({name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class Edit:
    """A change of a canonical image, for comparisons: a Gaussian blur, or another size."""

    blur_radius: float = 0.0  # pixels; 0 = no blur, another size
    width: int = 0
    height: int = 0
    and_back: bool = False  # scaled to that size and then back to its own

    def for_worker(self) -> str:
        """All of it, as JSON."""
        return json.dumps(asdict(self))


class _Report(Record):
    """What the child says. It has touched hostile bytes, so nothing it says is taken as it comes."""

    width: int = Field(default=0, ge=0)
    height: int = Field(default=0, ge=0)
    notes: tuple[str, ...] = Field(default=(), max_length=10)
    error: str = Field(default="", max_length=40)
    message: str = Field(default="", max_length=300)
    hint: str = Field(default="", max_length=300)
    detail: str = ""


class ImageStore:
    """Canonical images of one state directory. Calls block and may come from several threads."""

    def __init__(
        self,
        blobs: BlobStore,
        limits: ImageLimits | None = None,
        database: Database | None = None,
        worker: Path = _WORKER,
    ) -> None:
        self._blobs = blobs
        self.limits = limits or ImageLimits()
        self._database = database
        self._worker = worker
        # Bounds the memory that all decoders may take together, however many people upload at once.
        self._decoders = threading.BoundedSemaphore(self.limits.at_once)

    def ingest(self, path: Path, name: str, limits: ImageLimits | None = None) -> ImageRecord:
        """Make the canonical image of an uploaded file; the same file is decoded once.

        Args:
            path: the uploaded file; it is only read.
            name: the user's name for it, for display and messages only.
            limits: narrower ones for this caller; None = those of all.

        Raises:
            UnsupportedFormatError, ImageTooLargeError, CorruptImageError, AmbiguousPixelsError: it is not accepted;
            the message names the file, says what was found and what is accepted. StorageError: it can't be stored.
        """
        name = display_name(name)
        limits = limits or self.limits
        data = _read(path, name, limits.max_bytes)
        content = content_of(data)
        if content.format is None:
            raise UnsupportedFormatError(
                f"“{name}” is not an image that can be used: it is {content.words}.", content.hint
            )
        source = hashlib.sha256(data).hexdigest()
        known = self._known(source, name)
        if known is not None:
            return known
        with self._decoders:
            report, png = self._decode(data, content.format, name, limits)
        record = ImageRecord(
            sha256=self._blobs.put(png, PNG_SUFFIX),
            width=report.width,
            height=report.height,
            name=name,
            source_format=content.format,
            source_sha256=source,
            notes=report.notes,
        )
        self._remember(record)
        return record

    def adopt(self, record: ImageRecord, png: bytes) -> None:
        """Store a canonical image that was made before, by its own bytes: nothing is decoded.

        Raises:
            InputError: the bytes are not those of the record. StorageError: it can't be stored.
        """
        if hashlib.sha256(png).hexdigest() != record.sha256:
            raise InputError(f"{record.name} is not the picture that was asked about.", field="images")
        self._blobs.put(png, PNG_SUFFIX)
        self._remember(record)

    def edited(self, sha256: str, edit: Edit) -> str:
        """Make and store a changed copy of a canonical image; gives the copy's hash, the same for the same edit.

        Raises:
            MediaError: it can't be made. StorageError: the image is not there, or the copy can't be stored.
        """
        with self._decoders:
            _, png = self._decode(self.png(sha256), "PNG", "the changed picture", self.limits, edit)
        return self._blobs.put(png, PNG_SUFFIX)

    def png(self, sha256: str) -> bytes:
        """The canonical bytes."""
        return self._blobs.get(sha256)

    def data_url(self, sha256: str) -> str:
        """The canonical PNG as a ``data:`` URL: the same bytes for every engine."""
        return png_data_url(self.png(sha256))

    def path(self, sha256: str) -> Path:
        """Where the canonical PNG lies."""
        return self._blobs.path(sha256)

    def record(self, sha256: str) -> ImageRecord:
        """What is known of a canonical image, under the neutral name ``image``.

        Raises:
            InputError: no image of that hash was made here.
        """
        query = select(CanonicalImageRow).where(CanonicalImageRow.sha256 == sha256).limit(1)
        row = self._database.read(lambda session: session.scalars(query).first()) if self._database else None
        if row is None:
            raise InputError("One of the images is not stored here.", "Upload it again.", field="images")
        return _record(row, "image")

    def check_count(self, count: int, engine_limit: int | None = None) -> None:
        """Refuse more images in one turn than we, or the engine, accept."""
        most = min(self.limits.max_images, engine_limit if engine_limit is not None else self.limits.max_images)
        if count > most:
            raise InputError(
                f"{count} images are too many for one question: at most {most} are accepted.",
                f"Remove {count - most} of them, or ask about them in a further turn.",
                field="images",
            )

    def _decode(
        self, data: bytes, image_format: str, name: str, limits: ImageLimits, edit: Edit | None = None
    ) -> tuple[_Report, bytes]:
        make_private_folder(self._blobs.temp_dir)
        try:
            # A file, because the kernel bounds its size; a pipe would have to be bounded by hand.
            with tempfile.TemporaryFile(dir=self._blobs.temp_dir) as output:
                code = self._run_worker(data, image_format, output, name, limits, edit)
                output.seek(0)
                line, png = output.readline(10_000), output.read(limits.output_bytes)
        except OSError as exc:
            raise translate_os_error(exc, self._blobs.temp_dir) from exc
        try:
            report = _Report.model_validate_json(line)
        except ValidationError as exc:
            raise _died(name, code) from exc
        if report.error:
            kind = _ERRORS.get(report.error, CorruptImageError)
            raise kind(f"“{name}” {report.message}", report.hint, detail=report.detail)
        if code != 0 or png[:8] != b"\x89PNG\r\n\x1a\n" or _png_size(png) != (report.width, report.height):
            raise _died(name, code)
        return report, png

    def _run_worker(
        self, data: bytes, image_format: str, output: IO[bytes], name: str, limits: ImageLimits, edit: Edit | None
    ) -> int:
        argv = [sys.executable, "-I", "-S", str(self._worker), _pillow_folder(), image_format, limits.for_worker()]
        argv += [edit.for_worker()] if edit else []
        try:
            # No environment: the child needs none and must learn no secret.
            finished = subprocess.run(
                argv,
                input=data,
                stdout=output,
                stderr=subprocess.DEVNULL,
                timeout=limits.timeout_s,
                env={},
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise _too_slow(name, limits.timeout_s) from exc
        if finished.returncode == -signal.SIGXCPU:
            raise _too_slow(name, limits.cpu_s)
        return finished.returncode

    def _known(self, source_sha256: str, name: str) -> ImageRecord | None:
        if self._database is None:
            return None
        row = self._database.read(lambda session: session.get(CanonicalImageRow, (source_sha256, RULES)))
        if row is None:
            return None
        try:
            self._blobs.get(row.sha256)
        except BlobDamagedError:
            return None  # made anew from the upload
        return _record(row, name)

    def _remember(self, record: ImageRecord) -> None:
        if self._database is None:
            return
        row = CanonicalImageRow(
            source_sha256=record.source_sha256,
            rules=RULES,
            sha256=record.sha256,
            width=record.width,
            height=record.height,
            source_format=record.source_format,
            notes=list(record.notes),
        )
        self._database.write(lambda session: session.merge(row))


def _read(path: Path, name: str, most: int) -> bytes:
    try:
        # Neither a link to another file nor a pipe that never ends.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise MediaError(f"“{name}” is not an ordinary file.", "Upload the image itself.")
            data = file.read(most + 1)
    except OSError as exc:
        raise MediaError(f"“{name}” can't be read.", "Upload it again.", detail=str(exc)) from exc
    if len(data) > most:
        size = path.stat().st_size
        raise ImageTooLargeError(
            f"“{name}” has {size:,} bytes; at most {most:,} ({most // 1_000_000} MB) are accepted.",
            "Scale it down, or save it as JPEG.",
        )
    return data


def _record(row: CanonicalImageRow, name: str) -> ImageRecord:
    return ImageRecord(
        sha256=row.sha256,
        width=row.width,
        height=row.height,
        name=name,
        source_format=row.source_format,
        source_sha256=row.source_sha256,
        notes=tuple(row.notes),
    )


def display_name(name: str) -> str:
    """A file name that can be shown: its last part, without invisible characters, at most 80 long."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    visible = "".join(letter for letter in last if not unicodedata.category(letter).startswith("C")).strip()
    if len(visible) > 80:
        visible = f"{visible[:60]}…{visible[-19:]}"
    return visible or "image"


def _pillow_folder() -> str:
    """Where Pillow lies, without importing it: the child runs without site-packages, which saves half its start."""
    spec = importlib.util.find_spec("PIL")
    if spec is None or spec.origin is None:
        raise MediaError("Pillow is not installed, so images can't be read.", "Run `make run`, which installs it.")
    return str(Path(spec.origin).parent.parent)


def _png_size(png: bytes) -> tuple[int, int]:
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def _too_slow(name: str, seconds: float) -> CorruptImageError:
    return CorruptImageError(f"“{name}” took longer than {seconds:g} seconds to decode.", _SAVE_AGAIN)


def _died(name: str, code: int) -> CorruptImageError:
    return CorruptImageError(
        f"“{name}” can't be decoded: the decoder gave up on it.", _SAVE_AGAIN, detail=f"exit code {code} of the decoder"
    )
