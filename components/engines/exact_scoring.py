"""Exact same-path scoring over two of our own engines: hidden states travel, each model's own head gives the logits.

The base writes its hidden states of the scored tokens to the exchange folder; the candidate computes its own, reads the
base's and writes every statistic over the whole vocabulary (``inside_vllm/diptych_scoring``). Token ids go in as they
are. Knows no trace and no page.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from components.core.errors import EngineDiedError, EngineFailureError, InputError
from components.engines.doors import Door, at_hand, check_same_vocabulary
from components.engines.stream_errors import refusal
from components.engines.transport import EngineClient

GENERATE = "/inference/v1/generate"  # vLLM: token ids in, with --enable-scale-out
TOP_K = 20
_HEAD_NEEDED = "HEAD_NEEDED"  # as in diptych_scoring/jobs.py
_LIMIT_S = 600.0
_COMPANY, _COMPANY_TOKENS = 3, 512  # answers, and how long they would become; they end with the job
_OK = 200


@dataclass(frozen=True)
class PathTokens:
    """What is scored: ``answer_ids`` after ``prompt_ids``, with the pictures that the prompt's ids stand for.

    Attributes:
        images: ``data:`` URLs in the order of the prompt.
        salt: keeps the prefix cache apart from other conversations.
    """

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    images: tuple[str, ...] = ()
    salt: str | None = None


@dataclass(frozen=True)
class ExactResult:
    """Statistics of N tokens, in nats, float64; ``statistics`` by name (N,), ``tops`` by name (N, k)."""

    statistics: dict[str, NDArray[np.float64]]
    tops: dict[str, NDArray[Any]]
    dtype: str  # of the hidden states
    logits_dtype: str  # float64, or float32: on a GPU, or by a quick scorer
    batch_tokens: tuple[int, ...]  # of the steps that computed the candidate's scored rows
    base_batch_tokens: tuple[int, ...]  # and the base's
    device: str = "cpu"  # that computed the statistics


class ExactScorer:
    """Runs jobs through the exchange folder. The engines must have been started with it.

    Args:
        folder: the exchange folder.
        quick: for texts of many thousand tokens: logits in float32, whose sums move a logit by some 1e-6.
    """

    def __init__(self, folder: Path, *, quick: bool = False) -> None:
        self._folder, self._quick = folder, quick

    def remove_leftovers(self) -> None:
        """Delete what an app that died while scoring left behind. Only for the start, before any engine runs."""
        for path in self._folder.glob("*") if self._folder.is_dir() else ():
            path.unlink(missing_ok=True)

    async def score(self, base: EngineClient, candidate: EngineClient, path: PathTokens) -> ExactResult:
        """Both models on the same tokens.

        Raises:
            InputError: there is nothing to score, or the two have different vocabularies.
            RequestRefusedError: an engine refused the tokens. EngineFailureError: scoring failed inside an engine.
            EngineNotReadyError, EngineDiedError: an engine can't be reached.
        """
        await asyncio.to_thread(check_same_vocabulary, base, candidate)
        return await self._compare(at_hand(base), at_hand(candidate), path, self._run)

    async def score_by_turns(self, base: Door, candidate: Door, path: PathTokens) -> ExactResult:
        """The same with engines of which only one may be up: the base's states wait in their file for the candidate.

        Raises:
            As ``score``, and what the doors raise.
        """
        seen: list[EngineClient] = []

        @asynccontextmanager
        async def to_base() -> AsyncGenerator[EngineClient, None]:
            async with base() as client:
                seen.append(client)
                yield client

        @asynccontextmanager
        async def to_candidate() -> AsyncGenerator[EngineClient, None]:
            async with candidate() as client:
                await asyncio.to_thread(check_same_vocabulary, seen[0], client)
                yield client

        return await self._compare(to_base, to_candidate, path, self._run)

    async def floor(self, base: EngineClient, path: PathTokens) -> ExactResult:
        """The base against itself, the second time in one step with other answers, so in another batch shape."""
        return await self._compare(at_hand(base), at_hand(base), path, self._run_in_company)

    async def across_prompts(
        self, client: EngineClient, path: PathTokens, changed: PathTokens, *, in_company: bool = False
    ) -> ExactResult:
        """One model on the same answer after two prompts: its ``base`` is ``path``'s, its ``candidate`` ``changed``'s.

        Args:
            in_company: both in one step with other answers, so in another batch shape.

        Raises:
            As ``score``.
        """
        run = self._run_in_company if in_company else self._run
        return await self._compare(at_hand(client), at_hand(client), path, run, base_run=run, changed=changed)

    async def base_rows(self, client: EngineClient, path: PathTokens) -> tuple[NDArray[np.uint16], int]:
        """A model's log-probabilities of the scored tokens as llama.cpp's base file holds them (N, words), and of how
        many ids.

        Raises:
            As ``score``.
        """
        name = secrets.token_hex(16)
        arrays, facts = await self._single(client, path, name, {"id": name, "write_rows": True})
        return arrays["rows"].view(np.uint16), int(facts["ids"])

    async def score_against(
        self, client: EngineClient, path: PathTokens, rows: NDArray[np.uint16]
    ) -> dict[str, NDArray[np.float64]]:
        """A model against the base whose rows they are: statistics by name (N,), with llama.cpp's formulas.

        Raises:
            As ``score``; EngineFailureError too where the rows are of another vocabulary.
        """
        name, given = secrets.token_hex(16), secrets.token_hex(16)
        tensors = {"rows": rows.view(np.int16), "targets": np.array(path.answer_ids, dtype=np.int64)}
        try:
            await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
            await asyncio.to_thread(save_file, tensors, self._folder / f"{given}.safetensors")
            arrays, facts = await self._single(client, path, name, {"id": name, "against": given})
        except OSError as exc:
            raise _unusable_files(exc) from exc
        finally:
            await asyncio.to_thread(self._remove, given)
        table = arrays["statistics"]
        return {column: table[:, index] for index, column in enumerate(facts["columns"].split(","))}

    async def _single(
        self, client: EngineClient, path: PathTokens, name: str, job: dict[str, Any]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        """The arrays and facts that one engine writes for a job of its own."""
        try:
            await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
            await self._run(client, path, job)
            return await asyncio.to_thread(self._load, name)
        except OSError as exc:
            raise _unusable_files(exc) from exc
        finally:
            await asyncio.to_thread(self._remove, name)

    async def _compare(
        self, base: Door, candidate: Door, path: PathTokens, run: Any, *,
        base_run: Any = None, changed: PathTokens | None = None,
    ) -> ExactResult:  # fmt: skip
        if not path.answer_ids:
            raise InputError("The answer has no tokens to score.", field="trace_id")
        states, result = secrets.token_hex(16), secrets.token_hex(16)
        comparison, second = {"id": result, "compare": states, "top_k": TOP_K, "quick": self._quick}, changed or path
        try:
            await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
            try:
                async with base() as client:
                    await (base_run or self._run)(client, path, {"id": states})
                try:
                    async with candidate() as client:
                        await run(client, second, comparison)
                except EngineFailureError as exc:
                    if _HEAD_NEEDED not in exc.detail:
                        raise
                    # Heads that differ are rare; the base's is written once for each start of its engine.
                    await asyncio.to_thread(self._remove, states)
                    async with base() as client:
                        await self._run(client, path, {"id": states, "write_head": True})
                    async with candidate() as client:
                        await run(client, second, comparison)
                return await asyncio.to_thread(self._read, states, result)
            finally:
                await asyncio.to_thread(self._remove, states, result)
        except OSError as exc:
            raise _unusable_files(exc) from exc

    async def _run(self, client: EngineClient, path: PathTokens, job: dict[str, Any]) -> None:
        await asyncio.to_thread(self._remove, job["id"])
        job = {**job, "first_row": len(path.prompt_ids) - 1, "next_id": path.answer_ids[-1]}
        await prefill(client, path, job)
        error = self._folder / f"{job['id']}.error"
        if await asyncio.to_thread(error.exists):
            reason = await asyncio.to_thread(error.read_text, encoding="utf-8")
            raise _failure_inside(client.served_model, reason)
        if not await asyncio.to_thread((self._folder / f"{job['id']}.safetensors").exists):
            raise EngineFailureError(
                f"{client.served_model} wrote no result: its scoring extension is not at work.",
                "Unless the disk is full, restart the engine on the Models tab: its log says whether scoring is on.",
            )

    async def _run_in_company(self, client: EngineClient, path: PathTokens, job: dict[str, Any]) -> None:
        """While other answers are being written: every step takes a token of each of them along."""
        body = orjson.dumps(
            {
                "model": client.served_model,
                "token_ids": path.prompt_ids[:1],
                "stream": True,
                "sampling_params": {"max_tokens": _COMPANY_TOKENS, "temperature": 1.0, "ignore_eos": True},
            }
        )
        async with AsyncExitStack() as stack:
            for _ in range(_COMPANY):
                answer = await stack.enter_async_context(client.request_stream(GENERATE, body))
                if answer.status != _OK:
                    raise refusal(client.served_model, answer.status, await answer.read_error())
                if await anext(answer.chunks, None) is None:
                    raise EngineDiedError(f"{client.served_model} ended an answer before it began.", "Score again.")
            await self._run(client, path, job)

    def _read(self, states: str, result: str) -> ExactResult:
        try:
            with safe_open(self._folder / f"{states}.safetensors", "numpy") as file:
                base_facts = file.metadata()
            arrays, facts = self._load(result)
            table = arrays.pop("statistics")
            columns = facts["columns"].split(",")
            return ExactResult(
                statistics={name: table[:, index] for index, name in enumerate(columns)},
                tops=arrays,
                dtype=facts["dtype"],
                logits_dtype=facts["logits_dtype"],
                batch_tokens=_counts(facts),
                base_batch_tokens=_counts(base_facts),
                device=facts["device"],
            )
        except (SafetensorError, IndexError, KeyError, TypeError, ValueError) as exc:
            raise _unusable_files(exc) from exc

    def _load(self, name: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        try:
            with safe_open(self._folder / f"{name}.safetensors", "numpy") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118  # not a dict
        except (SafetensorError, ValueError) as exc:
            raise _unusable_files(exc) from exc

    def _remove(self, *names: str) -> None:
        for name in names:
            for suffix in (".safetensors", ".safetensors.partial", ".error"):
                (self._folder / f"{name}{suffix}").unlink(missing_ok=True)


def _unusable_files(exc: Exception) -> EngineFailureError:
    return EngineFailureError(
        "The files through which the engines hand over their results can't be used.",
        "Is the disk full, or the state folder not writable? Mend that, then score again.",
        detail=repr(exc),
    )


def _failure_inside(model: str, reason: str) -> EngineFailureError:
    """``reason`` is "Class: text"; of these classes the text is the extension's own and made to be read."""
    kind, _, text = reason.partition(": ")
    told = f": {text}" if kind in ("ValueError", "NotImplementedError") else ""
    return EngineFailureError(
        f"{model}: exact scoring failed inside the engine{told}.", "Its log says more.", detail=reason
    )


