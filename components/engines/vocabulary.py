"""The tokens of a model, read from its own tokenizer file: id → exact bytes. Knows no server and no tokenizer library.

A vLLM server can name the alternatives of a step by text or by id, not by both, and its text is lossy (a part of a
character becomes U+FFFD). So we ask for ids and look the text up here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import orjson

from components.core.errors import PreparationError

_IMAGE_TOKENS = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
# Tekken files before 2025 carry no list of special tokens; these ids are the format's own (mistral_common, Tekkenizer).
_OLD_TEKKEN_SPECIALS = {
    0: "<unk>", 1: "<s>", 2: "</s>", 3: "[INST]", 4: "[/INST]", 5: "[AVAILABLE_TOOLS]", 6: "[/AVAILABLE_TOOLS]",
    7: "[TOOL_RESULTS]", 8: "[/TOOL_RESULTS]", 9: "[TOOL_CALLS]", 10: "[IMG]", 11: "<pad>", 12: "[IMG_BREAK]",
    13: "[IMG_END]", 14: "[PREFIX]", 15: "[MIDDLE]", 16: "[SUFFIX]", 17: "[SYSTEM_PROMPT]", 18: "[/SYSTEM_PROMPT]",
    19: "[TOOL_CONTENT]",
}  # fmt: skip


class Vocabulary:
    """Bytes of every token id of one model."""

    def __init__(self, tokens: Mapping[int, bytes], specials: Mapping[int, str]) -> None:
        self._tokens = tokens
        self._specials = specials
        self._texts: dict[int, str] = {}
        self._fingerprint = ""

    def __len__(self) -> int:
        return len(self._tokens) + len(self._specials)

    def raw(self, token_id: int) -> bytes | None:
        """Exact bytes of a token; the name of a special one; None for an id that does not exist."""
        special = self._specials.get(token_id)
        return special.encode() if special is not None else self._tokens.get(token_id)

    def text(self, token_id: int) -> str:
        """The token decoded alone, U+FFFD for a part of a character, "" for an id that does not exist."""
        text = self._texts.get(token_id)
        if text is None:
            text = self._texts[token_id] = (self.raw(token_id) or b"").decode("utf-8", "replace")
        return text

    def is_special(self, token_id: int) -> bool:
        """Whether it is a control token, which is no part of an answer's text."""
        return token_id in self._specials

    @property
    def image_token_ids(self) -> frozenset[int]:
        """Ids that stand for pictures in a prompt; empty when the tokenizer has no such tokens that we know."""
        return frozenset(token_id for token_id, name in self._specials.items() if name in _IMAGE_TOKENS)

    def fingerprint(self) -> str:
        """Hash of all ids and bytes: equal exactly when two models share a vocabulary (F25)."""
        if not self._fingerprint:
            digest = hashlib.sha256()
            for token_id in sorted({*self._tokens, *self._specials}):
                raw = self.raw(token_id) or b""
                digest.update(b"%d:%d:" % (token_id, len(raw)) + raw)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def first_difference(self, other: Vocabulary) -> int | None:
        """The lowest id that is a token of text in both and stands for other bytes; None where they agree.

        Control tokens don't count: the two kinds of tokenizer files name them differently.
        """
        if self.fingerprint() == other.fingerprint():
            return None
        shared = self._tokens.keys() & other._tokens.keys()
        return min((i for i in shared if self._tokens[i] != other._tokens[i]), default=None)


def load_vocabulary(folder: Path) -> Vocabulary | None:
    """The vocabulary of a model folder (``tekken.json``, else ``tokenizer.json``); None when there is neither.

    Raises:
        PreparationError: the file is there but is not such a file.
    """
    for name, parse in (("tekken.json", _from_tekken), ("tokenizer.json", _from_hugging_face)):
        path = folder / name
        if path.is_file():
            try:
                return parse(orjson.loads(path.read_bytes()))
            except (KeyError, TypeError, ValueError, AttributeError) as exc:
                raise PreparationError(
                    f"{path.name} of {folder.name} is not a tokenizer we can read.",
                    "Fetch the file again.",
                    detail=repr(exc),
                ) from exc
    return None


def _from_tekken(document: dict[str, object]) -> Vocabulary:
    config, vocab = document["config"], document["vocab"]
    if not isinstance(config, dict) or not isinstance(vocab, list):
        raise TypeError("config and vocab are expected")
    first = int(config["default_num_special_tokens"])
    used = int(config["default_vocab_size"]) - first
    listed = document.get("special_tokens")
    named = {entry["rank"]: entry["token_str"] for entry in listed} if isinstance(listed, list) else None
    specials = {rank: f"<SPECIAL_{rank}>" for rank in range(first)} | (named or _OLD_TEKKEN_SPECIALS)
    tokens = {first + entry["rank"]: base64.b64decode(entry["token_bytes"]) for entry in vocab[:used]}
    return Vocabulary(tokens, specials)


def _from_hugging_face(document: dict[str, object]) -> Vocabulary:
    model, added = document["model"], document.get("added_tokens", [])
    if not isinstance(model, dict) or not isinstance(added, list):
        raise TypeError("model and added_tokens are expected")
    specials = {entry["id"]: entry["content"] for entry in added}
    decode = _byte_level if _is_byte_level(document) else _sentence_piece
    tokens = {int(number): decode(token) for token, number in model["vocab"].items() if int(number) not in specials}
    return Vocabulary(tokens, specials)


def _is_byte_level(document: dict[str, object]) -> bool:
    return '"ByteLevel"' in orjson.dumps([document.get("decoder"), document.get("pre_tokenizer")]).decode()


def _byte_level(token: str) -> bytes:
    table = _byte_of_letter()
    return bytes(table[letter] for letter in token) if all(letter in table for letter in token) else token.encode()


def _sentence_piece(token: str) -> bytes:
    if len(token) == len("<0x00>") and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode()


@cache
def _byte_of_letter() -> dict[str, int]:
    """GPT-2's table: every byte as a printable letter (openai/gpt-2, ``bytes_to_unicode``)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    rest = [byte for byte in range(256) if byte not in printable]
    return table | {chr(256 + index): byte for index, byte in enumerate(rest)}
