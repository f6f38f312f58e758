"""What exact scoring costs against the bare prefill of the same tokens on the same engines; a part of `make bench`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable

import psutil

from components.core.answers import ImageRecord
from components.engines.exact_scoring import ExactScorer, PathTokens, post_json, prefill
from components.engines.specs import exchange_folder
from components.engines.transport import EngineClient
from components.services import Services

ANSWER_TOKENS = 256
TARGET = 2.0
MEMORY_TARGET_MB = 200


async def measure_scoring(services: Services, image: ImageRecord, prompt: str, rounds: int) -> bool:
    """Print both times, their ratio and the memory; whether the targets are met."""
    base, candidate = (services.hub.client(engine_id) for engine_id in services.first_engines)
    path = await make_path(services, base, image, prompt)
    scorer = ExactScorer(exchange_folder(services.settings.state_dir))

    async def bare() -> None:
        for client in (base, candidate):
            await prefill(client, path, None)

    async def score() -> None:
        await scorer.score(base, candidate, path)

    times: dict[str, list[float]] = {"bare": [], "score": []}
    for _ in range(2):
        await bare()
    before = memory_mb()
    for number in range(rounds + 1):
        for name, run in (("bare", bare), ("score", score)) if number % 2 else (("score", score), ("bare", bare)):
            taken = await timed(run)
            if number:
                times[name].append(taken)
    grown = memory_mb() - before
    prefill_ms, score_ms = (statistics.median(times[name]) * 1000 for name in ("bare", "score"))
    print(
        f"\nExact scoring of {ANSWER_TOKENS} answer tokens after {len(path.prompt_ids)} with one image, {rounds} rounds"
    )
    print(f"  bare prefill on both engines {prefill_ms:7.1f} ms   scored {score_ms:7.1f} ms")
    print(
        f"  scored ÷ bare: {score_ms / prefill_ms:.2f} (target ≤ {TARGET:g})   "
        f"memory of app and engines {grown:+.0f} MB (target ≤ {MEMORY_TARGET_MB})"
    )
    return score_ms <= TARGET * prefill_ms and grown <= MEMORY_TARGET_MB


async def make_path(services: Services, client: EngineClient, image: ImageRecord, prompt: str) -> PathTokens:
    """A prompt with a picture as the engine renders it, and an answer of the wanted length."""
    url = services.turns.data_url(image)
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]
    body = {"model": client.served_model, "messages": [{"role": "user", "content": content}]}
    rendered = await post_json(client, "/v1/chat/completions/render", body)
    prompt_ids = tuple(rendered["token_ids"])
    sampling = {"max_tokens": ANSWER_TOKENS, "ignore_eos": True, "temperature": 1.0, "seed": 1, "detokenize": False}
    parts = [{"type": "image_url", "url": url}]
    ask = {"model": client.served_model, "token_ids": prompt_ids, "content_parts": parts, "sampling_params": sampling}
    told = await post_json(client, "/inference/v1/generate", ask)
    return PathTokens(prompt_ids, tuple(told["choices"][0]["token_ids"]), (url,))


async def timed(run: Callable[[], Awaitable[None]]) -> float:
    """Seconds."""
    started = time.perf_counter()
    await run()
    return time.perf_counter() - started


def memory_mb() -> float:
    """Resident memory of this process and all that it started."""
    own = psutil.Process()
    return float(sum(p.memory_info().rss for p in (own, *own.children(recursive=True)))) / 1e6
