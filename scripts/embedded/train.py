"""Train the embedded vision model from nothing: `python train.py`, resumable at any point, seeded, CPU only.

Phase 1 ("eyes") teaches the vision tower and projector with a linear classifier; phase 2 ("joint") trains everything
on conversations about pictures; phase 3 ("refine") goes on with them, faster and with lessons for two attention heads;
phase 4 ("settle") goes on at a small rate and keeps the running mean of the weights, which is what is exported.
Checkpoints are written every few minutes to a git-ignored folder; the same command
goes on from the newest one. Every batch is drawn from its phase and step number alone, so a resumed run sees the
same pictures as an uninterrupted one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from attention import CountHead
from conversations import ConversationBatches
from export import load_committed
from eyes import GRIDS, MARKS, OUTPUTS, EyesBatches, eyes_loss
from held_out import shares, teacher_forced
from losses import ConversationLoss, GazingLoss
from model import EyesHead, build_model
from muon import Muon
from tokenizer import write_tokenizer
from tokens import TokensHead
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

ROOT = Path(__file__).resolve().parents[2]
SEED = 20260
CHECKPOINT_SECONDS = 180.0
LOG_EVERY = 50
EVALUATE_EVERY = 250
MEAN_DECAY = 0.997
# glibc gives every large tensor fresh pages and takes them back at once; on a virtual machine the page faults cost
# three quarters of a step (9.4 s against 2.4 s, measured). Kept on the heap, the pages are used again.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}


@dataclass(frozen=True)
class Plan:
    """Length and learning rates of a phase: warm-up, constant rate, then a linear fall over `fall` steps to `zero_at`.

    From step `drop_at` on, everything is multiplied by `drop`. A phase may end before `zero_at`, when the next one
    goes on with what it has learnt.
    """

    steps: int
    matrix_rate: float
    rate: float
    vision_share: float
    warm_up: int
    fall: int
    zero_at: int
    drop_at: int = 0
    drop: float = 1.0

    def factor(self, step: int) -> float:
        """The share of the full rate used at a step."""
        height = 1.0 if step < self.drop_at else self.drop
        return min(1.0, (step + 1) / self.warm_up, max(0.02, height * (self.zero_at - step) / self.fall), height)


PLANS = {
    # What was run: 1,248 steps with zero_at=1500, then 202 more with zero_at=1950 (docs/embedded.md).
    "eyes": Plan(steps=1450, matrix_rate=0.015, rate=1e-3, vision_share=1.0, warm_up=50, fall=1500, zero_at=1950),
    "joint": Plan(steps=2000, matrix_rate=0.0, rate=1.2e-3, vision_share=0.2, warm_up=100, fall=1700, zero_at=2000),
    # What was run fell towards 11,000 (fall=10500) until step 8,877, then like this; see docs/embedded.md.
    "refine": Plan(steps=13000, matrix_rate=0.0, rate=1e-3, vision_share=0.3, warm_up=200, fall=18700, zero_at=13000),
    "settle": Plan(steps=2100, matrix_rate=0.0, rate=1.5e-4, vision_share=0.3, warm_up=50, fall=1200, zero_at=2400),
}


def log(path: Path, **values: Any) -> None:
    """Append one JSON line to the training log and print it."""
    line = json.dumps({"time": time.strftime("%H:%M:%S"), **values})
    print(line, flush=True)
    with path.open("a") as file:
        file.write(line + "\n")


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a crash leaves the old one or the new one, never a torn file."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def optimizers_of(groups: list[tuple[float, float, torch.nn.Module]]) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices and AdamW for the rest of modules given with both rates.

    Each group keeps its full rate under `peak`.
    """
    matrices, others = [], []
    for matrix_rate, other_rate, module in groups:
        hidden, rest = [], []
        for name, parameter in module.named_parameters():
            is_matrix = parameter.ndim == 2 and "embed_tokens" not in name and "heads" not in name
            (hidden if is_matrix else rest).append(parameter)
        if hidden:
            matrices.append({"params": hidden, "lr": matrix_rate, "peak": matrix_rate})
        others.append({"params": rest, "lr": other_rate, "peak": other_rate})
    adam = torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return [Muon(matrices), adam]


def yield_cores(_worker: int) -> None:
    """Draw only where the training leaves time: a preempted thread holds up all others (0.42 s a step, not 0.48)."""
    os.nice(19)


