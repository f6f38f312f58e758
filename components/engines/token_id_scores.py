"""The method *stock*: the base's likeliest ids at every token, scored in the candidate by a vLLM without our extension.

Token ids go in as they are. The base lists its k likeliest ids along the path (``prompt_logprobs``); the candidate
gives its log-probabilities of these very ids (``prompt_logprob_token_ids``, vLLM 0.32), so the bound rests on all that
the base lists, where the method top-k knows only what both list. Both need ``--enable-scale-out``, the candidate vLLM's
V2 model runner, which has no CPU backend: **not yet tried on a GPU**. What a CPU can show is tested: the request is
what vLLM's own schema takes, its V1 runner refuses it, and the reader reads what vLLM's own encoder writes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from components.core.errors import RequestRefusedError
from components.engines.exact_scoring import GENERATE, PathTokens, check_prompt, post_json, tokens_body
from components.engines.prompt_logprobs import NotOnThePathError, Row, check_logprob, prompt_rows
from components.engines.transport import EngineClient

MOST_IDS = 256  # columns to ask for: of W4-like noise this sees some 93 % of the divergence, 20 see 79 % [simulated]
_FEWEST_IDS = 2
_LIMIT_S = 600.0
_ALLOWED = re.compile(r"max allowed: (\d+)")
_Result = TypeVar("_Result")


async def stock_rows(base: EngineClient, candidate: EngineClient, path: PathTokens) -> tuple[list[Row], list[Row]]:
    """One row for each token of the answer and each side, of the same ids: the base's likeliest and the written one.

    Raises:
        NotOnThePathError: a server computed something else, or sent no such scores.
        RequestRefusedError: a server can't: no scale-out endpoints, or no V2 model runner.
        EngineFailureError, EngineDiedError, EngineNotReadyError: it failed.
    """

    async def list_ids(columns: int) -> list[Row]:
        return await _base_rows(base, path, columns - 1)  # the written token takes a column

    listed = await _within_limit(list_ids, MOST_IDS)

    async def score_ids(columns: int) -> tuple[list[Row], list[Row]]:
        return await _candidate_rows(candidate, path, listed, columns)

    return await _within_limit(score_ids, max(len(row.logprobs) for row in listed))


async def _within_limit(ask: Callable[[int], Coroutine[Any, Any, _Result]], columns: int) -> _Result:
    """Ask for that many ids a token, else for as many as the server's own limit allows."""
    try:
        return await ask(columns)
    except RequestRefusedError as exc:
        allowed = _ALLOWED.search(exc.detail)
        if allowed is None or not _FEWEST_IDS <= int(allowed[1]) < columns:
            raise
        return await ask(int(allowed[1]))


async def _base_rows(client: EngineClient, path: PathTokens, k: int) -> list[Row]:
    told = await _generate(client, path, {"prompt_logprobs": k})
    return prompt_rows(client.served_model, told, path)


async def _candidate_rows(
    client: EngineClient, path: PathTokens, listed: Sequence[Row], columns: int
) -> tuple[list[Row], list[Row]]:
    ids = ids_of(listed, path.answer_ids, columns)
    wanted = {"prompt_logprob_start": len(path.prompt_ids) - 1, "prompt_logprob_token_ids": ids}
    told = await _generate(client, path, wanted)
    return rows_of_scores(client.served_model, told, listed, ids)


def ids_of(listed: Sequence[Row], targets: Sequence[int], columns: int) -> list[list[int]]:
    """For each token the ids to score: the written one, then the base's likeliest, none twice, at most that many."""
    return [
        [target, *[token_id for token_id in row.logprobs if token_id != target][: columns - 1]]
        for row, target in zip(listed, targets, strict=True)
    ]


def rows_of_scores(
    model: str, told: Mapping[str, Any], listed: Sequence[Row], ids: Sequence[Sequence[int]]
) -> tuple[list[Row], list[Row]]:
    """Both sides' rows over the ids that were scored; one that the candidate gives no number for is on neither.

    Raises:
        NotOnThePathError: not one float32 for each id that was asked for.
    """
    scores = read_scores(model, told, (len(ids), max(map(len, ids))))
    base_rows, rows = [], []
    for row, row_ids, values in zip(listed, ids, scores, strict=True):
        known = {token_id: check_logprob(model, float(value)) for token_id, value in zip(row_ids, values, strict=False)}
        candidate = {token_id: value for token_id, value in known.items() if value is not None}
        both = {token_id: value for token_id, value in row.logprobs.items() if token_id in candidate}
        base_rows.append(Row(both, row.texts, row.target_rank))
        rows.append(Row(dict(sorted(candidate.items(), key=lambda pair: -pair[1])), {}, None))
    return base_rows, rows


def read_scores(model: str, told: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.float32]:
    """``prompt_token_id_logprobs``: base64 of a ``.npy`` of float32 (rows, ids).

    Raises:
        NotOnThePathError: it is not there, or not that.
    """
    sent = told.get("prompt_token_id_logprobs")
    if sent is None:
        raise NotOnThePathError(f"{model} returned no scores of the ids it was asked about.", field="method")
    try:
        scores = np.load(io.BytesIO(base64.b64decode(sent, validate=True)), allow_pickle=False)
    except (TypeError, ValueError, EOFError, OSError, binascii.Error) as exc:
        raise NotOnThePathError(f"{model} sent scores that can't be read.", field="method", detail=repr(exc)) from exc
    if not isinstance(scores, np.ndarray) or scores.dtype != np.float32 or scores.shape != shape:
        found = f"{getattr(scores, 'dtype', '?')} {getattr(scores, 'shape', '?')}"
        raise NotOnThePathError(f"{model} sent scores of {found}, not float32 {shape}.", field="method")
    return scores


async def _generate(client: EngineClient, path: PathTokens, wanted: dict[str, Any]) -> dict[str, Any]:
    """One prefill of prompt and answer, checked to be of these very tokens and pictures."""
    sent = [*path.prompt_ids, *path.answer_ids]
    body = tokens_body(client, path, sent, {"max_tokens": 1, "temperature": 0.0, "detokenize": False, **wanted})
    try:
        async with asyncio.timeout(_LIMIT_S):
            told = await post_json(client, GENERATE, body)
    except TimeoutError as exc:
        raise NotOnThePathError(f"{client.served_model} gave no answer in {_LIMIT_S:.0f} s.", field="method") from exc
    check_prompt(client, path, sent, told.get("prompt_token_ids") or (), told.get("mm_placeholders") or {})
    return told
