"""Runs a tool's complete script in the tool's interpreter and passes on what it tells."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from components.core.errors import JobError
from components.jobs.records import JobEvent

_PASSED = frozenset(
    {
        "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy",
        "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "HF_HOME", "HF_HUB_CACHE", "HF_TOKEN",
        "DIPTYCH_GROUP", "SPT_NOENV",
    }
)  # fmt: skip


def child_environment() -> dict[str, str]:
    """What a tool and pip may know: where things are, how to get out, the hub's token, and whose group they are of."""
    return {name: value for name, value in os.environ.items() if name in _PASSED or name.startswith("PIP_")}


def run_tool(
    python: Path, script: Path, spec: Path, cwd: Path, env: Mapping[str, str], tell: Callable[[JobEvent], None],
    started: Callable[[subprocess.Popen[bytes]], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run to the end; the script's result.

    Args:
        started: is given the process, for one who waits in another thread and may have to end it.

    Raises:
        JobError: the script failed; its reason when it knows one, else where to look.
    """
    ended: dict[str, Any] = {}
    with subprocess.Popen(
        [str(python), str(script), str(spec)], cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        if started is not None:
            started(process)
        try:
            for line in process.stdout or ():
                told = _parse(line)
                if "phase" in told:
                    tell(JobEvent(**told))
                else:
                    ended |= told
        except BaseException:
            process.kill()
            raise
    if "result" in ended and process.returncode == 0:
        return dict(ended["result"])
    raise _failure(ended, process.returncode)


def _parse(line: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}


def _failure(ended: Mapping[str, Any], code: int) -> JobError:
    if ended.get("failure"):
        return JobError(str(ended["failure"]), field=ended.get("field"))
    if code == -9:
        return JobError(
            "The tool was killed (SIGKILL), most likely for want of memory.",
            "Take fewer or shorter samples, or stop an engine while it runs.",
        )
    return JobError(f"The tool ended with exit code {code}.", "The end of the job's log says why.")
