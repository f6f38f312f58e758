"""What a database driver says, as our errors. The only file that reads drivers' messages; pure."""

from __future__ import annotations

from components.core.errors import DatabaseBusyError, DatabaseCorruptError, DiskFullError, StorageError

_DISK_HINT = "Free some space on the disk that holds the state directory, then try again. What was stored is safe."
_BUSY_HINT = "Close the other program that has the database open, then try again."
_CORRUPT_HINT = "Stop Diptych and restore the database from a backup. The damaged file is left as it is."
_ACCESS_HINT = "Look at the permissions of the state directory and of the database in it."

_SERVER_HINT = (
    "See that PostgreSQL runs and that DIPTYCH_DATABASE_URL names it; then try again. What was stored is safe."
)
_LOGIN_HINT = "Look at the user, the password and the database's name in DIPTYCH_DATABASE_URL."

# A file-size limit and some full disks show as "disk I/O error", never as "disk is full" [measured].
_KNOWN: tuple[tuple[tuple[str, ...], type[StorageError], str, str], ...] = (
    (
        ("disk is full", "disk i/o error", "no space left"),
        DiskFullError,
        "The disk is full, or could not be written: nothing more can be stored.",
        _DISK_HINT,
    ),
    (("is locked", "lock timeout"), DatabaseBusyError, "Another program holds the database.", _BUSY_HINT),
    (("malformed", "not a database"), DatabaseCorruptError, "The database is damaged.", _CORRUPT_HINT),
    (
        ("readonly database", "read-only", "unable to open"),
        StorageError,
        "The database can't be opened for writing.",
        _ACCESS_HINT,
    ),
    (
        (
            "authentication failed",
            "does not exist",
            "permission denied",
            "no pg_hba.conf entry",
            "no password supplied",
        ),
        StorageError,
        "PostgreSQL refused the database to this user.",
        _LOGIN_HINT,
    ),
    (
        (
            "connection refused",
            "connection to server",
            "connection failed",
            "connection timeout",
            "server closed the connection",
            "terminating connection",
            "connection is lost",
            "connection is closed",
            "could not translate host",
            "failed to resolve",
        ),
        StorageError,
        "PostgreSQL can't be reached.",
        _SERVER_HINT,
    ),
)


def translate_database_error(exc: Exception) -> StorageError:
    """Our error for a driver's; what can't be recognised is a plain StorageError with the driver's words as detail."""
    said = str(exc).lower()
    for needles, kind, message, hint in _KNOWN:
        if any(needle in said for needle in needles):
            return kind(message, hint, detail=str(exc))
    return StorageError("The database refused an operation.", "The log tells more.", detail=str(exc))
