"""The tokens of a stored answer with the prompt and pictures they followed: for scoring it and for going on from it.

Only token ids move. What was asked is rebuilt to find the pictures; the prompt's ids are those that the engine told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from components.compare.request import Ask, chosen_answers, messages_for
from components.core.answers import ImageRecord
from components.core.errors import InputError
from components.core.states import Outcome
from components.core.traces import AnswerSlot, StoredAnswer, Trace
from components.engines.catalog import CatalogEntry
from components.engines.exact_scoring import PathTokens
from components.engines.inside_vllm.diptych_scoring import is_supported
from components.engines.status import EngineStatus


def path_of(
    trace: Trace, parents: Sequence[Trace], stored: StoredAnswer, data_url: Callable[[ImageRecord], str], salt: str
) -> PathTokens:
    """An answer's tokens after its prompt.

    Raises:
        InputError: it has none, or is not over.
    """
    slot, answer = stored.slot, stored.answer
    if answer.outcome in (Outcome.STREAMING, Outcome.FAILED) or not answer.tokens:
        raise InputError("That answer has no tokens to score.", "Wait for its end, or retry it.", field="trace_id")
    messages = messages_of(trace, parents, slot, data_url)
    parts = [part for m in messages if isinstance(m["content"], list) for part in m["content"]]
    images = tuple(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
    ids = tuple(token_id for token_id in answer.token_ids if token_id is not None)
    return PathTokens(answer.prompt_token_ids, ids, images, salt=salt)


def messages_of(
    trace: Trace, parents: Sequence[Trace], slot: AnswerSlot, data_url: Callable[[ImageRecord], str]
) -> tuple[dict[str, Any], ...]:
    """The conversation that an answer was written after."""
    ask = Ask(key=trace.id, prompt=trace.prompt, system=trace.system, images=trace.images, columns=())
    return messages_for(ask, parents, chosen_answers(parents, slot.position, slot.history), data_url)


def why_not_by_ids(
    entry: CatalogEntry, status: EngineStatus, trace: Trace, parents: Sequence[Trace], stored: StoredAnswer
) -> str:
    """Why this engine can't be given the answer's token ids as they are; empty where it can.

    Args:
        parents: the turns before; their pictures are a part of the prompt.
    """
    if entry.model.source.kind == "remote":
        return f"{entry.engine_id} runs elsewhere, without our extension."
    if status.engine_version is not None and not is_supported(status.engine_version):
        return f"{entry.engine_id} is vLLM {status.engine_version}, which the extension does not know."
    has_pictures = any(turn.images for turn in (*parents, trace))
    if entry.pair.vision and has_pictures and entry.pair.serve_of(entry.model).tokenizer_mode != "mistral":
        return "with pictures it needs the mistral tokenizer mode."
    answer = stored.answer
    if not answer.prompt_token_ids or any(step.token_id is None for step in answer.tokens):
        return "its token ids are not known."
    return ""
