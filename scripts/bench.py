"""What the app costs against direct vLLM, in the same run: `make bench`.

Starts the app with its two first engines, then lets a client in another process ask the same prompts in turn through
the page's own events and straight at the engines. Prints ratios; says nothing about other machines.

    python scripts/bench.py [--pair embedded] [--rounds 5] [--max-tokens 256]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from components.compare.request import Ask, ColumnRequest, messages_for  # noqa: E402
from components.core.answers import ImageRecord, Sampling  # noqa: E402
from components.core.resampling import bootstrap  # noqa: E402
from components.core.statistics import Interval  # noqa: E402
from components.engines.stream import ChatRequest, request_body  # noqa: E402
from components.server import collect_less, create_server  # noqa: E402
from components.services import Services, build_services  # noqa: E402
from components.settings import Settings  # noqa: E402
from scripts.bench_scoring import measure_scoring  # noqa: E402
from tests.noise import NOISE  # noqa: E402

PORT = 7899
# As hot as it goes, and of noise, which keeps a model that learnt short answers talking, and with a seed, so that both
# ways get the same answers. Of twenty tokens a fixed cost of some ms looks like a cost per token.
PROMPTS = tuple(f"{number} {NOISE}" for number in range(3))
LONG_ANSWERS: dict[str, Any] = {"temperature": 2.0, "seed": 5}


@dataclass(frozen=True)
class Bench:
    """What every measurement needs."""

    services: Services
    image: ImageRecord | None
    max_tokens: int

    def page_job(self, config: dict[str, Any], prompts: list[str]) -> dict[str, Any]:
        """A job for the client in page mode: event numbers and inputs as the browser finds them in /config."""
        composer = next(c for c in config["components"] if c["props"].get("elem_id") == "dt-composer")
        names = [[composer["id"], f"ask{column}"] for column in range(2)]
        asks = [d for name in names for d in config["dependencies"] if name in d["targets"]]
        values = {c["id"]: c["props"].get("value") for c in config["components"]}
        labels = {c["id"]: c["props"].get("label") for c in config["components"]}
        chosen = {"Max tokens": self.max_tokens, "Temperature": LONG_ANSWERS["temperature"]}
        chosen["Seed"] = str(LONG_ANSWERS["seed"])
        inputs = [chosen.get(labels[i], values[i]) for i in asks[0]["inputs"]]
        image = self.image.sha256 if self.image else None
        return {
            "mode": "page", "url": f"http://127.0.0.1:{PORT}/", "functions": [d["id"] for d in asks],
            "inputs": inputs, "trigger": composer["id"], "prompts": [[p, image] for p in prompts],
        }  # fmt: skip

    def direct_job(self, prompts: list[str]) -> dict[str, Any]:
        """The same as requests to the engines, byte for byte what the app would send."""
        engines, bodies = [], []
        for engine_id in self.services.first_engines:
            client = self.services.hub.client(engine_id)
            engines.append({"uds": client.address, "key": client.api_key})
        for prompt in prompts:
            bodies.append([self._body(engine_id, prompt) for engine_id in self.services.first_engines])
        return {"mode": "direct", "engines": engines, "bodies": bodies}

    def _body(self, engine_id: str, prompt: str) -> dict[str, Any]:
        sampling = self.services.pair.sampling.model_copy(update={"max_tokens": self.max_tokens, **LONG_ANSWERS})
        images = (self.image,) if self.image else ()
        ask = Ask(key="0" * 16, prompt=prompt, images=images, columns=(ColumnRequest(position=0, engine_id=engine_id),))
        messages = messages_for(ask, (), (), self.services.turns.data_url)
        request = ChatRequest(messages=messages, sampling=Sampling(**sampling.model_dump()))
        return request_body(request, self.services.hub.client(engine_id))


async def run_client(job: dict[str, Any]) -> dict[str, Any]:
    """Run one job in a process of its own."""
    script = str(ROOT / "scripts" / "bench_client.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate(json.dumps(job).encode())
    if process.returncode:
        raise SystemExit(f"bench_client.py ended with {process.returncode}; what it said stands above")
    return json.loads(output)


def figures(results: list[dict[str, Any]]) -> dict[str, float]:
    """Medians and totals of several runs of one mode."""
    columns = [c for result in results for c in result["columns"]]
    speeds = [c["tokens"] / c["seconds"] for c in columns if c["seconds"]]
    return {
        "ttft_ms": statistics.median(c["ttft_ms"] for c in columns if c["ttft_ms"]),
        "tokens_per_s": statistics.median(speeds),
        "total_tokens_per_s": sum(c["tokens"] for c in columns) / sum(r["wall_s"] for r in results),
        "tokens": sum(c["tokens"] for c in columns),
        "errors": sum(bool(c["error"]) or not c["tokens"] for c in columns),
        "app_cpu_us": sum(r["app_cpu_s"] for r in results) / max(1, sum(c["tokens"] for c in columns)) * 1e6,
    }


async def compare(bench: Bench, config: dict[str, Any], users: int, rounds: int) -> bool:
    """Alternate both modes, print their figures and ratios; whether the targets are met."""
    prompts = list(PROMPTS)
    jobs = {"direct": bench.direct_job(prompts), "page": bench.page_job(config, prompts)}
    jobs["page"]["sessions"] = [f"user{number}" for number in range(users)]  # pages that stay open over the rounds
    results: dict[str, list[dict[str, Any]]] = {"direct": [], "page": []}
    for number in range(rounds + 1):
        for mode in ("direct", "page") if number % 2 else ("page", "direct"):
            began_s = time.process_time()
            result = await run_client({**jobs[mode], "users": users})
            result["app_cpu_s"] = time.process_time() - began_s
            if number:  # the first round warms both up
                results[mode].append(result)
    direct, page = figures(results["direct"]), figures(results["page"])
    print(f"\n{users} user{'s' if users > 1 else ''}, two columns each, {rounds} rounds of {len(prompts)} prompts")
    for name, row in (("direct", direct), ("page", page)):
        print(
            f"  {name:7} TTFT {row['ttft_ms']:7.1f} ms   {row['tokens_per_s']:7.1f} tok/s a column   "
            f"{row['total_tokens_per_s']:7.1f} tok/s in all   "
            f"{row['tokens']:.0f} tokens   {row['errors']:.0f} errors"
        )
    key = "tokens_per_s" if users == 1 else "total_tokens_per_s"
    ratio, added = against_direct(results["page"], results["direct"], key)
    target = 0.97 if users == 1 else 0.9
    print(
        f"  page ÷ direct: {_shown(ratio, 3)} (target ≥ {target})   "
        f"the app's own CPU: {page['app_cpu_us']:.0f} µs a token"
        + (f"   added TTFT: {_shown(added, 1)} ms (target ≤ 30)" if users == 1 else "")
    )
    return ratio.value >= target and not page["errors"] and (users > 1 or added.value <= 30)


def against_direct(page: list[dict[str, Any]], direct: list[dict[str, Any]], key: str) -> tuple[Interval, Interval]:
    """The page's speed ÷ direct, and the time to first token that it adds in ms: medians over the rounds.

    The two of a round stand next to each other in time, so what the machine does meanwhile is in both.
    """
    rounds = [(figures([p]), figures([d])) for p, d in zip(page, direct, strict=True)]
    table = [np.array([[p[key] / d[key], p["ttft_ms"] - d["ttft_ms"]]]) for p, d in rounds]
    found = bootstrap(table, lambda rows: np.median(rows, axis=0))
    values = np.median(np.concatenate(table), axis=0).tolist()
    ratio, added = (i or Interval(v, math.nan, math.nan) for i, v in zip(found, values, strict=True))
    return ratio, added


def _shown(interval: Interval, places: int) -> str:
    between = f" [{interval.low:.{places}f}, {interval.high:.{places}f}]" if math.isfinite(interval.low) else ""
    return f"{interval.value:.{places}f}{between}"


@asynccontextmanager
async def serving(pair: str) -> AsyncIterator[tuple[Services, dict[str, Any]]]:
    """The app in this process with its two first engines ready, and what its page tells a browser of itself."""
    with tempfile.TemporaryDirectory(prefix="diptych-bench-", dir=Path.home()) as state:
        services = build_services(Settings(pair=pair, port=PORT, state_dir=Path(state)))
        server = uvicorn.Server(uvicorn.Config(create_server(services), port=PORT, log_level="warning", ws="none"))
        task = asyncio.create_task(server.serve())
        try:
            for engine_id in services.first_engines:
                while services.hub.status(engine_id).state == "STOPPED":  # noqa: ASYNC110  the server is starting
                    await asyncio.sleep(0.2)
                await services.hub.wait_ready(engine_id, 1200)
            async with httpx.AsyncClient() as http:
                config = (await http.get(f"http://127.0.0.1:{PORT}/config")).json()
            yield services, config
        finally:
            server.should_exit = True
            await task


async def main(options: argparse.Namespace) -> int:
    """Start everything, measure, stop everything."""
    async with serving(options.pair) as (services, config):
        collect_less()  # as app.py does
        bench = Bench(services, _image(services), options.max_tokens)
        met = [await compare(bench, config, users, options.rounds) for users in options.users]
        if bench.image is not None:
            met.append(await measure_scoring(services, bench.image, NOISE, 3 * options.rounds))
    return 0 if all(met) else 1


def _image(services: Services) -> ImageRecord | None:
    samples = sorted((ROOT / "assets" / "samples").glob("*.png"))
    return services.images.ingest(samples[0], samples[0].name) if samples and services.pair.vision else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", default="embedded")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--users", type=int, nargs="*", default=[1, 16], help="how many at once, one after the other")
    sys.exit(asyncio.run(main(parser.parse_args())))
