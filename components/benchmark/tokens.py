"""A served folder's own tokenizer, for whole texts: control tokens in the text stay text, nothing is added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import JobError


@dataclass(frozen=True)
class TextTokenizer:
    """Text → ids.

    Attributes:
        encode: ids of a text, without BOS or EOS.
        piece: the text of one id, decoded alone.
        bos: what a text begins with in this model's convention; None where it has none.
        eos: what ends an answer; None where it is not known.
    """

    encode: Callable[[str], list[int]]
    piece: Callable[[int], str]
    bos: int | None
    eos: int | None
    name: str


def load_tokenizer(folder: Path) -> TextTokenizer:
    """The tokenizer of a prepared model folder.

    Raises:
        JobError: it has neither tekken.json nor tokenizer.json.
    """
    if (folder / "tekken.json").is_file():
        return _tekken(folder / "tekken.json")
    if (folder / "tokenizer.json").is_file():
        return _hugging_face(folder)
    raise JobError(f"{folder.name} has no tokenizer that can be read.", "tekken.json or tokenizer.json is needed.")


def _tekken(path: Path) -> TextTokenizer:
    from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    tokenizer = Tekkenizer.from_file(path)
    return TextTokenizer(
        encode=lambda text: list(tokenizer.encode(text, bos=False, eos=False)),
        piece=lambda token_id: str(tokenizer.decode([token_id], special_token_policy=SpecialTokenPolicy.KEEP)),
        bos=int(tokenizer.bos_id),
        eos=int(tokenizer.eos_id),
        name="Tekken",
    )


def _hugging_face(folder: Path) -> TextTokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    begins = tokenizer.encode("", add_special_tokens=True).ids
    tokenizer.encode_special_tokens = True  # their names in a text are text
    return TextTokenizer(
        encode=lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids),
        piece=lambda token_id: str(tokenizer.decode([token_id], skip_special_tokens=False)),
        bos=begins[0] if begins else None,
        eos=_end_id(folder),
        name="tokenizer.json",
    )


def _end_id(folder: Path) -> int | None:
    import orjson

    for name in ("generation_config.json", "config.json"):
        path = folder / name
        found = orjson.loads(path.read_bytes()).get("eos_token_id") if path.is_file() else None
        if isinstance(found, list):
            found = found[0] if found else None
        if isinstance(found, int):
            return found
    return None