def other_batch(alone: Sequence[int], in_company: Sequence[int]) -> tuple[int, int] | None:
    """Tokens of the first step whose batch shape differs between two runs of the same tokens; None where none does.

    A long prompt is computed in several steps, each as large as the engine's budget whoever else is in it.
    """
    if tuple(alone) == tuple(in_company):
        return None
    pairs = zip(alone, in_company, strict=False)
    return next(((one, other) for one, other in pairs if one != other), (alone[-1], in_company[-1]))


def _counts(facts: dict[str, str]) -> tuple[int, ...]:
    return tuple(int(count) for count in facts["batch_tokens"].split(","))


async def prefill(client: EngineClient, path: PathTokens, job: dict[str, Any] | None) -> None:
    """Let the engine compute all of the path's tokens but the last, for a job or for nothing."""
    sampling = {
        "max_tokens": 1,
        "temperature": 0.0,
        "detokenize": False,
        # A cached prefix would give no hidden states.
        "skip_reading_prefix_cache": True,
        **({"extra_args": {"diptych": job}} if job else {}),
    }
    body = tokens_body(client, path, [*path.prompt_ids, *path.answer_ids[:-1]], sampling)
    try:
        async with asyncio.timeout(_LIMIT_S):
            told = await post_json(client, GENERATE, body)
    except TimeoutError as exc:
        raise EngineFailureError(
            f"{client.served_model} did not score the answer within {_LIMIT_S / 60:.0f} minutes.",
            "It may hang or be very busy: look at the Models tab, then score again.",
        ) from exc
    placeholders = told.get("mm_placeholders") or {}
    check_prompt(client, path, body["token_ids"], told.get("prompt_token_ids") or (), placeholders)


