"""A hub's data set read by the tool's own library; here from a folder, since no hub may be asked."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from components.jobs.tool_run import child_environment
from components.quantize.environment import quantizer_environment

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("quantizer")]
ROOT = Path(__file__).parents[2]
TOOL = quantizer_environment(ROOT / ".envs", "llmcompressor")
READ = """
import json, sys
from components.jobs.tool_reporting import ScriptError
from components.quantize.tools.shared.rows import read_source
try:
    rows = [row.messages for row in read_source(json.loads(sys.argv[1]), "calibration.sources[0]", 7)]
except ScriptError as exc:
    rows = {"failure": str(exc), "field": exc.field}
print(json.dumps(rows))
"""


def read(source: dict[str, object]) -> object:
    env = child_environment() | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [TOOL.python, "-c", READ, json.dumps({"kind": "hub", **source})],
        env=env, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_splits_order_and_templates(tmp_path: Path) -> None:
    rows = [{"instruction": f"Do {number}", "response": f"Done {number}"} for number in range(20)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"repo_id": str(tmp_path), "template": "instruction-response"}
    first = read({**source, "split": "train[:2]", "shuffle": False})
    assert first == [
        [{"role": "user", "content": f"Do {number}"}, {"role": "assistant", "content": f"Done {number}"}]
        for number in (0, 1)
    ]
    shuffled = read({**source, "split": "train"})
    assert isinstance(shuffled, list)
    assert len(shuffled) == 20
    assert shuffled[:2] != first
    refused = read({**source, "split": "train", "template": "sharegpt"})
    assert isinstance(refused, dict)
    assert "does not fit the template sharegpt" in refused["failure"]
    assert refused["field"] == "calibration.sources[0]"
