"""The likeliest ids along a whole answer, from any vLLM server: the answer as the beginning of its own, by chat.

The text of the answer is given back as an assistant message that goes on, with ``prompt_logprobs``. The server
tokenizes that text anew, so the ids it returns are compared with those that were written: others are refused, never
scored. What comes back is a list of the k likeliest ids of each token and the token's own, not the whole vocabulary.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.core.errors import InputError
from components.engines.exact_scoring import PathTokens, post_json
from components.engines.transport import EngineClient

MOST_ALTERNATIVES = 20  # what vLLM gives unless its --max-logprobs says otherwise
# The V1 runner holds logits and log-softmax of all prompt rows of a step, uncounted by its memory profile: with 131,072
# ids these are 4 GiB (vLLM issue 52054). A server that is not ours must not be run out of memory by a look at a page.
MOST_TOKENS = 4096
_NOT_RETURNED = -9000.0  # vLLM sends -9999 for minus infinity
_ROUNDING = 1e-3
_LIMIT_S = 600.0


class NotOnThePathError(InputError):
    """A server did not give log-probabilities of these very tokens; nothing of it may be scored."""


@dataclass(frozen=True)
class Row:
    """One token's place: the ids that a model lists there, best first, with log-probabilities in nats."""

    logprobs: Mapping[int, float]
    texts: Mapping[int, str]  # of the ids whose text the server tells
    target_rank: int | None  # of the token that was written; 1 = likeliest


async def rows_of(
    client: EngineClient, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any], path: PathTokens, text: str,
    k: int = MOST_ALTERNATIVES,
) -> list[Row]:  # fmt: skip
    """One row for each token of the answer.

    Args:
        messages: the conversation before the answer, as it was asked.
        tools: as they were given then; they are a part of the prompt.
        path: the ids that the prompt and the answer had.
        text: the answer's text.
        k: alternatives to ask for.

    Raises:
        NotOnThePathError: the server read other tokens, or returned no log-probabilities of them.
        RequestRefusedError, EngineFailureError, EngineDiedError, EngineNotReadyError: it could not do it.
    """
    if len(path.prompt_ids) + len(path.answer_ids) > MOST_TOKENS:
        raise NotOnThePathError(
            f"Prompt and answer have {len(path.prompt_ids) + len(path.answer_ids):,} tokens; a server that is asked "
            f"for prompt log-probabilities of more than {MOST_TOKENS:,} may run out of memory.",
            field="method",
        )
    body: dict[str, Any] = {
        "model": client.served_model,
        "messages": [*messages, {"role": "assistant", "content": text}],
        "add_generation_prompt": False,
        "continue_final_message": True,
        "prompt_logprobs": k,
        "return_token_ids": True,
        # The step after the answer: what the model finds likely where the answer ended.
        "max_tokens": 1,
        "temperature": 0.0,
        "logprobs": True,
        "top_logprobs": k,
        "return_tokens_as_token_ids": True,
    }
    if tools:
        body |= {"tools": list(tools), "tool_choice": "auto"}
    if path.salt:
        body["cache_salt"] = path.salt
    try:
        async with asyncio.timeout(_LIMIT_S):
            told = await post_json(client, "/v1/chat/completions", body)
    except TimeoutError as exc:
        raise NotOnThePathError(f"{client.served_model} gave no answer in {_LIMIT_S:.0f} s.", field="method") from exc
    return read_rows(client.served_model, told, path)


def read_rows(model: str, told: Mapping[str, Any], path: PathTokens) -> list[Row]:
    """Rows of a server's answer, each checked against the token it is about.

    Raises:
        NotOnThePathError: it is about other tokens, or it is no such answer.
    """
    read, wanted = told.get("prompt_token_ids"), [*path.prompt_ids, *path.answer_ids]
    if not isinstance(read, list):
        raise NotOnThePathError(f"{model} does not tell which tokens it read.", field="method")
    # The end of an answer is a token without text: its row is that of the step after.
    if read not in (wanted, wanted[:-1]):
        shorter = min(len(read), len(wanted))
        inside = next((i for i in range(shorter) if read[i] != wanted[i]), shorter) - len(path.prompt_ids)
        where = "the prompt" if inside < 0 else f"token {inside + 1} of the answer"
        raise NotOnThePathError(
            f"{model} read the same text as other tokens, from {where} on, so they are not scored.", field="method"
        )
    rows = prompt_rows(model, told, path)
    if len(read) == len(wanted):
        return rows
    try:
        return [*rows, _next_row(model, told, wanted[-1])]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as exc:
        raise _no_list(model, exc) from exc