def tokens_body(
    client: EngineClient, path: PathTokens, sent: Sequence[int], sampling: dict[str, Any]
) -> dict[str, Any]:
    """A request for ``GENERATE``: these of the path's ids as they are, with its pictures; the ids come back."""
    body: dict[str, Any] = {
        "model": client.served_model,
        "token_ids": sent,
        "return_token_ids": True,
        "sampling_params": sampling,
    }
    if path.images:
        body["content_parts"] = [{"type": "image_url", "url": url} for url in path.images]
    return body | ({"cache_salt": path.salt} if path.salt else {})


def check_prompt(
    client: EngineClient, path: PathTokens, sent: Sequence[int], told: Sequence[int], placeholders: Mapping[str, Any]
) -> None:
    """vLLM takes a prompt with the placeholders of a picture without the picture too; that would answer blind.

    Args:
        sent: the path's ids that the engine was given; ``told``: those that it says it computed.
        placeholders: where the engine put the pictures.

    Raises:
        EngineFailureError: the engine did not compute these very tokens with these very pictures.
    """
    ranges = placeholders.get("image") or []
    filled = {place for found in ranges for place in range(found["offset"], found["offset"] + found["length"])}
    kinds = client.vocabulary.image_token_ids if client.vocabulary else frozenset()
    empty = [place for place, token_id in enumerate(path.prompt_ids) if token_id in kinds and place not in filled]
    if list(told) != list(sent):
        raise EngineFailureError(f"{client.served_model} computed other tokens than it was given.", "Report this.")
    if empty or len(ranges) != len(path.images):
        raise EngineFailureError(
            f"{client.served_model}: the prompt holds {len(path.images)} pictures, {len(ranges)} found their place.",
            "The turn's prompt does not fit its pictures; ask again.",
        )


async def post_json(client: EngineClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """One request and its whole answer.

    Raises:
        RequestRefusedError, EngineFailureError: the server said no. EngineDiedError: it broke off.
    """
    async with client.request_stream(path, orjson.dumps(body)) as response:
        if response.status != _OK:
            raise refusal(client.served_model, response.status, await response.read_error())
        data = b"".join([chunk async for chunk in response.chunks])
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise EngineDiedError(f"{client.served_model} sent half an answer.", "Retry.", detail=repr(exc)) from exc
    return dict(document)
