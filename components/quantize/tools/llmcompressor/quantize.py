"""Quantizes a model with llm-compressor: ``python quantize.py spec.json``.

The spec names a model folder (Hugging Face names) or repository, the recipe, the calibration data and the output
folder. Event lines go to standard output, the tool's own words to standard error.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from components.jobs.tool_reporting import Reporter, ScriptError, run_script
from components.quantize.tools.shared.calibration import as_batch, build
from components.quantize.tools.shared.models import load_model, resolve_model, tensors_of, versions

SPEC: str | None = None  # a complete script carries its spec here

# The tools' own mappings also match the vision tower of Mistral 3 and Pixtral and then stop; these name the decoder.
_LAYERS = "re:.*layers.*"
_DECODER = "re:.*language_model.*layers.*"
_LAYER_OF = re.compile(r"layers\.(\d+)\.")


def decoder_prefix(vision: bool) -> str:
    """The beginning of every name of the decoder."""
    return _DECODER if vision else _LAYERS


def smoothquant_mappings(vision: bool) -> list[list[Any]]:
    """Which layers share the scale that moves from their input to their weights."""
    name = decoder_prefix(vision)
    return [
        [[f"{name}q_proj$", f"{name}k_proj$", f"{name}v_proj$"], f"{name}input_layernorm$"],
        [[f"{name}gate_proj$", f"{name}up_proj$"], f"{name}post_attention_layernorm$"],
    ]


def awq_mappings(vision: bool) -> list[Any]:
    """Which layers are balanced against which."""
    from llmcompressor.modifiers.transform.awq import AWQMapping

    name = decoder_prefix(vision)
    return [
        AWQMapping(f"{name}input_layernorm$", [f"{name}q_proj$", f"{name}k_proj$", f"{name}v_proj$"]),
        AWQMapping(f"{name}v_proj$", [f"{name}o_proj$"]),
        AWQMapping(f"{name}post_attention_layernorm$", [f"{name}gate_proj$", f"{name}up_proj$"]),
        AWQMapping(f"{name}up_proj$", [f"{name}down_proj$"]),
    ]


def scheme_of(recipe: dict[str, Any]) -> Any:
    """The tool's scheme of that name, with the recipe's own group size and symmetry."""
    from compressed_tensors.quantization import preset_name_to_scheme

    scheme = preset_name_to_scheme(recipe["tool_scheme"], recipe["targets"])
    changes = {name: recipe[name] for name in ("group_size", "symmetric") if recipe.get(name) is not None}
    if changes:
        # Made anew, not changed in place: the presets are shared, and their rules must be asked again.
        fields = {**scheme.weights.model_dump(), **changes}
        scheme.weights = type(scheme.weights).model_validate(fields)
    return scheme


def modifiers_of(recipe: dict[str, Any], vision: bool) -> list[Any]:
    """What is applied, in order."""
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    shared = {"config_groups": {"group_0": scheme_of(recipe)}, "ignore": recipe["ignore"]}
    method = recipe["method"]
    if method in ("gptq", "smoothquant-gptq"):
        found: list[Any] = [
            GPTQModifier(block_size=recipe["block_size"], dampening_frac=recipe["dampening_frac"], **shared)
        ]
        if method == "smoothquant-gptq":
            strength = recipe["smoothing_strength"]
            found.insert(0, SmoothQuantModifier(smoothing_strength=strength, mappings=smoothquant_mappings(vision)))
        return found
    if method == "awq":
        return [AWQModifier(mappings=awq_mappings(vision)), QuantizationModifier(**shared)]
    return [QuantizationModifier(**shared)]


class Progress:
    """Turns what llm-compressor logs and counts into event lines. A step is a layer, or the rest before and after."""

    def __init__(self, reporter: Reporter, phases: list[str]) -> None:
        self._reporter = reporter
        self._phases = phases  # one for each time that the data goes through the model
        self._module = ""
        self._loss: float | None = None
        self._bar_ended_s = 0.0
        self.samples_s = 0.0  # spent in layers on samples
        self.layers_s = 0.0  # spent between, on the layers' weights

    def attach(self) -> None:
        """Listen to its log, and stand in for its progress bars."""
        import llmcompressor.pipelines.sequential.pipeline as pipeline
        from loguru import logger

        logger.add(self._on_log, level="INFO", format="{message}")
        pipeline.tqdm = self._bar

    def _on_log(self, message: Any) -> None:
        text = str(message).strip()
        if text.startswith("Quantizing "):
            self._module = text.partition("[")[2].strip("']")
        elif text.startswith("error "):
            self._loss = float(text.split()[1])
            self._reporter.say(f"Quantized {self._module}", self._loss)

    def _bar(self, items: Any, total: int, desc: str) -> Any:
        """``desc`` is like "(2/5): Calibrating"."""
        number, _, rest = desc.strip("(").partition("/")
        steps, _, action = rest.partition("): ")
        report = self._reporter
        if action == "Calibrating" and number == "1":
            report.begin(self._phases.pop(0) if self._phases else report.phase, int(steps))
        report.done(int(number) - 1, f"{action} part {number} of {steps}", self._loss)
        started_s = time.monotonic()
        if action == "Propagating":
            self.layers_s += started_s - self._bar_ended_s
        yield from report.watch(items, total, f"{action} part {number} of {steps}, sample")
        self._bar_ended_s = time.monotonic()
        if number != "1":  # the first part is what comes before the layers
            self.samples_s += self._bar_ended_s - started_s
        if action == "Propagating":
            report.done(int(number), f"Part {number} of {steps} is done", self._loss)


def quantize(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """The whole job: model, calibration data, quantization, output."""
    import torch
    from llmcompressor import oneshot

    recipe, vision = spec["recipe"], spec["vision"]
    torch.manual_seed(recipe["seed"])
    reporter.begin("Loading the model")
    folder = resolve_model(spec["model"])
    calibration = None
    if spec.get("calibration"):
        reporter.begin("Reading calibration data")
        calibration = build(spec["calibration"], folder)
        reporter.say(f"{len(calibration.samples)} samples, {sum(calibration.lengths()):,} tokens")
    model = load_model(folder, layers=1 if spec.get("dry_run") else None)
    phases = ["Smoothing", "Quantizing"] if recipe["method"] == "smoothquant-gptq" else ["Quantizing"]
    progress = Progress(reporter, phases)
    progress.attach()
    reporter.begin(phases[0])
    started_s = time.monotonic()
    options: dict[str, Any] = {"recipe": modifiers_of(recipe, vision)}
    if calibration is not None:
        batches = [tensors_of(as_batch(sample), model.dtype) for sample in calibration.samples]
        options |= data_options(batches, folder, recipe)
    try:
        oneshot(model=model, **options)
    except RuntimeError as exc:
        if "accelerator" in str(exc):
            raise ScriptError(f"recipe: {recipe['method']} needs a GPU: {exc}", "recipe") from exc
        raise
    if spec.get("dry_run"):
        counted = len(calibration.samples) if calibration else 0
        weights_s = progress.layers_s if calibration else time.monotonic() - started_s
        return {"layer_s": weights_s, "sample_s": progress.samples_s / max(counted, 1)}
    reporter.begin("Writing weights")
    output = Path(spec["output"])
    model.save_pretrained(output, save_compressed=True)
    if spec.get("decompressed_output"):
        reporter.begin("Decompressing")
        decompress(output, Path(spec["decompressed_output"]), reporter)
    record = calibration.record() if calibration else None
    return {"calibration": record, "versions": versions(), "output": str(output)}


def data_options(batches: list[Any], folder: Path, recipe: dict[str, Any]) -> dict[str, Any]:
    """The data as the tool wants it: tokenized already, so it must not process it again."""
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer, MistralCommonBackend

    # The processor is not used, but the tool insists on one when it is given data.
    mistral = (folder / "tekken.json").is_file()
    processor = (MistralCommonBackend if mistral else AutoTokenizer).from_pretrained(folder)
    found = {
        "dataset": DataLoader(batches, batch_size=None),
        "processor": processor,
        "num_calibration_samples": len(batches),
        "max_seq_length": recipe["max_seq_length"],
    }
    if recipe.get("sequential_targets"):
        found["sequential_targets"] = recipe["sequential_targets"]
    return found


def decompress(packed: Path, target: Path, reporter: Reporter) -> None:
    """The same weights, unpacked to 16 bits, for hardware that has no kernel for the scheme."""
    import torch
    from compressed_tensors.compressors.base import BaseCompressor
    from compressed_tensors.quantization import QuantizationScheme
    from safetensors.torch import load_file, save_file

    config = json.loads((packed / "config.json").read_text(encoding="utf-8"))
    settings = config.pop("quantization_config")
    group = next(iter(settings["config_groups"].values()))
    scheme = QuantizationScheme.model_validate({key: value for key, value in group.items() if key != "format"})
    compressor = BaseCompressor.get_value_from_registry(group.get("format") or settings["format"])
    names = compressor.compression_param_names(scheme)
    target.mkdir(parents=True, exist_ok=True)
    files = sorted(packed.glob("*.safetensors"))
    index: dict[str, str] = {}
    for number, file in enumerate(files, start=1):
        tensors = load_file(file)
        for packed_name in [name for name in tensors if name.endswith(".weight_packed")]:
            stem = packed_name.removesuffix("weight_packed")
            local = {name: tensors.pop(stem + name) for name in names if stem + name in tensors}
            tensors[f"{stem}weight"] = compressor.decompress(local, scheme)["weight"].to(torch.bfloat16)
        save_file(tensors, target / file.name, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, file.name)
        reporter.say(f"File {number} of {len(files)}")
    if len(files) > 1:
        document = {"metadata": {}, "weight_map": index}
        (target / "model.safetensors.index.json").write_text(json.dumps(document), encoding="utf-8")
    (target / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run_script(quantize, SPEC))
