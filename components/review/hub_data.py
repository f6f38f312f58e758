"""Files of a data set of the Hugging Face hub, as a folder. Only files are fetched; no script of it is run."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from components.core.errors import InputError
from components.review.intake import MAX_UNPACKED_BYTES, PICTURES, TABLES

_WANTED = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?(:(?P<files>[\w./*?\[\]-]+))?", re.ASCII)
_ENDINGS = (*TABLES, *PICTURES, ".zip")
_MAX_FILES = 20_000


@dataclass(frozen=True)
class HubDataSet:
    """Which files of which data set."""

    repo_id: str
    revision: str | None
    files: str  # a pattern; empty = all that can be used


def read_hub_name(text: str) -> HubDataSet:
    """``owner/name``, ``owner/name@revision``, ``owner/name:data/validation-*.parquet``.

    Raises:
        InputError: it is none of these.
    """
    found = _WANTED.fullmatch(text.strip())
    if found is None:
        raise InputError(
            "That names no data set of the hub.",
            "Accepted: owner/name, owner/name@revision, owner/name:data/validation-*.parquet.",
            field="hub",
        )
    return HubDataSet(found["id"], found["revision"], found["files"] or "")


def fetch_data_set(wanted: HubDataSet, target: Path, *, token: str | None, endpoint: str | None = None) -> str:
    """Put the files into ``target``, through the hub's own cache; the commit they are of.

    Args:
        endpoint: another hub than the usual one.

    Raises:
        InputError: naming what the hub said, or that there is too much.
    """
    from huggingface_hub import HfApi, hf_hub_download

    try:
        api = HfApi(endpoint=endpoint, token=token)
        info = api.dataset_info(wanted.repo_id, revision=wanted.revision, files_metadata=True, timeout=20.0)
        names = _chosen(info.siblings or [], wanted)
        for name in names:
            cached = hf_hub_download(
                wanted.repo_id, name, repo_type="dataset", revision=info.sha, token=token, endpoint=endpoint
            )
            _place(Path(cached).resolve(), target / name)
    except InputError:
        raise
    except Exception as exc:  # no network, no such data set, a gate, a full disk: each library's own
        raise InputError(
            f"The hub did not give {wanted.repo_id}.",
            "See that the name is right, that HF_TOKEN may read it, and that the hub can be reached.",
            field="hub",
            detail=repr(exc)[:500],
        ) from exc
    return str(info.sha)


def _chosen(siblings: list[Any], wanted: HubDataSet) -> list[str]:
    sizes = {file.rfilename: file.size or 0 for file in siblings if _is_usable(file.rfilename, wanted.files)}
    if not sizes:
        raise InputError(
            f"{wanted.repo_id} has no such file.",
            f"Accepted: files that end in {', '.join(_ENDINGS)}; {len(siblings)} others are there.",
            field="hub",
        )
    if sum(sizes.values()) > MAX_UNPACKED_BYTES or len(sizes) > _MAX_FILES:
        raise InputError(
            f"That would be {len(sizes):,} files with {sum(sizes.values()):,} bytes.",
            f"Choose some of them, as in {wanted.repo_id}:{min(sizes)}; {MAX_UNPACKED_BYTES:,} bytes are accepted.",
            field="hub",
        )
    return sorted(sizes)


def _is_usable(name: str, pattern: str) -> bool:
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts and "\\" not in name
    return inside and name.lower().endswith(_ENDINGS) and (not pattern or fnmatch.fnmatchcase(name, pattern))


def _place(cached: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(cached, target)
    except OSError:  # the cache is on another file system
        shutil.copyfile(cached, target)
