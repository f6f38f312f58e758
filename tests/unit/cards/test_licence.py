"""What a model's README.md says of its licence."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.cards.licence import licence_in


def readme(tmp_path: Path, text: str) -> dict[str, Path]:
    path = tmp_path / "README.md"
    path.write_text(text, encoding="utf-8")
    return {"README.md": path}


def test_the_head_of_a_readme_names_it(tmp_path: Path) -> None:
    assert licence_in(readme(tmp_path, "---\nlicense: apache-2.0\ntags: [vllm]\n---\nText.\n")) == "apache-2.0"


@pytest.mark.parametrize(
    "text",
    ["", "No head.\n", "---\ntags: [a]\n---\n", "---\nlicense: [a, b]\n---\n", "---\n: : {\n---\n", "---\n- a\n---\n"],
)
def test_what_names_none_is_never_guessed(tmp_path: Path, text: str) -> None:
    assert licence_in(readme(tmp_path, text)) is None


def test_without_a_readme_nothing_is_known() -> None:
    assert licence_in({}) is None
