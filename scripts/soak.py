"""Many users for a while: is an answer lost, does memory grow, what does the app add?

    python scripts/soak.py [--users 32] [--minutes 10] [--pair embedded]

Starts the app with its two first engines. Users in another process ask the pair's examples on open pages, read both
answers, have them scored and poll, as browsers do; some more ask the engines directly, under the same load. In the end
every turn asked is looked for in the database.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from components.compare.request import Ask, ColumnRequest, messages_for  # noqa: E402
from components.core.answers import ImageRecord, Sampling  # noqa: E402
from components.core.errors import AppError  # noqa: E402
from components.core.states import Outcome  # noqa: E402
from components.engines.stream import ChatRequest, request_body  # noqa: E402
from components.services import Services  # noqa: E402
from scripts.bench import LONG_ANSWERS, PORT, serving  # noqa: E402
from tests.noise import NOISE  # noqa: E402

SAMPLE_S = 5.0
WARM_UP = 0.25  # of the time: caches fill, and the newest 512 turns are kept in memory
GROWTH_MB = 40.0  # what counts as flat: growth after the warm-up
WHOLE = (Outcome.FINISHED, Outcome.TRUNCATED)


def events_of(config: dict[str, Any], sampling: Sampling) -> dict[str, Any]:
    """Numbers and inputs of the page's events, as a browser finds them in /config, with these sampling parameters."""
    chosen = {"Max tokens": sampling.max_tokens, "Temperature": sampling.temperature, "Seed": str(sampling.seed or "")}
    components = {c["id"]: c for c in config["components"]}
    by_name = {c["props"].get("elem_id"): c["id"] for c in config["components"]}
    timer = next(c["id"] for c in config["components"] if c["type"] == "timer")

    def event(trigger: int, name: str) -> dict[str, Any]:
        (found,) = (d for d in config["dependencies"] if [trigger, name] in d["targets"])
        given = (components[i] for i in found["inputs"])
        inputs = [
            None if one["type"] == "state" else chosen.get(one["props"].get("label"), one["props"].get("value"))
            for one in given
        ]
        return {"function": found["id"], "inputs": inputs, "trigger": trigger}

    asks = [event(by_name["dt-composer"], f"ask{column}") for column in range(2)]
    return {
        "url": f"http://127.0.0.1:{PORT}/", "functions": [ask["function"] for ask in asks], "inputs": asks[0]["inputs"],
        "trigger": asks[0]["trigger"], "score": event(by_name["dt-divergence"], "score"), "tick": event(timer, "tick"),
    }  # fmt: skip


def questions_of(services: Services, *, long: bool) -> list[tuple[str, ImageRecord | None]]:
    """The pair's examples, their pictures stored; ``long``: noise instead of their questions, for long answers."""
    found = []
    for number, example in enumerate(services.pair.examples):
        picture = ROOT / example.image if example.image else None
        image = services.images.ingest(picture, picture.name) if picture else None
        found.append((f"{number} {NOISE}" if long else example.prompt, image))
    return found


def direct_bodies(
    services: Services, prompt: str, image: ImageRecord | None, sampling: Sampling
) -> list[dict[str, Any]]:
    """The requests that the app would send for that question, one for each engine."""
    bodies = []
    for engine_id in services.first_engines:
        column, images = ColumnRequest(position=0, engine_id=engine_id), (image,) if image else ()
        ask = Ask(key="0" * 16, prompt=prompt, images=images, columns=(column,))
        messages = messages_for(ask, (), (), services.turns.data_url)
        request = ChatRequest(messages=messages, sampling=sampling)
        bodies.append(request_body(request, services.hub.client(engine_id)))
    return bodies


