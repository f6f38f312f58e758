"""Locks of the kernel on files that stay: a killed process holds nothing."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def open_lock_file(path: Path) -> int:
    """A descriptor of the file, made where it is missing and never deleted; no link is followed."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def try_exclusive(descriptor: int) -> bool:
    """Take the lock without waiting; whether it was free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
