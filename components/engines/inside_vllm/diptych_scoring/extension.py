"""vLLM worker extension (``--worker-extension-cls``): hands the hidden states of scored prompts to their jobs.

vLLM mixes the class into its worker. ``model_runner`` is a property of it, so that the hook is in place as soon as the
worker has made its runner, without a call from outside. The functions hooked are private to vLLM: the versions they
were read in are named in ``__init__.py``, with any other nothing is hooked, and the app refuses exact scoring.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import vllm

from . import is_supported
from .jobs import FOLDER_VARIABLE, Desk, Job, keep_heads, read_job

_log = logging.getLogger("vllm.diptych")


class ScoringExtension:
    """Mixed into the worker."""

    @property
    def model_runner(self) -> Any:
        """What the worker computes with."""
        return self.__dict__["model_runner"]

    @model_runner.setter
    def model_runner(self, runner: Any) -> None:
        self.__dict__["model_runner"] = runner
        if runner is None:
            return
        folder = os.environ.get(FOLDER_VARIABLE)
        if not folder or not is_supported(vllm.__version__):
            _log.warning("Exact scoring is off: vLLM %s, exchange folder %s.", vllm.__version__, folder)
        elif hasattr(runner, "_get_prompt_logprobs_dict"):
            keep_heads()
            _hook_v1(runner, Path(folder))
        else:
            _log.warning("Exact scoring is off: the V2 model runner is not hooked yet.")


def _hook_v1(runner: Any, folder: Path) -> None:
    original = runner._get_prompt_logprobs_dict  # noqa: SLF001  # named in the docstring
    jobs: dict[str, Job] = {}
    desks: list[Desk] = []  # one, once the model is loaded

    def hook(hidden_states: Any, num_scheduled_tokens: dict[str, int]) -> Any:
        for gone in jobs.keys() - runner.requests.keys():
            del jobs[gone]
        for request_id, scheduled in num_scheduled_tokens.items():
            request = runner.requests[request_id]
            start, prompt = request.num_computed_tokens, request.prompt_token_ids
            if prompt is None or start >= len(prompt):
                continue  # it is generating already
            job = jobs.get(request_id) or _job_of(request)
            if job is None:
                continue
            jobs[request_id] = job
            if start == 0:
                job.rows.clear()  # begun anew after a preemption
                job.batch_tokens.clear()
            offset = runner.query_start_loc.np[runner.input_batch.req_id_to_index[request_id]].item()
            skipped, end = max(0, job.first_row - start), min(scheduled, len(prompt) - start)
            if end > skipped:
                # clone(): the runner uses the buffer again in the next step.
                job.rows.append(hidden_states[offset + skipped : offset + end].detach().clone())
                job.batch_tokens.append(sum(num_scheduled_tokens.values()))
            if start + scheduled >= len(prompt):
                if not desks:
                    desks.append(Desk(runner.get_model(), folder))
                desks[0].finish(jobs.pop(request_id), list(prompt))
        return original(hidden_states, num_scheduled_tokens)

    runner._get_prompt_logprobs_dict = hook  # noqa: SLF001
    _log.info("Exact scoring is on (V1 runner).")


def _job_of(request: Any) -> Job | None:
    parameters = request.sampling_params
    try:
        return read_job(parameters.extra_args) if parameters is not None else None
    except (KeyError, TypeError, ValueError) as exc:
        _log.warning("A scoring job was not understood: %r", exc)
        return None