def prompt_rows(model: str, told: Mapping[str, Any], path: PathTokens) -> list[Row]:
    """Rows of the answer's tokens from ``prompt_logprobs``; ``prompt_token_ids`` must have been checked.

    Raises:
        NotOnThePathError: it is about other tokens, or it is no such list.
    """
    read, listed, first = told["prompt_token_ids"], told.get("prompt_logprobs"), len(path.prompt_ids)
    if not isinstance(listed, list) or len(listed) != len(read):
        raise NotOnThePathError(f"{model} returned no log-probabilities of the prompt's tokens.", field="method")
    try:
        return [
            _prompt_row(model, entry, token_id) for entry, token_id in zip(listed[first:], read[first:], strict=True)
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise _no_list(model, exc) from exc


def check_same_vocabulary(base: Sequence[Row], candidate: Sequence[Row]) -> None:
    """Refuse where one id stands for two texts.

    Raises:
        InputError: the servers have different vocabularies.
    """
    for one, other in zip(base, candidate, strict=True):
        for token_id in one.texts.keys() & other.texts.keys():
            if one.texts[token_id] != other.texts[token_id]:
                raise InputError(
                    f"The two servers have different vocabularies: id {token_id} is {one.texts[token_id]!r} for the "
                    f"base and {other.texts[token_id]!r} for the candidate.",
                    "Only models that share a tokenizer can be compared token by token.",
                    field="method",
                )


def _no_list(model: str, exc: Exception) -> NotOnThePathError:
    return NotOnThePathError(f"{model} sent no list of log-probabilities.", field="method", detail=repr(exc))


def _prompt_row(model: str, entry: object, token_id: int) -> Row:
    values = {int(name): value for name, value in entry.items()} if isinstance(entry, dict) else {}
    if token_id not in values:
        raise NotOnThePathError(f"{model} returned log-probabilities of other tokens than it read.", field="method")
    logprobs = {number: check_logprob(model, value.get("logprob")) for number, value in values.items()}
    told = {number: value.get("decoded_token") for number, value in values.items()}
    texts = {number: text for number, text in told.items() if isinstance(text, str)}
    rank = values[token_id].get("rank")
    return _row(logprobs, texts, rank if isinstance(rank, int) and rank > 0 else None)


def _next_row(model: str, told: Mapping[str, Any], token_id: int) -> Row:
    content = ((told.get("choices") or [{}])[0].get("logprobs") or {}).get("content") or []
    if not content:
        raise NotOnThePathError(f"{model} returned no log-probabilities of the answer's end.", field="method")
    logprobs = {
        int(item["token"].removeprefix("token_id:")): check_logprob(model, item.get("logprob"))
        for item in (content[0], *content[0].get("top_logprobs", ()))
        if str(item.get("token")).startswith("token_id:")
    }
    if not logprobs:
        raise NotOnThePathError(f"{model} names alternatives by text only, which says too little.", field="method")
    row = _row(logprobs, {}, None)
    ids = list(row.logprobs)
    return Row(row.logprobs, {}, ids.index(token_id) + 1 if token_id in ids else None)


def _row(logprobs: Mapping[int, float | None], texts: Mapping[int, str], rank: int | None) -> Row:
    known = {number: value for number, value in logprobs.items() if value is not None}
    return Row(dict(sorted(known.items(), key=lambda pair: -pair[1])), texts, rank)


def check_logprob(model: str, value: object) -> float | None:
    """A log-probability in nats as sent; None where it stands for minus infinity, which is "not returned".

    Raises:
        NotOnThePathError: it is none.
    """
    if not isinstance(value, int | float) or math.isnan(value) or value > _ROUNDING:
        raise NotOnThePathError(f"{model} returned {value!r} as a log-probability.", field="method")
    return None if value < _NOT_RETURNED else min(float(value), 0.0)
