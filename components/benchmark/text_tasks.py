"""Text tasks of lm-eval, asked of our engines by lm-eval itself in an interpreter of its own; its answers → items."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from components.benchmark.accuracy import ComparedItems, Judged, MeasuredSet
from components.benchmark.rows import Item, Message
from components.benchmark.spec import AccuracySettings
from components.benchmark.store import PieceStore
from components.core.errors import InputError
from components.engines.serving import Served
from components.jobs.records import JobEvent
from components.jobs.tool_environment import ToolEnvironment, environments_root
from components.jobs.tool_run import child_environment, run_tool

LOCAL_TASKS = ("diptych_choices", "diptych_sums")
_TOOL = Path(__file__).parent / "tools" / "lmeval"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,79}")
_ENGINE_KEY = "OPENAI_API_KEY"  # the variable in which lm-eval looks for it

Tell = Callable[[JobEvent], None]


def check_task_names(names: tuple[str, ...]) -> None:
    """Only names: a file of somebody's own could hold code, which lm-eval would run.

    Raises:
        InputError: one is none.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{name[:60]!r} is no name of a task.",
                f"Accepted: names of lm-eval's tasks, such as mmlu, and {', '.join(LOCAL_TASKS)}.",
                field="overrides.lm_eval",
            )


class TextTaskRun:
    """Runs lm-eval against one engine after the other.

    Args:
        work: where its input and output lie while it runs.
        store: what was answered already.
    """

    def __init__(
        self, repository: Path, state_dir: Path, work: Path, store: PieceStore, settings: AccuracySettings, tell: Tell
    ) -> None:
        self._repository, self._state_dir, self._work = repository, state_dir, work
        self._store, self._settings, self._tell = store, settings, tell
        root = environments_root(repository, state_dir)
        self._environment = ToolEnvironment(root, "lm-eval", _TOOL / "requirements.txt")

    async def answers(self, served: Served, name: str) -> dict[str, Any]:
        """What lm-eval tells of one engine, by ``tools/lmeval/evaluate.py``; ``name`` under which it is kept.

        Raises:
            JobError: lm-eval failed, or its environment can't be made.
        """
        saved = await asyncio.to_thread(self._store.document, f"lm-eval-{name}")
        if saved is None:
            saved = await self._ask(served)
            await asyncio.to_thread(self._store.save_document, f"lm-eval-{name}", saved)
        return saved

    async def _ask(self, served: Served) -> dict[str, Any]:
        self._work.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings, output, spec_file = self._settings, self._work / "answers.json", self._work / "spec.json"
        spec = {
            "socket": served.client.address, "model": served.client.served_model, "tasks": settings.lm_eval,
            "folder": str(self._repository / "assets" / "benchmark" / "lm-eval"), "limit": settings.items,
            "shots": settings.shots, "max_length": served.max_model_len, "concurrency": settings.concurrency,
            "output": str(output),
        }  # fmt: skip
        spec_file.write_bytes(orjson.dumps(spec))
        env = child_environment()
        python = await asyncio.to_thread(
            self._environment.ensure, env, lambda text: self._tell(JobEvent(phase="Environment", message=text))
        )
        env |= {
            "PYTHONPATH": str(self._repository), _ENGINE_KEY: served.client.api_key or "",
            "HF_DATASETS_CACHE": str(self._state_dir / "benchmark" / "lm-eval-data"), "TOKENIZERS_PARALLELISM": "false",
        }  # fmt: skip
        await self._run(python, spec_file, env)
        return dict(orjson.loads(await asyncio.to_thread(output.read_bytes)))

    async def _run(self, python: Path, spec_file: Path, env: Mapping[str, str]) -> None:
        started: list[subprocess.Popen[bytes]] = []
        script = _TOOL / "evaluate.py"
        work = asyncio.ensure_future(
            asyncio.to_thread(run_tool, python, script, spec_file, self._work, env, self._tell, started.append)
        )
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            for process in started:
                process.kill()
            await asyncio.wait([work])
            raise


def compare_answers(base: Mapping[str, Any], candidate: Mapping[str, Any]) -> list[MeasuredSet]:
    """Both models' answers to the same tasks, item by item."""
    others = {(one["name"], one["filter"]): one for one in candidate["sets"]}
    return [
        _compared(one, others[one["name"], one["filter"]], str(base["version"]))
        for one in base["sets"] if (one["name"], one["filter"]) in others
    ]  # fmt: skip


def _compared(one: Mapping[str, Any], other: Mapping[str, Any], version: str) -> MeasuredSet:
    theirs = {row["id"]: row for row in other["items"]}
    rows = [row for row in one["items"] if row["id"] in theirs]
    several = len({row["kind"] for row in rows}) > 1
    items = [
        Item(
            id=row["id"][-80:], kind=row["kind"][:80] if several else "", metric=one["metric"],
            messages=(Message(role="user", content=row["prompt"]),), answers=(row["expected"],),
        )
        for row in rows
    ]  # fmt: skip
    found = ComparedItems.of(items, [_judged(row) for row in rows], [_judged(theirs[row["id"]]) for row in rows])
    shots = "" if one["shots"] is None else f", {one['shots']}-shot"
    filtered = "" if one["filter"] == "none" else f", {one['filter']}"
    details = {"tool": f"lm-eval {version}", "shots": one["shots"], "filter": one["filter"]}
    for side, told in (("base", one), ("candidate", other)):
        for key, name in (("value", f"{side}_lm_eval_percent"), ("stderr", f"{side}_stderr_points")):
            if isinstance(told[key], int | float):
                details[name] = 100 * told[key]
    return MeasuredSet(f"{one['name']}{shots}{filtered}", one["metric"], found, asked=len(rows), details=details)


def _judged(row: Mapping[str, Any]) -> Judged:
    return Judged(row["answer"], row["score"])
