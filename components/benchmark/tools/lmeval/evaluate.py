"""Tasks of lm-eval asked of one engine over its Unix socket; runs in lm-eval's interpreter.

Reads a spec (``python evaluate.py spec.json``), tells its progress as lines of JSON, and writes what came out to the
file that the spec names:

    socket, model  the engine; its key is in the environment as OPENAI_API_KEY
    tasks          names of lm-eval's tasks, groups or tags, or of those in ``folder``
    folder         tasks of ours: YAML with JSON lines beside it; paths in them are relative to it
    limit          items of each task; null = all
    shots          examples before a question; null = as the task says, 5 for MMLU
    max_length     tokens that the engine takes
    concurrency    requests at a time
    output         the file: {"version", "sets": [{"name", "filter", "metric", "value", "stderr", "shots", "items"}]}

Tasks whose choices are weighed go to ``/v1/completions`` (``local-completions``), those whose answers are written to
``/v1/chat/completions`` (``local-chat-completions``).
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import lm_eval
from lm_eval.models import api_models
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI
from lm_eval.tasks import TaskManager

from components.jobs.tool_reporting import Reporter, ScriptError, run_script

_PAUSE_S = 0.5
_TIMEOUT_S = 600
_LONGEST_ANSWER = 1024  # tokens, where a task does not say
_KEPT_CHARACTERS = 4000
_MMLU_SHOTS = 5
_METRICS = ("acc", "exact_match", "acc_norm")  # of a single item, from 0 to 1; the first that a task has is taken
_CHOICES, _WRITTEN = frozenset({"loglikelihood", "multiple_choice"}), frozenset({"generate_until"})


class EngineTokenizer:
    """The engine's own tokenizer: ids as it makes them of a text prompt, beginning-of-text included."""

    bos_token_id = eos_token_id = None
    eos_token = None

    def __init__(self, path: str, model: str) -> None:
        self._path, self._model = path, model
        self.encode = functools.lru_cache(maxsize=4096)(self._encode)  # the choices of a question share their context

    def _encode(self, text: str) -> list[int]:
        connection = http.client.HTTPConnection("engine", timeout=_TIMEOUT_S)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.sock.settimeout(_TIMEOUT_S)
            connection.sock.connect(self._path)
            headers = {
                "Content-Type": "application/json", "Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}",
            }  # fmt: skip
            connection.request("POST", "/tokenize", json.dumps({"model": self._model, "prompt": text}), headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise ScriptError(f"The engine could not tokenize: {data[:200]!r}.")
        return list(json.loads(data)["tokens"])


class Progress:
    """Counts answered requests."""

    def __init__(self, reporter: Reporter, name: str) -> None:
        self._reporter, self._name, self._done, self._told_s = reporter, name, 0, 0.0

    def begin(self, requests: int) -> None:
        """So many will be sent."""
        self._done = 0
        self._reporter.begin("Accuracy", requests, f"lm-eval: {self._name}")

    def one(self) -> None:
        """One more has its answer."""
        self._done += 1
        if time.monotonic() - self._told_s > _PAUSE_S:
            self._told_s = time.monotonic()
            self._reporter.done(self._done, f"lm-eval: {self._name}")


def _counted(kind: type[LocalCompletionsAPI]) -> type[LocalCompletionsAPI]:
    """lm-eval's client, which tells ``progress`` of every answer."""

    class Counted(kind):  # type: ignore[misc]
        progress: Progress

        async def get_batched_requests(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            self.progress.begin(len(requests))
            return await super().get_batched_requests(requests, *args, **kwargs)

        async def amodel_call(self, *args: Any, **kwargs: Any) -> Any:
            answer = await super().amodel_call(*args, **kwargs)
            self.progress.one()
            return answer

    return Counted


def _client(spec: dict[str, Any], progress: Progress, *, written: bool) -> LocalCompletionsAPI:
    kind, path = (LocalChatCompletion, "chat/completions") if written else (LocalCompletionsAPI, "completions")
    found = _counted(kind)(
        base_url=f"http://engine/v1/{path}", model=spec["model"], tokenizer_backend=None,
        num_concurrent=max(2, int(spec["concurrency"])), timeout=_TIMEOUT_S, max_length=int(spec["max_length"]),
        max_gen_toks=_LONGEST_ANSWER,
    )  # fmt: skip
    found.progress = progress
    if not written:
        found.tokenizer = EngineTokenizer(spec["socket"], spec["model"])
        found.tokenizer_backend, found.tokenized_requests = "remote", True
    return found


def evaluate(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """All tasks, one after the other."""
    os.chdir(spec["folder"])
    # Where lm-eval would open a TCP connection: engines listen on sockets.
    api_models.TCPConnector = lambda limit, ssl: aiohttp.UnixConnector(path=spec["socket"], limit=limit)
    reporter.begin("Accuracy", message="Loading the tasks of lm-eval")
    ours = all(Path(f"{name}.yaml").is_file() for name in spec["tasks"])
    manager = TaskManager(include_path=spec["folder"], include_defaults=not ours)  # its own are thousands of files
    sets: list[dict[str, Any]] = []
    for name in spec["tasks"]:
        sets += _evaluate_one(name, manager, spec, reporter)
    Path(spec["output"]).write_text(json.dumps({"version": lm_eval.__version__, "sets": sets}), encoding="utf-8")
    return {"sets": len(sets)}


def _evaluate_one(name: str, manager: TaskManager, spec: dict[str, Any], reporter: Reporter) -> list[dict[str, Any]]:
    if name not in manager.all_tasks:
        raise ScriptError(f"lm-eval has no task {name!r}.", "overrides.lm_eval")
    try:
        leaves = manager.load([name])["tasks"]
    except Exception as exc:  # its data, which come from a hub
        sys.stderr.write(f"{exc!r}\n")
        raise ScriptError(f"The data of {name} can't be loaded: {str(exc)[:300]}", "overrides.lm_eval") from exc
    shapes = {leaf.OUTPUT_TYPE for leaf in leaves.values()}
    if not (shapes <= _CHOICES or shapes <= _WRITTEN):
        raise ScriptError(f"{name} has tasks of shape {', '.join(sorted(shapes))}.", "overrides.lm_eval")
    for leaf, task in leaves.items():
        if _metric_of(task) is None:
            raise ScriptError(f"{leaf} has none of the metrics {', '.join(_METRICS)}.", "overrides.lm_eval")
    written = shapes <= _WRITTEN
    shots = _MMLU_SHOTS if spec["shots"] is None and re.match(r"mmlu(_|$)", name) else spec["shots"]
    told = lm_eval.simple_evaluate(
        _client(spec, Progress(reporter, name), written=written), tasks=[name], num_fewshot=shots, limit=spec["limit"],
        task_manager=manager, apply_chat_template=written, bootstrap_iters=1000, log_samples=True,
    )  # fmt: skip
    return [_set_of(name, filter_name, told, leaves) for filter_name in _filters(told)]


def _metric_of(task: Any) -> str | None:
    names = {one["metric"] for one in task.config.metric_list or ()}
    return next((name for name in _METRICS if name in names), None)


def _filters(told: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(sample["filter"] for rows in told["samples"].values() for sample in rows))


def _set_of(name: str, filter_name: str, told: dict[str, Any], leaves: dict[str, Any]) -> dict[str, Any]:
    """What one filter made of a task's answers; the figures are lm-eval's own where it gives some for all of it."""
    items, metric = [], ""
    for leaf, rows in told["samples"].items():
        metric = str(_metric_of(leaves[leaf]))
        items += [
            _item(leaf, leaves[leaf], row, metric) for row in sorted(rows, key=lambda row: row["doc_id"])
            if row["filter"] == filter_name
        ]  # fmt: skip
    own = told["results"].get(name, {})
    shots = set(told["n-shot"].values())
    return {
        "name": name, "filter": filter_name, "metric": metric, "value": own.get(f"{metric},{filter_name}"),
        "stderr": own.get(f"{metric}_stderr,{filter_name}"), "shots": min(shots) if len(shots) == 1 else None,
        "items": items,
    }  # fmt: skip


def _item(leaf: str, task: Any, row: dict[str, Any], metric: str) -> dict[str, Any]:
    question, target = str(task.doc_to_text(row["doc"])), str(row["target"])
    answer = row["filtered_resps"][0]
    if task.OUTPUT_TYPE in _CHOICES:
        choices = [arguments[1].strip() for arguments in row["arguments"]]
        weights = [float(weight) for weight, _ in row["filtered_resps"]]
        answer = choices[weights.index(max(weights))]
        target = choices[int(target)] if target.isdigit() and int(target) < len(choices) else target
    return {
        "id": f"{leaf}-{row['doc_id']}", "kind": leaf, "prompt": question[-_KEPT_CHARACTERS:],
        "expected": target[:_KEPT_CHARACTERS], "answer": str(answer)[:_KEPT_CHARACTERS], "score": float(row[metric]),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_script(evaluate, None))
