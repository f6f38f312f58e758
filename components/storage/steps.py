"""The token steps of one answer as bytes. No files, no database."""

from __future__ import annotations

from typing import Literal

from components.core.answers import Answer, Record, TokenStep
from components.storage.packed import PACKED_SUFFIX, pack, unpack

STEPS_SUFFIX = PACKED_SUFFIX


class Steps(Record):
    """What is too large for a row: every token with its alternatives, and the prompt's ids."""

    version: Literal[1] = 1
    tokens: tuple[TokenStep, ...] = ()
    prompt_token_ids: tuple[int, ...] = ()


def pack_steps(answer: Answer) -> bytes | None:
    """The steps as bytes, the same for the same steps; None when there are none. NaN and infinities become null."""
    if not answer.tokens and not answer.prompt_token_ids:
        return None
    return pack(Steps(tokens=answer.tokens, prompt_token_ids=answer.prompt_token_ids))


def unpack_steps(data: bytes) -> Steps:
    """The inverse of ``pack_steps``.

    Raises:
        BlobDamagedError: these are not steps that this version can read.
    """
    return unpack(Steps, data)
