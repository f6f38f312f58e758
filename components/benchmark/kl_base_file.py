"""llama.cpp's ``--kl-divergence-base`` file: a base's log-probabilities of a text, for scoring without the base.

Little-endian: the eight bytes ``_logits_``; window, ids and chunks as int32; the text's tokens (chunks × window) as
int32, each chunk's first as it stands in the text; then for each chunk a row of 16-bit words for every token after the
first half of its window but the last (see ``inside_vllm/diptych_scoring/rows.py``). Read from tools/perplexity of
llama.cpp. A file is never held in memory: it has some 25 MB a chunk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.benchmark.corpora import Chunk
from components.core.errors import InputError, JobError

MAGIC = b"_logits_"
_HEADER_BYTES = len(MAGIC) + 3 * 4
_ROW_HEADER_WORDS = 4
_LONGEST_WINDOW, _MOST_IDS, _MOST_CHUNKS = 2**20, 2**20, 2**20
_SPARE_BYTES = 2**30
_FIELD = "overrides.kl_base_file"
Words = NDArray[np.uint16]


@dataclass(frozen=True)
class KlBase:
    """What a file says of itself.

    Attributes:
        window: tokens of a chunk (n_ctx).
        ids: size of the vocabulary.
        tokens: of all chunks (chunks, window).
    """

    window: int
    ids: int
    tokens: NDArray[np.int32]

    @property
    def chunks(self) -> int:
        """How many there are."""
        return len(self.tokens)

    @property
    def first_target(self) -> int:
        """Place in the window of the first token that is scored."""
        return self.window // 2 + 1

    @property
    def rows(self) -> int:
        """Tokens that are scored in each chunk."""
        return self.window - self.first_target

    @property
    def words(self) -> int:
        """16-bit words of a row."""
        return 2 * ((self.ids + 1) // 2) + _ROW_HEADER_WORDS

    @property
    def size_bytes(self) -> int:
        """Of the whole file."""
        return self._start(self.chunks)

    def _start(self, chunk: int) -> int:
        return _HEADER_BYTES + self.tokens.size * 4 + chunk * self.rows * self.words * 2

    def chunk(self, index: int, bos: int | None) -> Chunk:
        """One window as both models read it: BOS over its first token where the model has one."""
        window = [int(token) for token in self.tokens[index]]
        if bos is not None:
            window[0] = bos
        return Chunk(index, tuple(window[: self.first_target]), tuple(window[self.first_target :]))

    def read_rows(self, path: Path, chunk: int) -> Words:
        """The rows of one chunk (rows, words).

        Raises:
            InputError: the file ends before them.
        """
        with path.open("rb") as file:
            file.seek(self._start(chunk))
            data = file.read(self.rows * self.words * 2)
        if len(data) != self.rows * self.words * 2:
            raise _unreadable(path, f"it ends within chunk {chunk + 1} of {self.chunks}")
        return np.frombuffer(data, dtype="<u2").reshape(self.rows, self.words)


def read_kl_base(path: Path) -> KlBase:
    """Head and tokens of a file.

    Raises:
        InputError: it can't be read, is none, or is shorter than it says.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
            if len(head) < _HEADER_BYTES or not head.startswith(MAGIC):
                raise _unreadable(path, "it does not begin with _logits_")
            window, ids, chunks = (int(number) for number in np.frombuffer(head[len(MAGIC) :], dtype="<i4"))
            limits = (4, _LONGEST_WINDOW), (2, _MOST_IDS), (1, _MOST_CHUNKS)
            given = zip((window, ids, chunks), limits, strict=True)
            if any(not low <= number <= high for number, (low, high) in given):
                raise _unreadable(path, f"it tells of {chunks} chunks of {window} tokens and of {ids} ids")
            if size < _HEADER_BYTES + 4 * window * chunks:
                raise _unreadable(path, "it ends within its tokens")
            tokens = np.frombuffer(file.read(4 * window * chunks), dtype="<i4").reshape(chunks, window)
    except OSError as exc:
        raise _unreadable(path, exc.strerror or "it can't be opened") from exc
    found = KlBase(window, ids, tokens)
    if tokens.min() < 0 or tokens.max() >= ids:
        raise _unreadable(path, "it holds tokens beyond its vocabulary")
    if size < found.size_bytes:
        raise _unreadable(path, f"it has {size:,} bytes of {found.size_bytes:,}")
    return found


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        f"{path.name} is no base file of llama.cpp: {why}.",
        "Accepted: what llama-perplexity --kl-divergence-base FILE wrote, whole.", field=_FIELD,
    )  # fmt: skip


def check_room(path: Path, needed_bytes: int) -> None:
    """Refuse a file that the disk has no room for.

    Raises:
        JobError: so it is.
    """
    free = shutil.disk_usage(path.parent).free
    if free < needed_bytes + _SPARE_BYTES:
        raise JobError(
            f"llama.cpp's base file takes {needed_bytes / 1e9:.1f} GB; {free / 1e9:.1f} GB are free.",
            "Name fewer chunks, or free the disk.",
        )


@contextmanager
def write_kl_base(path: Path, windows: Sequence[Sequence[int]], ids: int) -> Iterator[Callable[[Words], None]]:
    """Write a file chunk by chunk with the function that is given; it has its name only once it is whole.

    Args:
        windows: the text's tokens, chunk by chunk, as they stand in it.
        ids: size of the vocabulary.

    Raises:
        ValueError: rows are not those of one chunk, or not of every chunk. OSError: the file can't be written.
    """
    base = KlBase(len(windows[0]), ids, np.array(windows, dtype="<i4"))
    partial, written = path.with_name(path.name + ".partial"), 0
    try:
        with partial.open("wb") as file:
            numbers = np.array([base.window, base.ids, base.chunks], dtype="<i4")
            file.write(MAGIC + numbers.tobytes() + base.tokens.tobytes())

            def add(rows: Words) -> None:
                nonlocal written
                if rows.shape != (base.rows, base.words):
                    raise ValueError(f"rows of shape {rows.shape}, not {(base.rows, base.words)}")
                file.write(rows.astype("<u2", copy=False).tobytes())
                written += 1

            yield add
            file.flush()
            os.fsync(file.fileno())
        if written != base.chunks:
            raise ValueError(f"{written} of {base.chunks} chunks were written")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
