"""A pinned snapshot of a hub repository, safetensors only. The only file that knows huggingface_hub."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import PreparationError
from components.engines.prepare_files import read_json
from components.profiles.schema import HubSource

Report = Callable[[str, float | None], None]

_SMALL_FILES = ("*.json", "*.txt", "*.model", "*.model.v*", "*.jinja", "*.yaml", "*.md")
_HEADROOM_BYTES = 2 * 1024**3
_GIB = 1024**3
_POLL_S = 1.0


def weight_patterns(*, consolidated: bool) -> list[str]:
    """What is fetched: one of the two sets of weights that some repositories hold side by side, never pickles."""
    return [*_SMALL_FILES, "consolidated*.safetensors" if consolidated else "model*.safetensors"]


def fetch_snapshot(source: HubSource, patterns: list[str], *, offline: bool, token: str | None, report: Report) -> Path:
    """The snapshot's folder in the hub's own cache; what is there already is not fetched again.

    A revision of 40 hex digits that is cached whole costs no request; offline, a cached copy is used whatever it is.

    Raises:
        PreparationError: gated, unknown, offline and not cached, or no disk space; the hint says what to do.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def download(*, local: bool) -> Path:
        folder = snapshot_download(
            source.repo_id, revision=source.revision, allow_patterns=patterns, token=token, local_files_only=local
        )
        return Path(folder)

    report(f"Looking for {source.repo_id}", None)
    if offline or _is_commit(source.revision):
        try:
            return download(local=True)
        except LocalEntryNotFoundError as exc:
            if offline:
                raise _not_cached(source, exc) from exc
    try:
        missing = _bytes_to_fetch(source, patterns, token)
        with _progress(source, missing, report):
            return download(local=False)
    except LocalEntryNotFoundError as exc:
        raise _not_cached(source, exc) from exc
    except HfHubHTTPError as exc:
        raise _refused(source, exc) from exc
    except OSError as exc:
        raise PreparationError(
            f"{source.repo_id} can't be downloaded.",
            "Check the network and the disk, then start the engine again: the download goes on where it stopped.",
            detail=repr(exc),
        ) from exc


def cached_snapshot(source: HubSource, patterns: list[str]) -> Path | None:
    """The snapshot's folder if it is in the cache with its weights; asks no hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(source.repo_id, revision=source.revision, allow_patterns=patterns, local_files_only=True)
        )
    except LocalEntryNotFoundError:
        return None
    return folder if any(folder.glob("*.safetensors")) else None


@dataclass(frozen=True)
class HubFacts:
    """What a hub tells of a repository without a download."""

    licence: str | None
    gated: bool
    has_safetensors: bool


def hub_facts(repo_id: str, token: str | None) -> HubFacts | None:
    """Licence, gating and kinds of files; None when the hub can't be reached or does not know it."""
    from huggingface_hub import HfApi

    try:
        info = HfApi(token=token).model_info(repo_id, timeout=5.0)
    except Exception:  # noqa: BLE001  # no network, no such repository, a proxy's page: all mean "not known"
        return None
    names = [file.rfilename for file in info.siblings or []]
    card = info.card_data
    return HubFacts(
        licence=str(card.get("license")) if card is not None and card.get("license") else None,
        gated=bool(info.gated),
        has_safetensors=any(name.endswith(".safetensors") for name in names),
    )


def _bytes_to_fetch(source: HubSource, patterns: list[str], token: str | None) -> int:
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import DryRunError

    try:
        plan = snapshot_download(
            source.repo_id, revision=source.revision, allow_patterns=patterns, token=token, dry_run=True
        )
    except DryRunError:
        return 0  # the hub can't be asked; the download itself falls back to the cache or says why
    if not any(file.filename.endswith(".safetensors") for file in plan):
        raise PreparationError(
            f"The repository {source.repo_id} has no safetensors of the kind asked for.",
            "Only safetensors are served. Check source and load_format in the pair's profile.",
        )
    missing = sum(file.file_size or 0 for file in plan if file.will_download)
    check_space(Path(HF_HUB_CACHE), missing, "HF_HOME names another place for downloads.")
    return missing


