"""A data set of the hub through huggingface_hub itself, from a server of this machine that speaks as the hub does."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import pytest

from components.core.errors import InputError
from components.review.hub_data import HubDataSet, fetch_data_set, read_hub_name

pytestmark = pytest.mark.service
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "data/test.jsonl": b'{"prompt": "What?", "image": "one.png"}\n',
    "data/one.png": b"a picture",
    "data/train.jsonl": b"{}\n",
    "load.py": b"raise SystemExit('a script of the data set was run')",
    "../outside.csv": b"prompt\nx\n",
    "README.md": b"# A data set",
}


class Hub(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(path)
        name = path.partition(f"/resolve/{COMMIT}/")[2]
        if path.startswith("/api/datasets/some/set"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in FILES.items()]
            data = json.dumps({"id": "some/set", "sha": COMMIT, "siblings": siblings}).encode()
            self._send(200, data, with_body, "application/json")
        elif path.startswith("/datasets/some/set/") and name in FILES:
            self._send(200, FILES[name], with_body, "application/octet-stream")
        else:
            self._send(404, b"{}", with_body, "application/json")

    def _send(self, status: int, data: bytes, with_body: bool, kind: str) -> None:
        self.send_response(status)
        for header, value in (
            ("content-type", kind), ("content-length", str(len(data))), ("x-repo-commit", COMMIT),
            ("etag", f'"{hashlib.sha256(data).hexdigest()}"'),
        ):  # fmt: skip
            self.send_header(header, value)
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_files_come_and_no_script_and_nothing_lands_outside(endpoint: str, tmp_path: Path) -> None:
    target = tmp_path / "in" / "target"
    assert fetch_data_set(HubDataSet("some/set", None, ""), target, token=None, endpoint=endpoint) == COMMIT
    found = {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert found == {name: FILES[name] for name in ("data/test.jsonl", "data/one.png", "data/train.jsonl")}
    assert not any(path.is_symlink() for path in target.rglob("*"))
    assert not list(tmp_path.rglob("outside.csv"))
    assert not [path for path in Hub.asked if path.endswith((".py", ".md"))]
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
