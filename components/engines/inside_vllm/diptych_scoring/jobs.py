"""Scoring jobs of one worker: collects a request's hidden states and writes files when its prompt is done.

A job arrives as ``SamplingParams.extra_args["diptych"]``:

    id         32 hex digits; the result is ``<id>.safetensors`` in the exchange folder
    first_row  the prompt row that predicts the first scored token (prompt length - 1)
    compare    id of the base's job, whose states are compared with this model's; absent = only write the states
    write_head write the output projection too, for a candidate whose own differs
    write_rows write log-probabilities as llama.cpp's base file holds them instead of the states
    against    id of a file with such rows of some base and its targets, with which this model is compared
    top_k      alternatives of each side
    quick      many tokens are coming: logits in float32

The prompt is context + answer; row ``i`` predicts token ``i + 1``, and the last row predicts what would follow the
answer: its target is the job's ``next_id`` (the end of the answer), or it is left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from .measure import COLUMNS, QUICK_COLUMNS, Head, logits_dtype, measure
from .rows import COLUMNS as ROW_COLUMNS
from .rows import measure_rows, rows_of

FOLDER_VARIABLE = "DIPTYCH_EXCHANGE"
HEAD_NEEDED = "HEAD_NEEDED"  # the app then asks the base for its output projection
KEPT_HEAD = "diptych_weight"  # attribute of an output projection whose own weight vLLM has emptied
_ID = re.compile(r"[0-9a-f]{32}")
_READABLE = (torch.bfloat16, torch.float16, torch.float32)  # any other weight is codes, which need their scales
_log = logging.getLogger("vllm.diptych")


@dataclass
class Job:
    """One request's job, and the rows that have come so far."""

    id: str
    first_row: int
    next_id: int | None
    compare: str | None
    write_head: bool
    write_rows: bool
    against: str | None
    top_k: int
    quick: bool
    rows: list[torch.Tensor] = field(default_factory=list)
    batch_tokens: list[int] = field(default_factory=list)  # tokens of every step that computed some of them


def read_job(extra_args: dict[str, Any] | None) -> Job | None:
    """The job of a request; None where it has none.

    Raises:
        ValueError: it is not one.
    """
    given = (extra_args or {}).get("diptych")
    if given is None:
        return None
    compare, against = given.get("compare"), given.get("against")
    for name in (given["id"], *(other for other in (compare, against) if other)):
        if not _ID.fullmatch(str(name)):
            raise ValueError("a job's id has 32 hex digits")
    next_id = given.get("next_id")
    return Job(
        id=given["id"],
        first_row=int(given["first_row"]),
        next_id=None if next_id is None else int(next_id),
        compare=compare,
        write_head=bool(given.get("write_head")),
        write_rows=bool(given.get("write_rows")),
        against=against,
        top_k=int(given.get("top_k", 20)),
        quick=bool(given.get("quick")),
    )


