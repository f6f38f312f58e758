"""Exact KL of a text against the bare prefill of the same tokens on the same engine; a part of `make bench`.

    python scripts/bench_kl.py [--pair embedded] [--rounds 12] [--chunks 60]

Serves the pair's base and one candidate, and scores chunks of 512 tokens of a text as the quality suite does (255
targets each). Every round times, in turn: the bare prefill of a chunk on either engine, the base's pass (prefill, and
its hidden states to disk), the candidate's pass (prefill, both models' logits, all statistics), and the top-20 method:
``prompt_logprobs`` of 20 of both servers over HTTP, read. Prints medians, their ratios and the memory.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from components.benchmark.corpora import cut, find_convention  # noqa: E402
from components.benchmark.tokens import load_tokenizer  # noqa: E402
from components.engines.exact_scoring import GENERATE, TOP_K, ExactScorer, PathTokens, post_json, prefill  # noqa: E402
from components.engines.serving import Served, ServingPlace, serve_model  # noqa: E402
from components.engines.transport import EngineClient  # noqa: E402
from components.profiles.loader import load_pair  # noqa: E402
from components.services import count_gpus  # noqa: E402
from scripts.bench_scoring import memory_mb, timed  # noqa: E402

TARGETS = {"base": 0.7, "candidate": 0.6}
MEMORY_TARGET_MB = 200
_WARM_CHUNKS = 8  # after which caches and buffers have their size


class Passes:
    """The passes of one chunk over two served models."""

    def __init__(self, base: Served, candidate: Served, exchange: Path) -> None:
        self._base, self._candidate = base.client, candidate.client
        self.scorer = ExactScorer(exchange, quick=True)

    async def score(self, path: PathTokens) -> None:
        """Both passes and their files, as the suite does."""
        await self.scorer.score(self._base, self._candidate, path)

    async def times(self, path: PathTokens) -> dict[str, float]:
        """Seconds of each way with one chunk."""
        states, result = secrets.token_hex(16), secrets.token_hex(16)
        comparison = {"id": result, "compare": states, "top_k": TOP_K, "quick": True}
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "bare base": lambda: prefill(self._base, path, None),
            "base": lambda: self.scorer._run(self._base, path, {"id": states}),  # noqa: SLF001  # half of score()
            "bare candidate": lambda: prefill(self._candidate, path, None),
            "candidate": lambda: self.scorer._run(self._candidate, path, comparison),  # noqa: SLF001
            "top20 base": lambda: _top20(self._base, path),
            "top20 candidate": lambda: _top20(self._candidate, path),
        }
        try:
            return {name: await timed(way) for name, way in ways.items()}
        finally:
            self.scorer._remove(states, result)  # noqa: SLF001


async def _top20(client: EngineClient, path: PathTokens) -> None:
    """What a script does that only has the server's API."""
    sampling = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": TOP_K, "skip_reading_prefix_cache": True}
    ids = [*path.prompt_ids, *path.answer_ids]
    told = await post_json(
        client, GENERATE, {"model": client.served_model, "token_ids": ids, "sampling_params": sampling}
    )
    if len(told["prompt_logprobs"]) != len(ids):
        raise SystemExit("The server gave no log-probabilities.")


def chunks_of(text: Path, served: Served) -> list[PathTokens]:
    """The text under llama.cpp's convention."""
    tokenizer = load_tokenizer(served.folder)
    tokens = tokenizer.encode(text.read_text(encoding="utf-8"))
    chunks = cut(tokens, find_convention("llama.cpp-512"), tokenizer.bos)
    return [PathTokens(chunk.context, chunk.targets) for chunk in chunks]


async def measure(passes: Passes, paths: list[PathTokens], options: argparse.Namespace) -> bool:
    """Print all figures; whether the targets are met."""
    for number in range(_WARM_CHUNKS):
        await passes.score(paths[number % len(paths)])
    rounds = [await passes.times(paths[number % len(paths)]) for number in range(options.rounds)]
    median = {name: statistics.median(times[name] for times in rounds) for name in rounds[0]}
    tokens = len(paths[0].prompt_ids) + len(paths[0].answer_ids) - 1
    print(f"\nExact KL of a text, {options.pair}: chunks of {tokens + 1} tokens, {len(paths[0].answer_ids)} scored,")
    print(f"{options.rounds} rounds, medians")
    met = []
    for side, target in TARGETS.items():
        bare, taken = median[f"bare {side}"], median[side]
        met.append(bare / taken >= target)
        print(
            f"  {side:9} bare prefill {tokens / bare:8,.0f} tokens/s   exact {tokens / taken:8,.0f} tokens/s   "
            f"exact ÷ bare {bare / taken:.2f} (target ≥ {target})"
        )
    both, top20 = median["base"] + median["candidate"], median["top20 base"] + median["top20 candidate"]
    print(f"  both passes {both * 1000:.0f} ms   top-20 over HTTP {top20 * 1000:.0f} ms   ratio {top20 / both:.2f}")
    before = memory_mb()
    for number in range(options.chunks):
        await passes.score(paths[number % len(paths)])
    grown = memory_mb() - before
    print(f"  {options.chunks} further chunks: memory {grown:+.0f} MB (target ≤ {MEMORY_TARGET_MB})")
    return all(met) and grown <= MEMORY_TARGET_MB


async def main(options: argparse.Namespace) -> int:
    """Serve both, measure, end both."""
    pair = load_pair(ROOT / "profiles", options.pair)
    model = pair.model(options.candidate or pair.candidates[0].id)
    with tempfile.TemporaryDirectory(prefix="dt-kl-", dir=Path.home()) as folder:
        state = options.state_dir or Path(folder)
        place = ServingPlace(
            state, ROOT, "cuda" if count_gpus() else "cpu", logs=Path(folder), exchange=Path(folder) / "exchange"
        )
        async with serve_model(pair, pair.base, place) as base, serve_model(pair, model, place) as candidate:
            paths = chunks_of(options.text, base)
            return 0 if await measure(Passes(base, candidate, place.exchange), paths, options) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", default="embedded")
    parser.add_argument("--candidate", help="id in the pair; default: its first")
    parser.add_argument("--text", type=Path, default=ROOT / "assets" / "benchmark" / "own-text" / "text.txt")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--chunks", type=int, default=60, help="for the memory")
    parser.add_argument("--state-dir", type=Path, help="where prepared models lie; default: a new folder")
    sys.exit(asyncio.run(main(parser.parse_args())))
