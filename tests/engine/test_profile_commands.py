"""Every profile's command line is what the installed vLLM accepts, and means to it what the profile says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.cards.model_parts import vllm_settings
from components.profiles.argv import engine_command
from components.profiles.loader import list_pairs

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
PARSE = """
import json, sys
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = make_arg_parser(FlexibleArgumentParser())
found = []
for argv in json.load(sys.stdin):
    parsed = parser.parse_args(argv)
    validate_parsed_serve_args(parsed)
    AsyncEngineArgs.from_cli_args(parsed)
    found.append(vars(parsed))
print("PARSED", json.dumps(found, default=str))
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Engine id and device → what vLLM's own parser makes of the command."""
    folder = str(tmp_path_factory.mktemp("model"))  # vLLM asks the hub for a path that does not exist
    commands = dict[str, list[str]]()
    for pair in list_pairs(ROOT / "profiles")[0]:
        for model in pair.models:
            for device in ("cpu", "cuda"):
                command = engine_command(
                    pair,
                    model,
                    model_path=folder,
                    socket=Path("/run/e.sock"),
                    device=device,
                    python=Path(sys.executable),
                    api_key="key",
                    cache_root=Path("/cache"),
                    hook_path=None,
                    exchange=None,
                    cpu_threads=1,
                )
                commands[f"{pair.engine_id(model)} {device}"] = list(command.argv[3:])
            file = Path(folder) / f"{pair.engine_id(model).replace('/', '-')}.yaml"
            file.write_text(yaml.safe_dump(vllm_settings(pair, model) | {"model": folder}), encoding="utf-8")
            commands[f"{pair.engine_id(model)} card"] = ["--config", str(file)]
    hook = ROOT / "components" / "engines" / "inside_vllm"
    done = subprocess.run(
        [sys.executable, "-c", PARSE],
        input=json.dumps(list(commands.values())),
        env=dict(os.environ) | {"PYTHONPATH": str(hook), "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("PARSED "))
    return dict(zip(commands, json.loads(line.removeprefix("PARSED ")), strict=True))


def test_vllm_accepts_every_command(parsed: dict[str, dict[str, Any]]) -> None:
    assert len(parsed) >= 3 * 15


def test_vllm_reads_what_the_profile_says(parsed: dict[str, dict[str, Any]]) -> None:
    seen = parsed["mistral-small-3.2-24b/base cuda"]
    expected = {
        "served_model_name": ["mistral-small-3.2-24b/base"],
        "uds": "/run/e.sock",
        "tokenizer_mode": "mistral",
        "config_format": "mistral",
        "load_format": "mistral",
        "dtype": "bfloat16",
        "max_model_len": 131072,
        "kv_cache_dtype": "fp8_e4m3",
        "max_num_seqs": 32,
        "max_num_batched_tokens": 8192,
        "gpu_memory_utilization": 0.96,
        "tensor_parallel_size": 1,
        "limit_mm_per_prompt": {"image": 4},
        "override_generation_config": {"temperature": 0.15},
        "generation_config": "auto",
        "allowed_media_domains": ["invalid.invalid"],
        "disable_fastapi_docs": True,
        "shutdown_timeout": 10,
        "max_logprobs": 64,
        "tool_call_parser": "mistral",
        "enable_auto_tool_choice": True,
        "enable_prefix_caching": True,
        "enable_chunked_prefill": True,
        "enforce_eager": False,
        "disable_custom_all_reduce": True,
        "trust_remote_code": False,
    }
    assert {name: seen[name] for name in expected} == expected
    of_card = parsed["mistral-small-3.2-24b/base card"]
    machine_and_guards = {"uds", "allowed_media_domains", "disable_fastapi_docs", "shutdown_timeout", "max_logprobs"}
    same = set(expected) - machine_and_guards - {"served_model_name", "override_generation_config"}
    assert {name: of_card[name] for name in same} == {name: expected[name] for name in same}
    assert parsed["smollm2-135m/fp8-dynamic cpu"]["quantization"] == "fp8_per_channel"
