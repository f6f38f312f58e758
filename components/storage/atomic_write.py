"""Files that are old-complete or new-complete, never torn: temporary file, fsync, rename, fsync of the folder.

Every file of ours outside the database is written here. Must not know what it writes.
"""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from components.core.errors import DiskFullError, StorageError

# EFBIG is what a file-size limit gives; a quota and a full disk give the other two.
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_atomically(target: Path, data: bytes, temp_dir: Path) -> None:
    """Write ``data`` to ``target`` so that after a crash the old content or the new one is there, whole.

    Args:
        target: the file; its folder is made if need be.
        data: the whole content.
        temp_dir: a folder on the same file system. What a crash leaves there may be deleted at the next start.

    Raises:
        DiskFullError: no space left. StorageError: any other failure. In both cases ``target`` is untouched.
    """
    temporary = temp_dir / f"{secrets.token_hex(8)}.part"
    try:
        make_private_folder(target.parent)
        make_private_folder(temp_dir)
        _write_and_sync(temporary, data)
        temporary.replace(target)
        sync_folder(target.parent)
    except OSError as exc:
        raise translate_os_error(exc, target) from exc
    finally:
        temporary.unlink(missing_ok=True)


def make_private_folder(folder: Path) -> None:
    """Make a folder that only this account may enter; one that exists is left as it is."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def translate_os_error(exc: OSError, path: Path) -> StorageError:
    """Our error for a failed file operation."""
    if exc.errno in _NO_SPACE:
        return DiskFullError(
            "The disk is full: nothing more can be stored.",
            "Free some space on the disk that holds the state directory, then try again.",
            detail=f"{path}: {exc}",
        )
    return StorageError(
        f"A file could not be written: {exc.strerror}.",
        "Look at the permissions of the state directory and at the disk's health.",
        detail=f"{path}: {exc}",
    )


def _write_and_sync(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
