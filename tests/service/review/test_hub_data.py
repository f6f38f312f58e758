"""A data set of the hub through huggingface_hub itself, from a server of this machine that speaks as the hub does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.review.hub_data import HubDataSet, fetch_data_set, read_hub_name
from tests.fakes.data_hub import COMMIT, serving_data_set

pytestmark = pytest.mark.service
FILES = {
    "data/test.jsonl": b'{"prompt": "What?", "image": "one.png"}\n',
    "data/one.png": b"a picture",
    "data/train.jsonl": b"{}\n",
    "load.py": b"raise SystemExit('a script of the data set was run')",
    "../outside.csv": b"prompt\nx\n",
    "README.md": b"# A data set",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """Its endpoint, and the paths that it was asked for."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving_data_set("some/set", FILES) as found:
        yield found


@pytest.fixture
def endpoint(hub: tuple[str, list[str]]) -> str:
    return hub[0]


def test_files_come_and_no_script_and_nothing_lands_outside(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, asked = hub
    target = tmp_path / "in" / "target"
    assert fetch_data_set(HubDataSet("some/set", None, ""), target, token=None, endpoint=endpoint) == COMMIT
    found = {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert found == {name: FILES[name] for name in ("data/test.jsonl", "data/one.png", "data/train.jsonl")}
    assert not any(path.is_symlink() for path in target.rglob("*"))
    assert not list(tmp_path.rglob("outside.csv"))
    assert not [path for path in asked if path.endswith((".py", ".md"))]
    only = tmp_path / "only"
    fetch_data_set(HubDataSet("some/set", COMMIT, "data/te*.jsonl"), only, token=None, endpoint=endpoint)
    assert [path.name for path in only.rglob("*.*")] == ["test.jsonl"]


def test_what_the_hub_does_not_have_is_named(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did not give no/such") as caught:
        fetch_data_set(HubDataSet("no/such", None, ""), tmp_path / "t", token=None, endpoint=endpoint)
    assert caught.value.field == "hub"
    with pytest.raises(InputError, match="has no such file"):
        fetch_data_set(HubDataSet("some/set", None, "x/*"), tmp_path / "t", token=None, endpoint=endpoint)
    with pytest.raises(InputError, match="did not give"):
        fetch_data_set(HubDataSet("some/set", None, ""), tmp_path / "t", token=None, endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("some/set", HubDataSet("some/set", None, "")),
        (" some/set@main ", HubDataSet("some/set", "main", "")),
        ("some/set@v1:data/val-*.parquet", HubDataSet("some/set", "v1", "data/val-*.parquet")),
    ],
)
def test_names_of_data_sets(text: str, wanted: HubDataSet) -> None:
    assert read_hub_name(text) == wanted


@pytest.mark.parametrize("text", ["set", "a/b/c", "https://hub/some/set", "some/set@", "../x/y z", "some/set:a;b"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        read_hub_name(text)
    assert caught.value.field == "hub"
