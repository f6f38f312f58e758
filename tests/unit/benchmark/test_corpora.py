"""Conventions: what is scored, what is overwritten, what is dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.benchmark.corpora import CONVENTIONS, classes_of, cut, find_convention, joined_rows, read_text
from components.core.errors import InputError

BOS = 1


def test_llama_cpp_scores_255_tokens_a_chunk_with_bos_written_over_the_first() -> None:
    tokens = list(range(100, 100 + 1600))
    chunks = cut(tokens, CONVENTIONS["llama.cpp-512"], BOS)
    assert len(chunks) == 1601 // 512  # the text begins with one BOS; the tail is dropped
    for chunk in chunks:
        assert (len(chunk.context), len(chunk.targets)) == (257, 255)
        assert chunk.context[0] == BOS
    whole = [BOS, *tokens]
    assert chunks[0].context[1:] + chunks[0].targets == tuple(whole[1:512])
    # What BOS overwrites in a later chunk is lost as context; nothing is shifted.
    assert chunks[1].context[1:] + chunks[1].targets == tuple(whole[513:1024])


def test_a_model_without_bos_keeps_its_first_token() -> None:
    chunks = cut(list(range(1024)), CONVENTIONS["llama.cpp-512"], None)
    assert chunks[1].context[0] == 512


def test_gptq_windows_score_all_but_the_first_token() -> None:
    chunks = cut(list(range(5000)), CONVENTIONS["gptq-2048"], BOS)
    assert [(len(c.context), len(c.targets)) for c in chunks] == [(1, 2047), (1, 2047)]
    assert chunks[0].context == (BOS,)
    assert chunks[1].context == (2047,)  # not replaced


def test_a_short_text_and_an_unknown_convention_are_refused_by_field() -> None:
    with pytest.raises(InputError, match="two chunks of 512") as caught:
        cut(list(range(600)), CONVENTIONS["llama.cpp-512"], BOS)
    assert caught.value.field == "overrides.text_file"
    with pytest.raises(InputError, match="convention") as caught:
        find_convention("llama.cpp-256")
    assert caught.value.field == "overrides.convention"


def test_rows_of_the_raw_file_joined_with_a_blank_line() -> None:
    raw = " \n = Title = \n \n A text with \u2028 inside . \n \n"
    assert joined_rows(raw) == "\n\n".join(["", " = Title = \n", "", " A text with \u2028 inside . \n", ""])


def test_a_text_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        read_text(file, "text")
    with pytest.raises(InputError, match="can't be read"):
        read_text(tmp_path / "none.txt", "text")


def test_kinds_of_tokens() -> None:
    found = classes_of([" the", "ing", "12", " ,", "\n\n", " é", ""])
    wanted = ["word begins", "word goes on", "digits", "punctuation", "white space", "beyond ASCII", "white space"]
    assert found == wanted