def check_space(folder: Path, needed_bytes: int, hint: str) -> None:
    """Raises PreparationError when the disk of a (possibly not yet existing) folder can't take that much."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed_bytes and free < needed_bytes + _HEADROOM_BYTES:
        raise PreparationError(
            f"Not enough disk space: {needed_bytes / _GIB:.1f} GiB are needed and {free / _GIB:.1f} GiB are free.",
            f"Free some space. {hint}",
            detail=str(folder),
        )


@contextmanager
def _progress(source: HubSource, total_bytes: int, report: Report) -> Iterator[None]:
    """Reports how the cache grows: the library's own bars change with its versions, the folder does not."""
    if not total_bytes:
        yield
        return
    from huggingface_hub.constants import HF_HUB_CACHE

    blobs = Path(HF_HUB_CACHE) / f"models--{source.repo_id.replace('/', '--')}" / "blobs"
    before, done = _size_of(blobs), threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_S):
            got = _size_of(blobs) - before
            message = f"Downloading {source.repo_id}: {got / _GIB:.1f} of {total_bytes / _GIB:.1f} GiB"
            report(message, min(1.0, got / total_bytes))

    watcher = threading.Thread(target=watch, name="download-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _size_of(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # renamed while we looked
            continue
    return total


def _is_commit(revision: str | None) -> bool:
    return revision is not None and len(revision) == 40 and not set(revision) - set("0123456789abcdef")


def _not_cached(source: HubSource, exc: Exception) -> PreparationError:
    return PreparationError(
        f"{source.repo_id} is not on this machine, and the hub can't be reached.",
        "Connect to the network once, or copy the model into the hub's cache (HF_HOME).",
        detail=repr(exc),
    )


def _refused(source: HubSource, exc: Exception) -> PreparationError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(exc, GatedRepoError):
        message = f"{source.repo_id} is gated: its authors give access on request."
        hint = "Accept its terms on the hub's page, then set HF_TOKEN to a token of that account and start again."
    elif isinstance(exc, RevisionNotFoundError):
        message = f"{source.repo_id} has no revision {source.revision}."
        hint = "Correct source.revision in the pair's profile."
    elif isinstance(exc, RepositoryNotFoundError):
        message = f"{source.repo_id} does not exist on the hub, or is private."
        hint = "Correct source.repo_id in the pair's profile, or set HF_TOKEN to a token that may read it."
    else:
        message, hint = f"The hub refused {source.repo_id}.", "Try again later; HF_TOKEN must be valid if it is set."
    return PreparationError(message, hint, detail=repr(exc))


def remote_headers(
    repo_id: str, token: str | None, endpoint: str | None = None
) -> tuple[list[tuple[str, str, int]], dict[str, Any]]:
    """Name, type and bytes of every tensor of a repository, and its config.json: range requests, no weight is fetched.

    Raises:
        PreparationError: it can't be reached, is gated or unknown, or has no safetensors.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, NotASafetensorsRepoError, SafetensorsParsingError

    api, source = HfApi(endpoint=endpoint, token=token), HubSource(kind="hub", repo_id=repo_id)
    try:
        found = api.get_safetensors_metadata(repo_id)
        config = api.hf_hub_download(repo_id, "config.json")
    except NotASafetensorsRepoError as exc:
        hint = "Only models with model.safetensors, or shards with an index, can be read."
        raise PreparationError(f"{repo_id} has no safetensors.", hint, detail=repr(exc)) from exc
    except SafetensorsParsingError as exc:
        raise PreparationError(f"The headers of {repo_id} can't be read.", "Try again.", detail=repr(exc)) from exc
    except HfHubHTTPError as exc:
        raise _refused(source, exc) from exc
    except Exception as exc:  # no network, a proxy's page: the library lets its HTTP client's errors through
        raise _not_cached(source, exc) from exc
    headers = [
        (name, tensor.dtype, tensor.data_offsets[1] - tensor.data_offsets[0])
        for file, metadata in found.files_metadata.items()
        for name, tensor in metadata.tensors.items()
        if found.weight_map.get(name, file) == file
    ]
    return headers, read_json(Path(config))
