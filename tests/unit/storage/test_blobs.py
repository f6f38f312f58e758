"""Content-addressed files: whole or not there, checked on reading, and never outside their folder."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from components.core.errors import BlobDamagedError, DiskFullError, InputError, StorageError
from components.storage import atomic_write
from components.storage.blobs import BlobStore

HASH = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of b"hello"


def test_what_is_put_comes_back_and_is_stored_once(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    assert blobs.put(b"hello", ".png") == HASH
    before = blobs.path(HASH).stat().st_ino
    assert blobs.put(b"hello", ".png") == HASH
    assert blobs.path(HASH).stat().st_ino == before
    assert blobs.get(HASH) == b"hello"
    assert blobs.path(HASH) == tmp_path / "blobs" / "2c" / f"{HASH}.png"


def test_only_this_account_may_read(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    path = blobs.path(blobs.put(b"hello", ".png"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_damage_is_told_and_mended_by_the_next_put(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    blobs.put(b"hello", ".png")
    blobs.path(HASH).write_bytes(b"hellO")
    with pytest.raises(BlobDamagedError, match="2cf24dba5fb0… is damaged"):
        blobs.get(HASH)
    blobs.put(b"hello", ".png")
    assert blobs.get(HASH) == b"hello"


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BlobDamagedError, match="is missing"):
        BlobStore(tmp_path).get(HASH)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "%2e%2e%2fetc",
        HASH.upper(),
        HASH[:-1],
        f"{HASH}\n",
        f"{HASH}.png",
        f"{HASH[:60]}/../",
        "",
        "２" * 64,
    ],
)
def test_f45_a_name_that_is_no_hash_is_refused_before_any_path_is_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(os, "open", lambda *args, **_: opened.append(args))
    for read in (BlobStore(tmp_path).get, BlobStore(tmp_path).path):
        with pytest.raises(InputError):
            read(name)
    assert opened == []


def test_f45_a_suffix_of_somebody_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        BlobStore(tmp_path).put(b"x", "/../../x.png")


def test_f45_a_symbolic_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"hello")
    place = tmp_path / "blobs" / HASH[:2] / f"{HASH}.png"
    place.parent.mkdir(parents=True)
    place.symlink_to(secret)
    blobs = BlobStore(tmp_path / "blobs")
    with pytest.raises(BlobDamagedError):
        blobs.get(HASH)
    blobs.put(b"hello", ".png")
    assert blobs.get(HASH) == b"hello"
    assert not place.is_symlink()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_f55_a_full_disk_leaves_no_file_and_says_so(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic_write.os, "fsync", fail)
    blobs = BlobStore(tmp_path)
    with pytest.raises(DiskFullError, match="disk is full"):
        blobs.put(b"hello", ".png")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_another_failure_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(atomic_write.os, "fsync", fail)
    with pytest.raises(StorageError) as caught:
        BlobStore(tmp_path).put(b"hello", ".png")
    assert not isinstance(caught.value, DiskFullError)


def test_an_old_file_stays_when_a_new_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    atomic_write.write_atomically(target, b"old", tmp_path / "tmp")

    def fail(_self: Path, _target: Path) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StorageError):
        atomic_write.write_atomically(target, b"new", tmp_path / "tmp")
    assert target.read_bytes() == b"old"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_a_crash_left_is_cleared(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    blobs.put(b"hello", ".png")
    (tmp_path / "tmp" / "x.part").write_bytes(b"half")
    assert blobs.remove_leftovers() == 1
    assert blobs.remove_leftovers() == 0
    assert blobs.get(HASH) == b"hello"