class Desk:
    """Finishes jobs of one model."""

    def __init__(self, model: torch.nn.Module, folder: Path) -> None:
        self._model, self._folder = model, folder
        self._head: Head | None = None
        self._head_hash = ""
        self._foreign: tuple[str, Head] | None = None  # the last other model's head, by its hash

    def finish(self, job: Job, prompt_ids: list[int]) -> None:
        """Write the result of a job whose prompt is computed; an error becomes a file of its own."""
        try:
            self._finish(job, prompt_ids)
        except Exception as exc:  # noqa: BLE001  # one job's fault must not end the engine
            if str(exc) != HEAD_NEEDED:  # which the app answers
                _log.warning("Scoring job %s failed.", job.id, exc_info=exc)
            # On a full disk even this can't be written; the app sees then that there is no result.
            with contextlib.suppress(OSError):
                (self._folder / f"{job.id}.error").write_text(f"{type(exc).__name__}: {exc}"[:2000], encoding="utf-8")

    def _finish(self, job: Job, prompt_ids: list[int]) -> None:
        targets = prompt_ids[job.first_row + 1 :] + ([] if job.next_id is None else [job.next_id])
        states = torch.cat(job.rows)[: len(targets)]
        if len(states) != len(targets):
            raise ValueError(f"{len(states)} rows were captured for {len(targets)} tokens")
        head = self.head()
        facts = {
            "head_sha256": self._head_hash,
            "batch_tokens": ",".join(map(str, job.batch_tokens)),
            "dtype": str(states.dtype).split(".")[-1],
            "device": states.device.type,
        }
        threads = 1 if states.is_cuda else len(os.sched_getaffinity(0))
        if job.write_rows:
            tensors = {"rows": rows_of(states, head, threads)}
            facts["ids"] = str(head.weight.shape[0])
        elif job.against is not None:
            rows = self._rows(job.against, targets).to(states.device)
            wanted = torch.tensor(targets, device=states.device)
            tensors = {"statistics": measure_rows(rows, states, head, wanted, threads)}
            facts["columns"] = ",".join(ROW_COLUMNS)
        elif job.compare is None:
            tensors = {"hidden": states.contiguous(), "targets": torch.tensor(targets)}
            if job.write_head:
                self._write_head(head)
        else:
            base_states, base_head = self._base(job.compare, targets, states.device)
            wanted = torch.tensor(targets, device=states.device)
            tensors = measure(base_states, base_head, states, head, wanted, job.top_k, threads, quick=job.quick)
            dtype = logits_dtype(states, quick=job.quick)
            columns = QUICK_COLUMNS if job.quick else COLUMNS
            facts |= {"columns": ",".join(columns), "logits_dtype": str(dtype).split(".")[-1]}
        _write_tensors(self._folder / f"{job.id}.safetensors", tensors, facts)

    def _base(self, job_id: str, targets: list[int], device: torch.device) -> tuple[torch.Tensor, Head]:
        with safe_open(self._folder / f"{job_id}.safetensors", "pt") as file:
            states, scored, facts = file.get_tensor("hidden"), file.get_tensor("targets"), file.metadata()
        if scored.tolist() != targets:
            raise ValueError("the base was asked about other tokens")
        if facts["head_sha256"] == self._head_hash:
            return states.to(device), self.head()
        return states.to(device), self._foreign_head(facts["head_sha256"], device)

    def _rows(self, job_id: str, targets: list[int]) -> torch.Tensor:
        with safe_open(self._folder / f"{job_id}.safetensors", "pt") as file:
            if file.get_tensor("targets").tolist() != targets:
                raise ValueError("the base was asked about other tokens")
            return file.get_tensor("rows")

    def _foreign_head(self, sha256: str, device: torch.device) -> Head:
        if self._foreign is None or self._foreign[0] != sha256:
            path = self._folder / f"head-{sha256}.safetensors"
            if not path.exists():
                raise FileNotFoundError(HEAD_NEEDED)
            self._foreign = None  # two at once may be too large
            with safe_open(path, "pt") as file:
                cap, scale = file.metadata()["soft_cap"], float(file.metadata()["scale"])
                head = Head(file.get_tensor("weight").to(device), scale, float(cap) if cap else None)
            self._foreign = sha256, head
        return self._foreign[1]

    def head(self) -> Head:
        """This model's output projection; found and hashed once."""
        if self._head is None:
            self._head = _find_head(self._model)
            raw = self._head.weight.detach().contiguous().cpu().view(torch.uint8).numpy()
            told = f"{self._head.scale} {self._head.soft_cap} {self._head.weight.dtype}".encode()
            digest = hashlib.sha256(told)
            digest.update(raw.data)  # not copied: a head has up to 1.3 GB
            self._head_hash = digest.hexdigest()
        return self._head

    def _write_head(self, head: Head) -> None:
        path = self._folder / f"head-{self._head_hash}.safetensors"
        if not path.exists():
            facts = {"scale": str(head.scale), "soft_cap": str(head.soft_cap or "")}
            _write_tensors(path, {"weight": head.weight.detach().contiguous()}, facts)


def keep_heads() -> None:
    """Keep output projections readable that vLLM on a CPU packs and drops, as it does for AutoRound's checkpoints.

    Before a model is loaded. There the head is an ordinary linear layer to vLLM, whose weight is emptied once packed.
    """
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    original = UnquantizedLinearMethod.process_weights_after_loading

    def keep(method: UnquantizedLinearMethod, layer: torch.nn.Module) -> None:
        weight = layer.weight.detach() if isinstance(layer, ParallelLMHead) else None
        original(method, layer)
        if weight is not None and not layer.weight.numel():
            setattr(layer, KEPT_HEAD, weight)

    UnquantizedLinearMethod.process_weights_after_loading = keep


def _find_head(model: torch.nn.Module) -> Head:
    for module in model.modules():
        found, processor = getattr(module, "lm_head", None), getattr(module, "logits_processor", None)
        weight = getattr(found, KEPT_HEAD, getattr(found, "weight", None))
        if found is None or weight is None or processor is None:
            continue
        if found.tp_size > 1:
            raise NotImplementedError("exact scoring does not yet work with tensor parallelism")
        if getattr(found, "bias", None) is not None:
            raise NotImplementedError("exact scoring does not know output projections with a bias")
        if weight.dtype not in _READABLE:
            raise NotImplementedError(f"the output projection is quantized ({str(weight.dtype).split('.')[-1]})")
        return Head(weight.detach()[: processor.org_vocab_size], processor.scale, processor.soft_cap)
    raise NotImplementedError("this model's output projection was not found")


def _write_tensors(path: Path, tensors: dict[str, torch.Tensor], facts: dict[str, str]) -> None:
    partial = path.with_name(path.name + ".partial")
    save_file({name: tensor.cpu() for name, tensor in tensors.items()}, partial, metadata=facts)
    partial.replace(path)
