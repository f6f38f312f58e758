"""Vocabularies of both kinds of tokenizer files."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from components.core.errors import PreparationError
from components.engines.vocabulary import Vocabulary, load_vocabulary


def write_tekken(folder: Path, words: list[bytes]) -> None:
    vocab = [{"rank": n, "token_bytes": base64.b64encode(word).decode()} for n, word in enumerate(words)]
    config = {"default_num_special_tokens": 20, "default_vocab_size": 20 + len(words) - 1}
    (folder / "tekken.json").write_text(json.dumps({"config": config, "vocab": vocab}))


def write_hugging_face(folder: Path) -> None:
    vocab = {"Ġhi": 0, "Ã": 1, "¼": 2}
    added = [{"id": 3, "content": "<|im_end|>"}]
    document = {"model": {"vocab": vocab}, "added_tokens": added, "decoder": {"type": "ByteLevel"}}
    (folder / "tokenizer.json").write_text(json.dumps(document))


def load(folder: Path) -> Vocabulary:
    vocabulary = load_vocabulary(folder)
    assert vocabulary is not None
    return vocabulary


def test_tekken_ids_start_after_the_special_tokens(tmp_path: Path) -> None:
    write_tekken(tmp_path, [b" hi", b"\xc3", b"cut off"])
    vocabulary = load(tmp_path)
    assert vocabulary.raw(20) == b" hi"
    assert vocabulary.raw(21) == b"\xc3"
    assert vocabulary.text(21) == "\ufffd"
    assert vocabulary.raw(22) is None
    assert vocabulary.text(2) == "</s>"
    assert vocabulary.image_token_ids == {10, 12, 13}


def test_byte_level_letters_become_bytes(tmp_path: Path) -> None:
    write_hugging_face(tmp_path)
    vocabulary = load(tmp_path)
    assert [vocabulary.raw(number) for number in range(4)] == [b" hi", b"\xc3", b"\xbc", b"<|im_end|>"]
    assert vocabulary.image_token_ids == frozenset()


def test_f25_the_fingerprint_tells_vocabularies_apart(tmp_path: Path) -> None:
    prints = set()
    for name, words in {"a": [b"x", b"y", b""], "b": [b"y", b"x", b""], "c": [b"x", b"y", b""]}.items():
        (tmp_path / name).mkdir()
        write_tekken(tmp_path / name, words)
        prints.add(load(tmp_path / name).fingerprint())
    assert len(prints) == 2


def test_no_tokenizer_and_a_broken_one(tmp_path: Path) -> None:
    assert load_vocabulary(tmp_path) is None
    (tmp_path / "tekken.json").write_text("{}")
    with pytest.raises(PreparationError, match=r"tekken\.json"):
        load_vocabulary(tmp_path)
