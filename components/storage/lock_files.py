"""Locks of the kernel on files that stay: a killed process holds nothing."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


def wait_exclusive(descriptor: int) -> None:
    """Take the lock once it is free."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)


@contextmanager
def one_at_a_time(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of the file; ``waiting`` is called where somebody else has it."""
    descriptor = open_lock_file(path)
    try:
        if not try_exclusive(descriptor):
            waiting()
            wait_exclusive(descriptor)
        yield
    finally:
        os.close(descriptor)
