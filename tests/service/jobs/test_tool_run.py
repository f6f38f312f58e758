"""A tool's process: what it tells, how it fails, and that its environment is made once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import JobError
from components.jobs.records import JobEvent
from components.jobs.tool_run import child_environment, run_tool
from components.quantize import environment
from components.quantize.environment import quantizer_environment

pytestmark = pytest.mark.service
ROOT = Path(__file__).parents[3]
FRAME = "from components.jobs.tool_reporting import ScriptError, run_script\n"


def run(tmp_path: Path, body: str, told: list[JobEvent] | None = None) -> dict[str, Any]:
    script, spec = tmp_path / "quantize.py", tmp_path / "spec.json"
    script.write_text(FRAME + textwrap.dedent(body) + "\nimport sys\nsys.exit(run_script(work, None))\n")
    spec.write_text('{"value": 3}')
    env = child_environment() | {"PYTHONPATH": str(ROOT)}
    return run_tool(Path(sys.executable), script, spec, tmp_path, env, (told if told is not None else []).append)


def test_event_lines_come_through_and_prints_of_libraries_do_not(tmp_path: Path) -> None:
    told: list[JobEvent] = []
    result = run(
        tmp_path,
        """
        def work(spec, reporter):
            print("a library prints")
            reporter.begin("Quantizing", 4)
            reporter.done(1, "Layer 1 is done", loss=0.25)
            return {"doubled": 2 * spec["value"]}
        """,
        told,
    )
    assert result == {"doubled": 6}
    assert [event.phase for event in told] == ["Quantizing", "Quantizing"]
    assert (told[1].step, told[1].steps, told[1].loss) == (1, 4, 0.25)
    assert told[1].remaining_s is not None
    assert told[1].peak_memory_bytes is not None


def test_a_known_reason_becomes_the_jobs_reason(tmp_path: Path) -> None:
    body = "def work(spec, reporter):\n    raise ScriptError('calibration: nothing is left.', 'calibration.sources')"
    with pytest.raises(JobError, match="nothing is left") as failed:
        run(tmp_path, body)
    assert failed.value.field == "calibration.sources"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def work(spec, reporter):\n    raise RuntimeError('x')", "exit code 1"),
        ("import os\ndef work(spec, reporter):\n    os.kill(os.getpid(), 9)", "killed"),
        ("import os\ndef work(spec, reporter):\n    os._exit(0)", "exit code 0"),
    ],
)
def test_an_unforeseen_end_is_never_taken_for_a_result(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(JobError, match=words):
        run(tmp_path, body)


def test_no_secret_but_the_hubs_token_reaches_the_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_USERS", "me:secret")
    monkeypatch.setenv("HF_TOKEN", "token")
    assert child_environment().get("HF_TOKEN") == "token"
    assert "DIPTYCH_USERS" not in child_environment()


@pytest.fixture
def no_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Requirements of a tool that needs nothing."""
    path = tmp_path / "requirements.txt"
    path.write_text("# nothing\n")
    monkeypatch.setattr(environment, "requirements_file", lambda _tool: path)
    return path


def test_an_environment_is_made_once_and_again_when_its_pins_change(tmp_path: Path, no_packages: Path) -> None:
    said: list[str] = []
    tool = quantizer_environment(tmp_path / "envs", "llmcompressor")
    assert not tool.is_ready()
    python = tool.ensure(child_environment(), said.append)
    assert subprocess.run([python, "-c", "pass"], check=False).returncode == 0
    assert any("Making the environment" in line for line in said)
    said.clear()
    assert tool.ensure(child_environment(), said.append) == python
    assert said == []
    no_packages.write_text("# other pins\n")
    assert not quantizer_environment(tmp_path / "envs", "llmcompressor").is_ready()


def test_one_that_was_killed_while_it_was_made_is_made_anew(tmp_path: Path, no_packages: Path) -> None:
    half = tmp_path / "envs" / "llmcompressor" / "bin"
    half.mkdir(parents=True)
    (half / "python").symlink_to(sys.executable)
    said: list[str] = []
    tool = quantizer_environment(tmp_path / "envs", "llmcompressor")
    assert not tool.is_ready()
    python = tool.ensure(child_environment(), said.append)
    assert any("Making the environment" in line for line in said)
    assert subprocess.run([python, "-m", "pip", "--version"], check=False, capture_output=True).returncode == 0


def test_two_jobs_that_need_it_at_once_make_it_once(tmp_path: Path, no_packages: Path) -> None:
    said: list[str] = []

    def ensure() -> None:
        quantizer_environment(tmp_path / "envs", "autoround").ensure(child_environment(), said.append)

    threads = [threading.Thread(target=ensure) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("Making the environment" in line for line in said) == 1


def test_what_pip_cannot_do_is_told_in_its_words(tmp_path: Path, no_packages: Path) -> None:
    no_packages.write_text("./no-such-folder\n")
    with pytest.raises(JobError, match="could not be made") as failed:
        quantizer_environment(tmp_path / "envs", "llmcompressor").ensure(dict(os.environ), lambda _text: None)
    assert not quantizer_environment(tmp_path / "envs", "llmcompressor").is_ready()
    assert "ERROR" in failed.value.detail
