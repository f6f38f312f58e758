"""What a job made is served for real: it must load, see, answer a prompt, and is compared with its base.

Base and candidate run as children of the job's driver, in its session and group, so that a cancel ends them with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.core.answers import Record, Sampling
from components.core.errors import AppError, JobError
from components.core.states import Sight
from components.engines.exact_scoring import ExactScorer, PathTokens
from components.engines.serving import ServingPlace, serve_model
from components.engines.sight import SightReport, check_sight
from components.engines.stream import ChatRequest, FinishedEvent, TokensEvent, stream_chat
from components.engines.transport import EngineClient
from components.profiles.schema import ModelProfile, PairProfile
from components.storage.image_formats import png_data_url

Say = Callable[[str], None]

_ANSWER_TOKENS = 48
_FLOOR_ANSWERS = 3
_PICTURE_PROMPTS = (
    ("Describe the picture.", "four-shapes.png"),
    ("Which shape is in this picture?", "one-circle.png"),
    ("Where is the purple star?", "where-is-the-star.png"),
    ("How many red shapes are there?", "how-many-red.png"),
    ("What number is shown?", "number.png"),
    ("Which word is printed here?", "word.png"),
    ("Which bar is the tallest?", "bar-chart.png"),
    ("What colour fills this picture?", "plain-blue.png"),
)
_TEXT_PROMPTS = (
    "What is the capital of France?",
    "Write two sentences about the sea.",
    "Name three fruits that are red.",
    "Explain in one sentence why the sky is blue.",
    "What is 17 plus 25?",
    "Finish the sentence: A good book is",
)


class CheckReport(Record):
    """What was seen of the served result."""

    sight: Sight
    sight_causes: tuple[str, ...] = ()
    prompt: str
    answer: str
    mean_kl_base_to_candidate_nats: float | None
    noise_floor_nats: float | None
    tokens: int
    prompts: int
    kl_missing: str = ""


@dataclass(frozen=True)
class Machine:
    """Where the check runs."""

    state_dir: Path
    repository: Path
    device: Any  # "cpu" or "cuda"
    log_folder: Path


async def check(
    pair: PairProfile, base: ModelProfile, candidate: ModelProfile, machine: Machine, say: Say
) -> CheckReport:
    """Serve both, ask, compare.

    Raises:
        JobError: the candidate does not start, or is blind where the base sees.
    """
    prompts = _prompts(pair, machine.repository)
    place = ServingPlace(
        machine.state_dir, machine.repository, machine.device, machine.log_folder, machine.log_folder / "exchange"
    )
    say("Starting the quantized model")
    async with serve_model(pair, candidate, place) as served:
        quantized = served.client
        say("Checking the sight of the quantized model")
        sight = await check_sight(quantized, candidate.id, vision=pair.vision, report=lambda text, _share: say(text))
        _, answer = await _answer(quantized, prompts[0])
        if sight.sight is Sight.BLIND:
            raise JobError(
                f"The quantized model is blind. {' '.join(sight.causes[:1])}", "The job's log has its answers."
            )
        if not answer.strip():
            raise JobError("The quantized model answered a prompt with nothing.", "Look at the recipe's ignore list.")
        say("Starting the base, to compare with it")
        try:
            async with serve_model(pair, base, place) as original:
                scorer = ExactScorer(place.exchange)
                kl, floor, tokens = await _compare(original.client, quantized, prompts, scorer, say)
        except AppError as exc:
            # The result is sound by itself; a base that does not fit beside it is no fault of it.
            sys.stderr.write(f"no comparison with the base: {exc} {exc.detail}\n")
            return _report(sight, prompts[0], answer, len(prompts), missing=str(exc))
    return _report(sight, prompts[0], answer, len(prompts), kl=kl, floor=floor, tokens=tokens)


def _report(
    sight: SightReport, prompt: Sequence[Any], answer: str, count: int, *,
    kl: float | None = None, floor: float | None = None, tokens: int = 0, missing: str = "",
) -> CheckReport:  # fmt: skip
    return CheckReport(
        sight=sight.sight, sight_causes=sight.causes, prompt=prompt[0], answer=answer,
        mean_kl_base_to_candidate_nats=kl, noise_floor_nats=floor, tokens=tokens, prompts=count, kl_missing=missing,
    )  # fmt: skip


def _prompts(pair: PairProfile, repository: Path) -> list[tuple[str, Path | None]]:
    if not pair.vision:
        return [(text, None) for text in _TEXT_PROMPTS]
    return [(text, repository / "assets" / "samples" / name) for text, name in _PICTURE_PROMPTS]


async def _compare(
    base: EngineClient, candidate: EngineClient, prompts: list[tuple[str, Path | None]], scorer: ExactScorer, say: Say
) -> tuple[float, float, int]:
    """Mean KL over all tokens of the base's answers, the same of the base against itself, and how many tokens."""
    values: list[float] = []
    floors: list[float] = []
    for number, prompt in enumerate(prompts):
        say(f"Comparing with the base: answer {number + 1} of {len(prompts)}")
        path, _ = await _answer(base, prompt)
        found = await scorer.score(base, candidate, path)
        values += found.statistics["kl_base_to_candidate_nats"].tolist()
        if number < _FLOOR_ANSWERS:
            floor = await scorer.floor(base, path)
            floors += floor.statistics["kl_base_to_candidate_nats"].tolist()
    return float(np.mean(values)), float(np.mean(floors)), len(values)


async def _answer(client: EngineClient, prompt: tuple[str, Path | None]) -> tuple[PathTokens, str]:
    """A greedy answer, as tokens on a path and as text."""
    text, picture = prompt
    urls = () if picture is None else (_data_url(picture),)
    parts = [*({"type": "image_url", "image_url": {"url": url}} for url in urls), {"type": "text", "text": text}]
    message = {"role": "user", "content": parts if urls else text}
    request = ChatRequest(messages=(message,), sampling=Sampling(temperature=0.0, max_tokens=_ANSWER_TOKENS))
    ids: list[int] = []
    words: list[str] = []
    prompt_ids: tuple[int, ...] = ()
    async for event in stream_chat(client, request):
        if isinstance(event, TokensEvent):
            ids += [step.token_id for step in event.raw_steps if step.token_id is not None]
            words.append(event.text_delta)
        elif isinstance(event, FinishedEvent):
            prompt_ids = event.prompt_token_ids
    return PathTokens(prompt_ids, tuple(ids), urls), "".join(words)


def _data_url(picture: Path) -> str:
    return png_data_url(picture.read_bytes())
