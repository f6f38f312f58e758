"""Make the candidates from the committed base: `python quantize.py` in the llm-compressor environment.

W8A8 and W4A16 are made by llm-compressor's GPTQ, calibrated on conversations about pictures that the generator draws.
The third, `coarse`, is bad on purpose: round-to-nearest without calibration, one scale per output row, and fewer
levels than its four-bit container could hold. It shows a visitor what a regression looks like.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch_extras

torch_extras.prepare()

from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme  # noqa: E402
from conversations import draw_conversation  # noqa: E402
from export import (  # noqa: E402
    ASSETS,
    BASE,
    DECODER,
    FINAL_NORM,
    LANGUAGE,
    hugging_face_config,
    hugging_face_folder,
    mistral_parameters,
    split,
    write_index,
    write_json,
    write_tensors,
)
from llmcompressor import oneshot  # noqa: E402
from llmcompressor.modifiers.gptq import GPTQModifier  # noqa: E402
from llmcompressor.modifiers.quantization import QuantizationModifier  # noqa: E402
from naming import repository_name  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from tokenizer import encode, load_tokenizer  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from transformers import Mistral3ForConditionalGeneration, MistralCommonBackend  # noqa: E402

IGNORE = ["re:.*lm_head", "re:.*vision.*", "re:.*multi_modal_projector.*", "re:.*patch_merger.*"]
CALIBRATION_CONVERSATIONS = 128
COARSE_LEVEL_BITS = 2
CONTAINER_BITS = 4


def calibration(tekken: Path) -> list[dict[str, torch.Tensor]]:
    """Conversations about pictures, from seeds used neither in training nor in the evaluation."""
    tokenizer = load_tokenizer(tekken, training=True)
    samples = []
    for index in range(CALIBRATION_CONVERSATIONS):
        rng = random.Random(f"calibration:{index}")
        conversation = draw_conversation(rng, 200)
        ids, pictures = encode(tokenizer, conversation.turns, conversation.system)
        sample = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        # One picture size per sample: transformers wants the pictures of a sample in one tensor.
        if pictures and len({picture.shape for picture in pictures}) == 1:
            pixels = torch.stack([torch.from_numpy(picture) for picture in pictures])
            sizes = torch.tensor([picture.shape[1:] for picture in pictures])
            samples.append({**sample, "pixel_values": pixels.to(torch.bfloat16), "image_sizes": sizes})
    return samples


def modifier(name: str) -> GPTQModifier | QuantizationModifier:
    """The recipe of a candidate."""
    if name == "w8a8":
        return GPTQModifier(targets="Linear", scheme="W8A8", ignore=IGNORE)
    if name == "w4a16":
        return GPTQModifier(targets="Linear", scheme="W4A16", ignore=IGNORE)
    weights = QuantizationArgs(num_bits=COARSE_LEVEL_BITS, type="int", strategy="channel", symmetric=True)
    group = QuantizationScheme(targets=["Linear"], weights=weights)
    return QuantizationModifier(config_groups={"group_0": group}, ignore=IGNORE)


def recipe_text(name: str) -> str:
    """recipe.yaml: what was done, readable and complete."""
    if name == "coarse":
        return (
            "# Bad on purpose: a candidate in which a visitor sees what a regression looks like.\n"
            f"# The scales are those of {COARSE_LEVEL_BITS} bits: every weight becomes -2, -1, 0, 1 or 2 times the"
            f" scale of its row.\n# The values are stored in {CONTAINER_BITS}-bit containers,"
            " because that is what vLLM's CPU kernel reads.\n"
            "quant_stage:\n  quant_modifiers:\n    QuantizationModifier:  # round-to-nearest, no calibration\n"
            f"      targets: [Linear]\n      weights: {{level_bits: {COARSE_LEVEL_BITS},"
            f" container_bits: {CONTAINER_BITS}, type: int, strategy: channel, symmetric: true}}\n"
            f"      ignore: {json.dumps(IGNORE)}\n"
        )
    detail = "8-bit weights per channel, 8-bit activations per token" if name == "w8a8" else "4-bit weights, group 128"
    return (
        f"# {detail}; {CALIBRATION_CONVERSATIONS} drawn conversations for calibration, llm-compressor 0.14.0.1\n"
        "quant_stage:\n  quant_modifiers:\n    GPTQModifier:\n"
        f"      targets: [Linear]\n      scheme: {name.upper()}\n      ignore: {json.dumps(IGNORE)}\n"
    )


def quantize(name: str, source: Path, scratch: Path) -> Path:
    """Run llm-compressor and save what it makes of the whole model; returns the folder."""
    model = Mistral3ForConditionalGeneration.from_pretrained(source, dtype=torch.bfloat16)
    recipe = modifier(name)
    if name == "coarse":
        oneshot(model=model, recipe=recipe)
        for module in model.modules():
            if scheme := getattr(module, "quantization_scheme", None):
                scheme.weights.num_bits = CONTAINER_BITS
    else:
        loader = DataLoader(calibration(source / "tekken.json"), batch_size=None)
        # The data is tokenized already, but oneshot insists on a processor when it is given any.
        processor = MistralCommonBackend.from_pretrained(source)
        samples = len(loader)
        oneshot(model=model, dataset=loader, recipe=recipe, processor=processor, num_calibration_samples=samples)
    model.save_pretrained(scratch, save_compressed=True)
    return scratch


def write_candidate(name: str, saved: Path, folder: Path) -> None:
    """Keep of a saved model only what differs from the base: decoder weights and configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, torch.Tensor] = {}
    for path in saved.glob("*.safetensors"):
        tensors |= {repository_name(key): value for key, value in load_file(path).items()}
    language = {key: value for key, value in tensors.items() if key.startswith(DECODER) or key == FINAL_NORM}
    write_tensors(folder / LANGUAGE, language)
    shared = split({repository_name(key): value for key, value in load_shared().items()})
    write_index(folder, {LANGUAGE: language, **{key: value for key, value in shared.items() if key != LANGUAGE}})
    settings: dict[str, Any] = json.loads((saved / "config.json").read_text())["quantization_config"]
    settings["ignore"] = IGNORE
    write_json(folder / "config.json", {**hugging_face_config(), "quantization_config": settings})
    write_json(folder / "params.json", {**mistral_parameters(), "quantization": settings})
    (folder / "recipe.yaml").write_text(recipe_text(name), encoding="utf-8")


def load_shared() -> dict[str, torch.Tensor]:
    """The base's tensors under Hugging Face names."""
    with tempfile.TemporaryDirectory() as scratch:
        return load_file(hugging_face_folder(Path(scratch)) / "model.safetensors")


def main() -> None:
    """Make the named candidates, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["w8a8", "w4a16", "coarse"])
    options = parser.parse_args()
    for name in options.names or ["w8a8", "w4a16", "coarse"]:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as scratch:
            source = hugging_face_folder(Path(scratch) / "base", BASE)
            write_candidate(name, quantize(name, source, Path(scratch) / "quantized"), ASSETS / name)
        size = sum(path.stat().st_size for path in (ASSETS / name).iterdir())
        print(f"{name}: {size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
