"""What a repository would hold: which files, and no folder of this machine in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import InputError
from components.publish.content import private_folders, repository_content, without_folders

HOME = Path("/home/ann")


def made(folder: Path, packed: str = ".") -> Path:
    root = folder / "result" / packed
    root.mkdir(parents=True)
    (root / "model.safetensors").write_bytes(b"weights /home/ann")
    (root / "tokenizer.json").write_text('{"vocab": ["/home/ann", "a"]}')
    (root / "config.json").write_text('{"_name_or_path": "/home/ann/model"}')
    (root / "diptych-prepared.json").write_text("{}")
    return root


def test_a_tokenizer_and_weights_go_as_they_are(tmp_path: Path) -> None:
    made(tmp_path)
    files, texts = repository_content(tmp_path, ".", "card of /home/ann/x", {str(HOME): "HOME"})
    assert texts == {"README.md": "card of HOME/x", "config.json": '{"_name_or_path": "HOME/model"}'}
    assert {file.name: file.source for file in files} == {
        "README.md": None, "config.json": None, "model.safetensors": "result/model.safetensors",
        "tokenizer.json": "result/tokenizer.json",
    }  # fmt: skip
    assert files[0].name == "README.md"


def test_where_unpacked_weights_are_served_the_packed_ones_are_published(tmp_path: Path) -> None:
    made(tmp_path)
    (made(tmp_path, "packed") / "only-here.json").write_text("{}")
    files, _ = repository_content(tmp_path, "packed", "card", {})
    assert {file.source for file in files if file.source} == {
        f"result/packed/{name}" for name in ("model.safetensors", "tokenizer.json", "config.json", "only-here.json")
    }


def test_files_that_are_gone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no longer on the disk"):
        repository_content(tmp_path, ".", "card", {})
    (made(tmp_path) / "model.safetensors").unlink()
    with pytest.raises(InputError, match="holds no weights"):
        repository_content(tmp_path, ".", "card", {})


def test_the_longest_folder_goes_first_and_only_whole_names() -> None:
    job = HOME / "state" / "jobs" / "quantize-1"
    folders = private_folders(job, HOME / "state", Path("/srv/app"), HOME)
    assert next(iter(folders.values())) == "JOB"
    text = f"{job}/result {HOME}/state/x /srv/app/assets /home/anna /home/ann-2 '/home/ann'"
    assert without_folders(text, folders) == "JOB/result STATE/x DIPTYCH/assets /home/anna /home/ann-2 'HOME'"
    assert private_folders(job, Path("/state"), Path("/"), Path("/")) == {str(job): "JOB", "/state": "STATE"}
