"""Weights from real headers: the embedded pair's files, here and behind a server that speaks the hub's language."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from components.core.errors import PreparationError
from components.engines.catalog import Catalog
from components.engines.model_memory import ModelMemoryReader
from components.engines.prepare import ModelPreparer
from components.profiles.loader import load_pair

ROOT = Path(__file__).parents[3]
EMBEDDED = ROOT / "assets" / "embedded"
PUBLISHED = ROOT / "assets" / "published" / "models.yaml"
pytestmark = pytest.mark.skipif(not (EMBEDDED / "base").exists(), reason="the embedded pair is not built")


class HubLike(BaseHTTPRequestHandler):
    """HEAD and ranged GET of ``/owner/name/resolve/main/FILE``; the rest is not found. Counts what it sends."""

    sent: dict[str, int]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        file = EMBEDDED / "base" / self.path.rpartition("/")[2]
        if not self.path.startswith("/me/tiny/resolve/main/") or not file.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if "/me/tiny/" in self.path else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data, size = file.read_bytes(), file.stat().st_size
        ranged = self.headers.get("range")
        if ranged and body:
            first, last = (int(number) for number in ranged.removeprefix("bytes=").split("-"))
            data = data[first : last + 1]
        self.send_response(206 if ranged and body else 200)
        self.send_header("Content-Length", str(len(data) if body else size))
        self.send_header("ETag", f'"{file.name}-{size}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.end_headers()
        if body:
            self.wfile.write(data)
            self.sent[file.name] = self.sent.get(file.name, 0) + len(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, int]]]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    HubLike.sent = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubLike)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", HubLike.sent
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def reader(tmp_path: Path) -> ModelMemoryReader:
    return ModelMemoryReader(ModelPreparer(tmp_path, ROOT), PUBLISHED)


def test_files_of_the_embedded_pair(reader: ModelMemoryReader) -> None:
    catalog = Catalog([load_pair(ROOT / "profiles", "embedded")])
    base, w4a16 = (reader.of_entry(catalog.find(f"embedded/{name}")) for name in ("base", "w4a16"))
    assert base is not None
    assert w4a16 is not None
    assert base.source == w4a16.source == "files"
    on_disk = sum(file.stat().st_size for file in (EMBEDDED / "base").glob("*.safetensors"))
    assert base.weights_bytes == pytest.approx(on_disk, rel=0.01), "all but the headers"
    assert {part.part for part in base.parts} >= {"decoder layers", "embeddings", "vision tower"}
    assert {part.dtype for part in base.parts} == {"BF16"}
    decoder = {part.dtype for part in w4a16.parts if part.part == "decoder layers"}
    assert decoder & {"I32", "U8"}, "packed weights keep their own type"
    assert w4a16.weights_bytes < base.weights_bytes
    assert base.architecture.patch


def test_the_hub_gives_headers_and_no_weight(
    reader: ModelMemoryReader, hub: tuple[str, dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, sent = hub
    found = reader.of_repository("me/tiny", endpoint)
    here = reader.of_folder(EMBEDDED / "base")
    assert found.source == "hub"
    assert (found.parts, found.architecture) == (here.parts, here.architecture)
    weights = {name: size for name, size in sent.items() if name.endswith(".safetensors")}
    assert weights
    for name, size in weights.items():
        assert size <= 200_000 < (EMBEDDED / "base" / name).stat().st_size, "ranges only"


def test_a_hub_that_does_not_know_or_answer(reader: ModelMemoryReader, hub: tuple[str, dict[str, int]]) -> None:
    with pytest.raises(PreparationError, match="someone/else"):
        reader.of_repository("someone/else", hub[0])
    with pytest.raises(PreparationError, match="can't be reached"):
        reader.of_repository("me/tiny", "http://127.0.0.1:1")


def test_models_that_are_not_here_are_told_by_formula(reader: ModelMemoryReader) -> None:
    catalog = Catalog([load_pair(ROOT / "profiles", "pixtral-large-2411")])
    found = reader.of_entry(catalog.find("pixtral-large-2411/w8a8"))
    assert found is not None
    assert found.source == "formula"


def test_a_folder_that_is_no_model(reader: ModelMemoryReader, tmp_path: Path) -> None:
    with pytest.raises(PreparationError, match="safetensors"):
        reader.of_folder(tmp_path)
