"""Quantizes a model with AutoRound: ``python quantize.py spec.json``.

The spec names a model folder (Hugging Face names) or repository, the recipe, the calibration data and the output
folder. Event lines go to standard output, the tool's own words to standard error. Started again with the same spec
and the same output folder it goes on after the last finished block.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from components.jobs.tool_reporting import Reporter, ScriptError, run_script
from components.quantize.tools.shared.calibration import as_batch, build
from components.quantize.tools.shared.coders import Sample
from components.quantize.tools.shared.models import load_model, resolve_model, tensors_of, versions

SPEC: str | None = None  # a complete script carries its spec here

_BLOCK_DONE = re.compile(r"quantized \d+/\d+ layers in the block(?:.*-> iter \d+: ([0-9.eE+-]+))?")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class Progress(logging.Handler):
    """Turns what AutoRound logs into event lines; a step is a block."""

    def __init__(self, reporter: Reporter, blocks: int) -> None:
        super().__init__(logging.INFO)
        self._reporter, self._blocks = reporter, blocks

    def emit(self, record: logging.LogRecord) -> None:
        """One line of its log."""
        text = _ESCAPES.sub("", record.getMessage())
        done = _BLOCK_DONE.search(text)
        if done:
            report = self._reporter
            loss = float(done[1]) if done[1] else None
            report.done(report.step + 1, f"Block {report.step + 1} of {self._blocks} is done", loss)
        elif text.startswith("start to cache block inputs"):
            self._reporter.say("Computing the inputs of the blocks")
        elif "resuming after" in text:
            done_before = int(text.partition("resuming after ")[2].split("/")[0])
            self._reporter.resume(done_before, f"Going on after block {done_before} of {self._blocks}")


def quantize(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """The whole job: model, calibration data, quantization, output."""
    recipe, output = spec["recipe"], Path(spec["output"])
    # Read when the library is imported.
    os.environ.setdefault("AR_RESUME_DIR", str(Path(spec["resume"])))
    import torch
    from auto_round import AutoRound

    torch.manual_seed(recipe["seed"])
    reporter.begin("Loading the model")
    folder = resolve_model(spec["model"])
    reporter.begin("Reading calibration data")
    calibration = build(spec["calibration"], folder)
    samples = equal_in_length(calibration.samples)
    reporter.say(f"{len(samples)} samples of {len(samples[0].ids)} tokens")
    model = load_model(folder, layers=1 if spec.get("dry_run") else None)
    dataset = [tensors_of(as_batch(sample), model.dtype) for sample in samples]
    blocks = decoder_layers(model.config)
    reporter.begin("Quantizing", blocks)
    logging.getLogger("autoround").addHandler(Progress(reporter, blocks))
    tool = AutoRound(
        model,
        scheme=recipe["tool_scheme"],
        group_size=recipe["group_size"],
        sym=recipe["symmetric"],
        iters=recipe["iterations"],
        nsamples=len(samples),
        seqlen=len(samples[0].ids),
        batch_size=min(recipe["batch_size"], len(samples)),
        low_gpu_mem_usage=recipe["low_gpu_memory"],
        device_map=0 if torch.cuda.is_available() else "cpu",
        dataset=dataset,
        # Compiling pays on a GPU; on a CPU it takes longer than what it saves, and wants a C++ compiler.
        enable_torch_compile=torch.cuda.is_available(),
        seed=recipe["seed"],
        **({"to_quant_block_names": recipe["blocks"]} if spec["vision"] and recipe.get("blocks") else {}),
        **readers(folder, spec["vision"]),
    )
    started_s = time.monotonic()
    if spec.get("dry_run"):
        tool.quantize()
        return {"layer_s": 0.0, "step_s": (time.monotonic() - started_s) / max(recipe["iterations"], 1)}
    tool.quantize_and_save(str(output), format=recipe["packing_format"])
    return {"calibration": calibration.record(), "versions": versions(), "output": str(saved_folder(output))}


def decoder_layers(config: Any) -> int:
    """Blocks of the text decoder."""
    return int(getattr(config, "text_config", config).num_hidden_layers)


def readers(folder: Path, vision: bool) -> dict[str, Any]:
    """Tokenizer and processor, which the tool insists on; the data is tokenized already."""
    from transformers import AutoTokenizer, MistralCommonBackend

    mistral = (folder / "tekken.json").is_file()
    tokenizer = (MistralCommonBackend if mistral else AutoTokenizer).from_pretrained(folder)
    return {"tokenizer": tokenizer, **({"processor": tokenizer} if vision else {})}


def equal_in_length(samples: list[Sample]) -> list[Sample]:
    """Text samples cut to the shortest one's length: the tool stacks them, and drops what is shorter than the rest.

    Raises:
        ScriptError: there are pictures, which the tool's stacking can't take.
    """
    if any(sample.pictures for sample in samples):
        raise ScriptError(
            "calibration: AutoRound is calibrated with text only here; leave pictures out.", "calibration"
        )
    shortest = min(len(sample.ids) for sample in samples)
    return [Sample(sample.ids[:shortest]) for sample in samples]


def saved_folder(output: Path) -> Path:
    """Where the tool wrote: the folder it was given, or one below it that it names itself."""
    found = [path.parent for path in sorted(output.rglob("config.json"))]
    if not found:
        raise ScriptError(f"The tool wrote no model to {output}.")
    return found[0]


if __name__ == "__main__":
    sys.exit(run_script(quantize, SPEC))
