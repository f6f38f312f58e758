"""Content-addressed files: the name is the SHA-256 of the content, so a file never changes and is stored once.

Layout: ``<root>/<first two digits>/<sha256><suffix>``; ``<root>/tmp`` holds files being written. Must not
interpret what it stores.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from pathlib import Path

from components.core.errors import BlobDamagedError, InputError
from components.storage.atomic_write import make_private_folder, translate_os_error, write_atomically

SUFFIXES = (".png", ".json.gz")
_HASH = re.compile(r"[0-9a-f]{64}")


class BlobStore:
    """Files by the hash of their content. Safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.temp_dir = root / "tmp"

    def put(self, data: bytes, suffix: str) -> str:
        """Store ``data`` and return its SHA-256; on return it is on disk. Storing it again costs one read.

        Raises:
            DiskFullError, StorageError: nothing was stored.
        """
        if suffix not in SUFFIXES:
            raise InputError(f"Files ending in {suffix!r} are not stored.", f"Use one of {', '.join(SUFFIXES)}.")
        digest = hashlib.sha256(data).hexdigest()
        target = self._place(digest, suffix)
        if not _holds(target, data):
            write_atomically(target, data, self.temp_dir)
        return digest

    def get(self, sha256: str) -> bytes:
        """The content, checked against its name.

        Raises:
            InputError: the name is not a SHA-256. BlobDamagedError: it is missing or its content has changed.
        """
        path = self.path(sha256)
        try:
            data = _read(path)
        except OSError as exc:
            raise _damaged(sha256, "cannot be read", str(exc)) from exc
        if hashlib.sha256(data).hexdigest() != sha256:
            raise _damaged(sha256, "is damaged", f"{path} does not hold what its name says")
        return data

    def path(self, sha256: str) -> Path:
        """Where the content lies.

        Raises:
            InputError: the name is not a SHA-256. BlobDamagedError: it is missing.
        """
        for suffix in SUFFIXES:
            candidate = self._place(sha256, suffix)
            if candidate.is_file() and not candidate.is_symlink():
                return candidate
        raise _damaged(sha256, "is missing", f"no file under {self._root}")

    def remove_leftovers(self) -> int:
        """Delete what a crash left half-written. Only for the start, before anything writes."""
        make_private_folder(self.temp_dir)
        leftovers = [path for path in self.temp_dir.iterdir() if path.is_file()]
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)

    def _place(self, sha256: str, suffix: str) -> Path:
        # The pattern is the whole defence against "../": nothing else ever becomes part of a path.
        if not _HASH.fullmatch(sha256):
            raise InputError("That is not the name of a stored file.", "It is 64 digits from 0-9 and a-f.")
        return self._root / sha256[:2] / f"{sha256}{suffix}"


def _holds(path: Path, data: bytes) -> bool:
    """Whether the file is there and whole: a damaged one is written anew."""
    try:
        return path.stat().st_size == len(data) and _read(path) == data
    except FileNotFoundError:
        return False
    except OSError as exc:
        if exc.errno == errno.ELOOP:  # a symbolic link: replaced by the real file
            return False
        raise translate_os_error(exc, path) from exc


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _damaged(sha256: str, what: str, detail: str) -> BlobDamagedError:
    return BlobDamagedError(
        f"The stored file {sha256[:12]}… {what}.",
        "Restore the state directory's blobs folder from a backup.",
        detail=detail,
    )
