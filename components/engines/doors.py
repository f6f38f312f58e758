"""Ways to an engine for work that needs two of them: both at hand, or one after the other where they take turns."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from components.core.errors import InputError
from components.engines.transport import EngineClient

# Within the block the engine is there; another one's may only be opened when it is left.
Door = Callable[[], AbstractAsyncContextManager[EngineClient]]


def at_hand(client: EngineClient) -> Door:
    """The way to an engine that is there all the time."""
    return lambda: nullcontext(client)


def check_same_vocabulary(base: EngineClient, candidate: EngineClient) -> None:
    """Refuse where one id stands for two texts; the hidden states would be compared all the same.

    Raises:
        InputError: so it is.
    """
    one, other = base.vocabulary, candidate.vocabulary
    if one is None or other is None or one is other:
        return
    token_id = one.first_difference(other)
    if token_id is not None:
        raise InputError(
            f"The two models have different vocabularies: id {token_id} is {one.text(token_id)!r} for "
            f"{base.served_model} and {other.text(token_id)!r} for {candidate.served_model}.",
            "Only models that share a tokenizer can be compared token by token.",
            field="candidate",
        )