async def ask_for_a_while(job: dict[str, Any]) -> tuple[list[dict[str, Any]], list[tuple[float, float]]]:
    """Run the users; what each turn gave, and (seconds, MB) of this process' memory meanwhile."""
    script = str(ROOT / "scripts" / "soak_client.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    told = asyncio.create_task(process.communicate(json.dumps(job).encode()))
    own, begun, samples = psutil.Process(), time.monotonic(), []
    while not told.done():
        samples.append((time.monotonic() - begun, own.memory_info().rss / 1e6))
        await asyncio.wait({told}, timeout=SAMPLE_S)
    if process.returncode:
        raise SystemExit(f"soak_client.py ended with {process.returncode}; what it said stands above")
    return [json.loads(line) for line in (await told)[0].splitlines()], samples


def lost_turns(services: Services, keys: list[str]) -> list[str]:
    """What is wrong in the database with turns that were asked."""
    wrong = []
    for key in keys:
        try:
            answers = services.traces.get(key).latest_answers
        except AppError as exc:
            wrong.append(f"{key}: {exc}")
            continue
        outcomes = [stored.answer.outcome for stored in answers]
        if len(outcomes) != 2 or any(outcome not in WHOLE for outcome in outcomes):
            wrong.append(f"{key}: {[outcome.value for outcome in outcomes]}")
        elif not services.scores.of_turn(key):
            wrong.append(f"{key}: not scored")
    return wrong


def faults_of(turns: list[dict[str, Any]]) -> list[str]:
    """What users were told, or not told."""
    found = []
    for turn in turns:
        columns = turn["columns"]
        found += [turn["error"]] if turn.get("error") else []
        found += [str(column["error"] or "an answer without a token") for column in columns if not column["tokens"]]
    return found


def percentile(values: list[float], share: float) -> float:
    """The smallest value that this share of all does not exceed; not a number of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


def show_latency(turns: list[dict[str, Any]], services: Services) -> None:
    """Time to first token of the page and of direct requests, and what the app added to each by its own records."""
    waits = {
        mode: [c["ttft_ms"] for t in turns if t.get("mode") == mode for c in t["columns"] if c["ttft_ms"]]
        for mode in ("page", "direct")
    }
    added = []
    for turn in (turn for turn in turns if turn.get("mode") == "page"):
        stored = services.traces.get(turn["key"]).latest_answers
        for column, answer in zip(turn["columns"], stored, strict=True):
            if column["ttft_ms"] and answer.answer.timing.ttft_ms:
                added.append(column["ttft_ms"] - answer.answer.timing.ttft_ms)
    difference = [percentile(waits["page"], share) - percentile(waits["direct"], share) for share in (0.5, 0.95)]
    rows = {
        "TTFT of the page": waits["page"],
        "TTFT of direct requests": waits["direct"],
        "added to each answer": added,
    }
    for name, values in rows.items():
        shown = f"median {percentile(values, 0.5):7.1f} ms   p95 {percentile(values, 0.95):7.1f} ms   of {len(values)}"
        print(f"  {name:24} {shown}")
    print(f"  {'page less direct':24} median {difference[0]:7.1f} ms   p95 {difference[1]:7.1f} ms")


def show_memory(samples: list[tuple[float, float]], turns: int) -> bool:
    """Memory of the app's process; whether it is flat after the warm-up."""
    ends = samples[-1][0]
    later = [(at, mb) for at, mb in samples if at >= WARM_UP * ends]
    slope, _ = statistics.linear_regression([at for at, _ in later], [mb for _, mb in later])
    part = len(later) // 4 or 1
    first, last = (statistics.mean(mb for _, mb in some) for some in (later[:part], later[-part:]))
    print(
        f"  memory of the app: {samples[0][1]:.0f} MB at first, {later[0][1]:.0f} MB after the warm-up, "
        f"{samples[-1][1]:.0f} MB at last; after the warm-up {slope * 60:+.2f} MB a minute "
        f"({slope * ends / turns * 1000:+.1f} kB a turn)"
    )
    return last - first <= GROWTH_MB


async def main(options: argparse.Namespace) -> int:
    """Start everything, let them ask, count."""
    async with serving(options.pair) as (services, config):
        sampling = Sampling(**services.pair.sampling.model_dump())
        if options.long:
            sampling = sampling.model_copy(update={"max_tokens": 256, **LONG_ANSWERS})
        questions = questions_of(services, long=options.long)
        clients = [services.hub.client(engine_id) for engine_id in services.first_engines]
        job = {
            **events_of(config, sampling), "users": options.users, "direct_users": options.direct_users,
            "seconds": options.minutes * 60, "think_s": options.think,
            "questions": [[prompt, image and image.sha256] for prompt, image in questions],
            "bodies": [direct_bodies(services, prompt, image, sampling) for prompt, image in questions],
            "engines": [{"uds": str(client.address), "key": client.api_key} for client in clients],
        }  # fmt: skip
        turns, samples = await ask_for_a_while(job)
        faults = faults_of(turns)
        asked = [turn["key"] for turn in turns if turn.get("mode") == "page"]
        wrong = lost_turns(services, asked)
        tokens = sum(column["tokens"] for turn in turns for column in turn["columns"])
        print(f"{options.users} users and {options.direct_users} direct ones, {options.minutes:g} minutes:")
        print(f"  {len(asked)} turns, {len(turns) - len(asked)} other, {tokens} tokens")
        print(f"  errors: {len(faults)}   turns lost or not whole: {len(wrong)}")
        for fault in [*dict.fromkeys(faults), *wrong][:10]:
            print(f"    {fault}")
        lost = {line.partition(":")[0] for line in wrong}
        show_latency([turn for turn in turns if turn.get("key") not in lost], services)
        flat = show_memory(samples, len(asked))
    return 0 if flat and not faults and not wrong else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", default="embedded")
    parser.add_argument("--users", type=int, default=32, help="pages that are open at once")
    parser.add_argument("--direct-users", type=int, default=4, help="who ask the engines directly meanwhile")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--long", action="store_true", help="answers of some 200 tokens instead of a few words")
    parser.add_argument(
        "--think", type=float, default=2.0, help="seconds between an answer and the next question, about"
    )
    sys.exit(asyncio.run(main(parser.parse_args())))
