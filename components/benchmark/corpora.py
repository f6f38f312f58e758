"""Texts for perplexity and static KL, and the named conventions by which they are cut into chunks.

Convention, text and tokenizer together make a number comparable; each result names all three, with the text's hash.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.core.errors import InputError, JobError

Encode = Callable[[str], list[int]]
ConventionId = Literal["llama.cpp-512", "gptq-2048", "whole-512"]
_FEWEST_CHUNKS = 2
_MAX_TEXT_BYTES = 64 * 2**20
WIKITEXT_REPO, WIKITEXT_FILE = "ggml-org/ci", "wikitext-2-raw-v1.zip"
WIKITEXT_MEMBER = "wikitext-2-raw/wiki.test.raw"


@dataclass(frozen=True)
class Convention:
    """How a text becomes chunks.

    Attributes:
        window: tokens of a chunk; chunks do not overlap, the rest of the text is dropped.
        first_target: index in the chunk of the first token that is scored.
        replaces_first: the model's BOS is written over each chunk's first token, where the model has one.
        adds_bos: the text begins with one BOS, where the model has one.
        joined: the text is the dataset's rows, which are the file's lines, joined with a blank line.
    """

    id: ConventionId
    window: int
    first_target: int
    replaces_first: bool
    adds_bos: bool
    joined: bool
    words: str

    @property
    def targets_per_chunk(self) -> int:
        """Tokens that are scored in each chunk."""
        return self.window - self.first_target


CONVENTIONS: dict[str, Convention] = {
    "llama.cpp-512": Convention(
        "llama.cpp-512", 512, 257, True, True, False,
        "llama.cpp's: chunks of 512, the first token overwritten with BOS, 255 targets (257 to 511) a chunk",
    ),
    "gptq-2048": Convention(
        "gptq-2048", 2048, 1, False, True, True,
        "GPTQ's: rows joined with a blank line, windows of 2048, every token after the first of a window",
    ),
    "whole-512": Convention(
        "whole-512", 512, 1, False, False, True,
        "as the cards of Mistral-Small-3.2 tell of their perplexity: joined rows, windows of 512, all but the first",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Chunk:
    """One window: ``context`` is given, ``targets`` are scored."""

    index: int
    context: tuple[int, ...]
    targets: tuple[int, ...]


def find_convention(name: str) -> Convention:
    """The convention of that id.

    Raises:
        InputError: there is none.
    """
    if name not in CONVENTIONS:
        raise InputError(
            f"There is no convention {name[:40]!r}.", f"Accepted: {', '.join(CONVENTIONS)}.",
            field="overrides.convention",
        )  # fmt: skip
    return CONVENTIONS[name]


def windows(tokens: Sequence[int], convention: Convention, bos: int | None) -> list[list[int]]:
    """The text's tokens (without BOS) window by window, as they stand in it.

    Raises:
        InputError: the text is shorter than two chunks.
    """
    ids = [bos, *tokens] if bos is not None and convention.adds_bos else list(tokens)
    count = len(ids) // convention.window
    if count < _FEWEST_CHUNKS:
        raise InputError(
            f"The text has {len(ids)} tokens; two chunks of {convention.window} are needed.",
            "Name a longer text.", field="overrides.text_file",
        )  # fmt: skip
    return [ids[index * convention.window : (index + 1) * convention.window] for index in range(count)]


def cut(tokens: Sequence[int], convention: Convention, bos: int | None) -> list[Chunk]:
    """Chunks of a text's tokens (without BOS).

    Raises:
        InputError: the text is shorter than two chunks.
    """
    return [_chunk(index, window, convention, bos) for index, window in enumerate(windows(tokens, convention, bos))]


def _chunk(index: int, window: list[int], convention: Convention, bos: int | None) -> Chunk:
    if convention.replaces_first and bos is not None:
        window[0] = bos
    first = convention.first_target
    return Chunk(index, tuple(window[:first]), tuple(window[first:]))


@dataclass(frozen=True)
class Text:
    """A text and where it is from."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Of its UTF-8 bytes."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_text(path: Path, name: str) -> Text:
    """A local text; line ends are kept.

    Raises:
        InputError: it can't be read, is no UTF-8, or is too large.
    """
    try:
        if path.stat().st_size > _MAX_TEXT_BYTES:
            raise InputError(f"{path.name} is larger than 64 MiB.", "Name a shorter text.", field="overrides.text_file")
        return Text(name, path.read_bytes().decode("utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(
            f"{path.name} can't be read as UTF-8 text.", "Accepted: the absolute path of a text file.",
            field="overrides.text_file", detail=str(exc),
        ) from exc  # fmt: skip


def wikitext(joined: bool, folder: Path) -> Text:
    """WikiText-2's test split from the hub, or from its cache.

    Raises:
        JobError: the hub can't be reached and the file is not in the cache.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        archive = hf_hub_download(WIKITEXT_REPO, WIKITEXT_FILE, repo_type="dataset", cache_dir=folder)
        with zipfile.ZipFile(archive) as files:
            raw = files.read(WIKITEXT_MEMBER).decode("utf-8")
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, KeyError, zipfile.BadZipFile) as exc:
        raise JobError(
            "WikiText-2 can't be fetched from the hub.", "Name a local copy as overrides.text_file.", detail=repr(exc)
        ) from exc
    return Text("wikitext-2-raw-v1 (test)", joined_rows(raw) if joined else raw)


def joined_rows(raw: str) -> str:
    """wiki.test.raw as the dataset's rows joined with a blank line: a line " \\n" is a row without text."""
    # Not splitlines(): the text holds characters that it takes for line ends too.
    lines = [line + "\n" for line in raw.removesuffix("\n").split("\n")]
    return "\n\n".join("" if line == " \n" else line for line in lines)


def classes_of(pieces: Sequence[str]) -> list[str]:
    """What kind of text each token is: a rough division, by its own characters."""
    return [_class_of(piece) for piece in pieces]


def _class_of(piece: str) -> str:
    bare = piece.strip()
    if not bare:
        return "white space"
    if any(char.isdigit() for char in bare):
        return "digits"
    if not any(char.isalnum() for char in bare):
        return "punctuation"
    if not bare.isascii():
        return "beyond ASCII"
    return "word begins" if piece[0].isspace() else "word goes on"
