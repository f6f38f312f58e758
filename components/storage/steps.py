"""The token steps of one answer as bytes: gzip of JSON, readable without Diptych. No files, no database."""

from __future__ import annotations

import gzip
import zlib
from typing import Literal

from pydantic import ValidationError

from components.core.answers import Answer, Record, TokenStep
from components.core.errors import BlobDamagedError

STEPS_SUFFIX = ".json.gz"
# Log-probabilities hardly compress: 256 tokens take 4 ms and 110 KB at level 1, 13 ms and 97 KB at level 6 [measured].
_LEVEL = 1


class Steps(Record):
    """What is too large for a row: every token with its alternatives, and the prompt's ids."""

    version: Literal[1] = 1
    tokens: tuple[TokenStep, ...] = ()
    prompt_token_ids: tuple[int, ...] = ()


def pack_steps(answer: Answer) -> bytes | None:
    """The steps as bytes, the same for the same steps; None when there are none. NaN and infinities become null."""
    if not answer.tokens and not answer.prompt_token_ids:
        return None
    steps = Steps(tokens=answer.tokens, prompt_token_ids=answer.prompt_token_ids)
    return gzip.compress(steps.model_dump_json(exclude_defaults=True).encode(), _LEVEL, mtime=0)


def unpack_steps(data: bytes) -> Steps:
    """The inverse of ``pack_steps``.

    Raises:
        BlobDamagedError: these are not steps that this version can read.
    """
    try:
        return Steps.model_validate_json(gzip.decompress(data))
    except (OSError, EOFError, zlib.error, ValidationError) as exc:
        raise BlobDamagedError(
            "The stored tokens of an answer can't be read.",
            "Restore the state directory's blobs folder from a backup, or open it with a newer Diptych.",
            detail=str(exc),
        ) from exc
