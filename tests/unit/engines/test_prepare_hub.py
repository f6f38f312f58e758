"""What a download says when it can't be done, and that it is not done twice. The hub itself is not asked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from components.core.errors import PreparationError
from components.engines import prepare_hub
from components.engines.prepare_hub import check_space, fetch_snapshot, weight_patterns
from components.profiles.schema import HubSource

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PINNED = HubSource(kind="hub", repo_id="some/model", revision=COMMIT)


def fetch(source: HubSource = PINNED, *, offline: bool = False) -> Path:
    patterns = weight_patterns(consolidated=False)
    return fetch_snapshot(source, patterns, offline=offline, token=None, report=lambda message, share: None)


class Hub:
    """Stands in for ``snapshot_download`` and notes how it was called."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, cached: bool = False, error: Exception | None = None
    ) -> None:
        self.calls: list[dict[str, Any]] = []
        self.cached, self.error = cached, error
        self.files = [SimpleNamespace(filename="model.safetensors", file_size=10, will_download=True)]
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self)

    def __call__(self, repo_id: str, **options: Any) -> object:
        self.calls.append(options)
        if options.get("local_files_only"):
            if self.cached:
                return f"/cache/{COMMIT}"
            raise LocalEntryNotFoundError("not here")
        if self.error:
            raise self.error
        return self.files if options.get("dry_run") else f"/cache/{COMMIT}"


def http_error(kind: type[Any]) -> Exception:
    response = httpx2.Response(403, request=httpx2.Request("GET", "https://hub.invalid"))
    error: Exception = kind("refused", response=response)
    return error


def test_a_pinned_and_cached_model_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch, cached=True)
    assert fetch() == Path(f"/cache/{COMMIT}")
    assert [call.get("local_files_only") for call in hub.calls] == [True]


def test_what_is_not_cached_is_planned_and_then_fetched_without_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch)
    assert fetch() == Path(f"/cache/{COMMIT}")
    assert [call.get("dry_run", False) for call in hub.calls] == [False, True, False]
    assert hub.calls[-1]["revision"] == COMMIT
    patterns = hub.calls[-1]["allow_patterns"]
    assert not {"*", "*.bin", "*.pt", "*.pth", "*.pkl"} & set(patterns)


def test_offline_uses_what_is_there_and_else_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    Hub(monkeypatch, cached=True)
    assert fetch(offline=True) == Path(f"/cache/{COMMIT}")
    Hub(monkeypatch)
    with pytest.raises(PreparationError, match="not on this machine"):
        fetch(offline=True)


@pytest.mark.parametrize(
    ("kind", "words"),
    [(GatedRepoError, "gated"), (RepositoryNotFoundError, "does not exist"), (RevisionNotFoundError, "no revision")],
)
def test_a_refusal_is_explained(monkeypatch: pytest.MonkeyPatch, kind: type[Any], words: str) -> None:
    Hub(monkeypatch, error=http_error(kind))
    with pytest.raises(PreparationError, match=words):
        fetch()


def test_f44_a_repository_of_pickles_is_refused_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch)
    hub.files = [SimpleNamespace(filename="config.json", file_size=10, will_download=True)]
    with pytest.raises(PreparationError, match="no safetensors"):
        fetch()
    assert hub.calls[-1].get("dry_run")


def test_f55_no_space_is_said_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(prepare_hub.shutil, "disk_usage", lambda folder: SimpleNamespace(free=5 * 1024**3))
    with pytest.raises(PreparationError, match=r"4\.0 GiB are needed and 5\.0 GiB are free"):
        check_space(tmp_path / "not" / "yet", 4 * 1024**3, "")
    check_space(tmp_path, 2 * 1024**3, "")