def batches(dataset: Dataset, start: int, stop: int) -> Iterator[Any]:
    """The batches of steps start..stop, drawn ahead by one worker process."""
    steps = range(start, stop)
    return iter(
        DataLoader(
            dataset, batch_size=None, sampler=steps, num_workers=1, prefetch_factor=6, worker_init_fn=yield_cores
        )
    )


@dataclass
class Phase:
    """One phase of the training: what is trained, on what, and where its checkpoint lies."""

    name: str
    plan: Plan
    modules: dict[str, torch.nn.Module]
    optimizers: list[torch.optim.Optimizer]
    dataset: Dataset
    loss_of: Callable[[Any, int], tuple[torch.Tensor, dict[str, float]]]
    evaluate: Callable[[], dict[str, float]]
    work: Path
    mean: AveragedModel | None = None
    step: int = 0

    def __post_init__(self) -> None:
        self.checkpoint = self.work / f"{self.name}.pt"

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The optimizers' groups as they are now: loading a checkpoint puts new ones in their place."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def resume(self) -> None:
        """Go on from the checkpoint, where there is one."""
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        self.step = state["step"]
        for key, module in self.modules.items():
            module.load_state_dict(state[key])
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        if self.mean is not None:
            self.mean.module.load_state_dict(state["mean"])
            self.mean.n_averaged.fill_(self.step)

    def store(self) -> None:
        """Write the checkpoint."""
        weights = {key: module.state_dict() for key, module in self.modules.items()}
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        if self.mean is not None:
            weights["mean"] = self.mean.module.state_dict()
        save(self.checkpoint, {"step": self.step, "optimizers": optimizers, **weights})

    def learn(self, batch: Any) -> dict[str, float]:
        """One step."""
        for group in self.groups:
            group["lr"] = group["peak"] * self.plan.factor(self.step)
        loss, facts = self.loss_of(batch, self.step)
        loss.backward()
        parameters = [parameter for group in self.groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.mean is not None:
            self.mean.update_parameters(self.modules["model"])
        self.step += 1
        return {"loss": loss.item(), **facts}

    def run(self) -> None:
        """Train to the last step, with a line of log every 50 steps and a checkpoint every few minutes."""
        self.resume()
        journal = self.work / "log.jsonl"
        log(journal, phase=self.name, event="start", step=self.step, steps=self.plan.steps)
        saved = begun = time.monotonic()
        sums: dict[str, list[float]] = {}
        for batch in batches(self.dataset, self.step, self.plan.steps):
            for key, value in self.learn(batch).items():
                sums.setdefault(key, []).append(value)
            if self.step % LOG_EVERY == 0:
                means = {key: round(sum(values) / len(values), 4) for key, values in sums.items()}
                seconds = round((time.monotonic() - begun) / LOG_EVERY, 3)
                log(journal, phase=self.name, step=self.step, seconds=seconds, **means)
                begun, sums = time.monotonic(), {}
            if self.step % EVALUATE_EVERY == 0:
                log(journal, phase=self.name, step=self.step, held_out=self.evaluate())
                begun = time.monotonic()
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self.store()
                saved = time.monotonic()
        self.store()
        log(journal, phase=self.name, event="end", step=self.step)


def load_phase(path: Path, modules: dict[str, torch.nn.Module]) -> None:
    """Give modules what an earlier phase's checkpoint has under their names."""
    state = torch.load(path, weights_only=True)
    for key, module in modules.items():
        module.load_state_dict(state[key])


def train_eyes(work: Path, plan: Plan) -> None:
    """Phase 1: vision tower and projector under a linear classifier."""
    model, head = build_model(SEED), EyesHead(OUTPUTS, len(MARKS), GRIDS)
    rates = (plan.matrix_rate, plan.rate)
    optimizers = optimizers_of(
        [(*rates, model.model.vision_tower), (*rates, model.model.multi_modal_projector), (*rates, head)]
    )

    def loss_of(batch: Any, _step: int) -> tuple[torch.Tensor, dict[str, float]]:
        loss, scores = eyes_loss(model, head, batch)
        return loss, {kind: sum(good) / len(good) for kind, good in scores.items()}

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        held_out = EyesBatches("held-out", 8)
        totals: dict[str, list[bool]] = {}
        for number in range(len(held_out)):
            for kind, good in eyes_loss(model, head, held_out[number])[1].items():
                totals.setdefault(kind, []).extend(good)
        return {kind: round(sum(good) / len(good), 4) for kind, good in sorted(totals.items())}

    Phase(
        "eyes",
        plan,
        {"model": model, "head": head},
        optimizers,
        EyesBatches("train", plan.steps),
        loss_of,
        evaluate,
        work,
    ).run()


def train_joint(work: Path, plan: Plan, tekken: Path) -> None:
    """Phase 2: everything, on conversations; begins with the eyes of phase 1."""
    model, head = build_model(SEED), EyesHead(OUTPUTS, len(MARKS), GRIDS)
    load_phase(work / "eyes.pt", {"model": model, "head": head})
    _train_on_conversations("joint", work, plan, tekken, (model, head, TokensHead()))


def train_refine(work: Path, plan: Plan, tekken: Path) -> None:
    """Phase 3: goes on from phase 2, or, where its checkpoint is gone, from the committed weights."""
    model, head, tokens_head = build_model(SEED), EyesHead(OUTPUTS, len(MARKS), GRIDS), TokensHead()
    if (work / "joint.pt").exists():
        load_phase(work / "joint.pt", {"model": model, "head": head, "tokens": tokens_head})
    else:
        load_committed(model)
    _train_on_conversations("refine", work, plan, tekken, (model, head, tokens_head), CountHead())


def train_settle(work: Path, plan: Plan, tekken: Path) -> None:
    """Phase 4: at a small rate, keeping the running mean of the weights: it is right far more often than they are."""
    model, head, tokens_head = build_model(SEED), EyesHead(OUTPUTS, len(MARKS), GRIDS), TokensHead()
    counts = CountHead()
    load_phase(work / "refine.pt", {"model": model, "head": head, "tokens": tokens_head, "counts": counts})
    _train_on_conversations("settle", work, plan, tekken, (model, head, tokens_head), counts, keep_mean=True)


def _train_on_conversations(
    name: str,
    work: Path,
    plan: Plan,
    tekken: Path,
    parts: tuple[torch.nn.Module, EyesHead, TokensHead],
    counts: CountHead | None = None,
    keep_mean: bool = False,
) -> None:
    model, head, tokens_head = parts
    inner = model.model
    # AdamW throughout: with Muon's steps of constant size the eyes lost in this phase what they had learnt.
    modules = [
        (plan.vision_share, inner.vision_tower),
        (1.0, inner.multi_modal_projector),
        (1.0, inner.language_model),
        (plan.vision_share, head.marks),
        (1.0, tokens_head),
    ]
    if counts is not None:
        modules.append((1.0, counts))
    rates = [(share * plan.rate, module) for share, module in modules]
    groups = [{"params": list(module.parameters()), "lr": rate, "peak": rate} for rate, module in rates]
    optimizers = [torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0, fused=True)]
    modules_by_key = {"model": model, "head": head, "tokens": tokens_head}
    loss_of = ConversationLoss(*parts)
    if counts is not None:
        # Explicit products beat the fused attention on a CPU at these lengths (0.31 s a step against 0.44 s, measured).
        model.set_attn_implementation("eager")
        loss_of = GazingLoss(*parts, counts)
        modules_by_key["counts"] = counts
    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(MEAN_DECAY)) if keep_mean else None

    def evaluate() -> dict[str, float]:
        return shares(teacher_forced(mean.module if mean else model, tekken, 384, first=100_000))

    dataset = ConversationBatches("train" if name == "joint" else name, plan.steps, tekken)
    Phase(name, plan, modules_by_key, optimizers, dataset, loss_of, evaluate, work, mean).run()


def main() -> None:
    """Run the phases in order; a finished phase is skipped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=ROOT / ".training", help="folder of checkpoints and log")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--phase", choices=sorted(PLANS), help="this phase only")
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in MALLOC.items()):
        os.execve(  # noqa: S606 - the same interpreter again
            sys.executable, [sys.executable, *sys.argv], {**os.environ, **MALLOC}
        )
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    if options.phase in (None, "eyes"):
        train_eyes(options.work, PLANS["eyes"])
    tekken = options.work / "tekken.json"
    write_tokenizer(tekken)
    if options.phase in (None, "joint"):
        train_joint(options.work, PLANS["joint"], tekken)
    if options.phase in (None, "refine"):
        train_refine(options.work, PLANS["refine"], tekken)
    if options.phase in (None, "settle"):
        train_settle(options.work, PLANS["settle"], tekken)


if __name__ == "__main__":
    main()
