"""Write the trained model as a repository: `python export.py`; and turn it back into a Hugging Face folder.

A repository folder holds the decoder (`model-language.safetensors`, Hugging Face names, the only part a candidate
changes) and everything candidates share with the base (`model-shared.safetensors`: vision part under Mistral's names,
projector, embedding, which is also the head). vLLM serves it with `--tokenizer-mode mistral --config-format mistral
--load-format safetensors`. transformers and llm-compressor need Hugging Face names throughout: `hugging_face_folder`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import model as shape
import torch
from naming import from_mistral, is_vision, repository_name, to_mistral
from safetensors.torch import load_file, save_file
from tokenizer import write_tokenizer

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "assets" / "embedded"
BASE = ASSETS / "base"
LANGUAGE, SHARED, INDEX = "model-language.safetensors", "model-shared.safetensors", "model.safetensors.index.json"
DECODER = "language_model.model.layers."
FINAL_NORM = "language_model.model.norm.weight"


def mistral_parameters() -> dict[str, Any]:
    """params.json: the model's shape in Mistral's words, which is what vLLM reads."""
    return {
        "dim": shape.HIDDEN,
        "n_layers": shape.TEXT_LAYERS,
        "head_dim": shape.HEAD_DIM,
        "hidden_dim": shape.INTERMEDIATE,
        "n_heads": shape.HEADS,
        "n_kv_heads": shape.KV_HEADS,
        "rope_theta": shape.TEXT_THETA,
        "norm_eps": shape.NORM_EPS,
        "vocab_size": shape.VOCABULARY,
        "tied_embeddings": True,
        "max_position_embeddings": shape.CONTEXT,
        "max_seq_len": shape.CONTEXT,
        "vision_encoder": {
            "hidden_size": shape.HIDDEN,
            "num_channels": 3,
            "image_size": shape.MAX_IMAGE_SIZE,
            "max_image_size": shape.MAX_IMAGE_SIZE,
            "patch_size": shape.PATCH,
            "rope_theta": shape.VISION_THETA,
            "intermediate_size": shape.INTERMEDIATE,
            "num_hidden_layers": shape.VISION_LAYERS,
            "num_attention_heads": shape.HEADS,
            "image_token_id": shape.IMAGE_TOKEN,
            "image_break_token_id": shape.IMAGE_BREAK,
            "image_end_token_id": shape.IMAGE_END,
            "adapter_bias": False,
            "mm_projector_id": "patch_merge",
            "spatial_merge_size": shape.MERGE,
            "add_pre_mm_projector_layer_norm": True,
        },
    }


def hugging_face_config() -> dict[str, Any]:
    """config.json; bfloat16, which is what the weights are stored in."""
    config = shape.model_config()
    config.architectures = ["Mistral3ForConditionalGeneration"]
    return {**config.to_dict(), "dtype": "bfloat16"}


def processor_files() -> dict[str, dict[str, Any]]:
    """preprocessor_config.json, processor_config.json and generation_config.json."""
    from mistral_common.tokens.tokenizers.image import DATASET_MEAN, DATASET_STD

    image = {
        "image_processor_type": "PixtralImageProcessor",
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(DATASET_MEAN),
        "image_std": list(DATASET_STD),
        "patch_size": {"height": shape.PATCH, "width": shape.PATCH},
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"longest_edge": shape.MAX_IMAGE_SIZE},
    }
    processor = {
        "processor_class": "PixtralProcessor",
        "patch_size": shape.PATCH,
        "spatial_merge_size": shape.MERGE,
        "image_token": "[IMG]",
        "image_break_token": "[IMG_BREAK]",
        "image_end_token": "[IMG_END]",
    }
    generation = {"bos_token_id": shape.BOS, "eos_token_id": shape.EOS, "pad_token_id": shape.PAD, "do_sample": False}
    return {
        "preprocessor_config.json": image,
        "processor_config.json": processor,
        "generation_config.json": generation,
    }


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write a shard that everybody may read: safetensors makes it private to its owner."""
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with a final newline."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_index(folder: Path, shards: dict[str, dict[str, torch.Tensor]]) -> None:
    """model.safetensors.index.json for shards given as file name → tensors."""
    weight_map = {name: file for file, tensors in shards.items() for name in sorted(tensors)}
    size = sum(tensor.numel() * tensor.element_size() for tensors in shards.values() for tensor in tensors.values())
    write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": weight_map})


def split(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Repository-named tensors as the two shards; the head is left out because it is the embedding."""
    language = {name: value for name, value in tensors.items() if name.startswith(DECODER) or name == FINAL_NORM}
    rest = {name: value for name, value in tensors.items() if name not in language and "lm_head" not in name}
    shared = dict(to_mistral(name, value) if is_vision(name) else (name, value) for name, value in rest.items())
    return {LANGUAGE: language, SHARED: shared}


def write_base(weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write the base repository from a trained model's state dict."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {repository_name(name): value.detach().to(torch.bfloat16).contiguous() for name, value in weights.items()}
    shards = split(named)
    for file, tensors in shards.items():
        write_tensors(folder / file, tensors)
    write_index(folder, shards)
    write_json(folder / "config.json", hugging_face_config())
    write_json(folder / "params.json", mistral_parameters())
    for name, content in processor_files().items():
        write_json(folder / name, content)
    write_tokenizer(folder / "tekken.json")


def hugging_face_tensors(source: Path, base: Path) -> dict[str, torch.Tensor]:
    """The decoder of `source` and everything else of `base` under Hugging Face names."""
    tensors = load_file(source / LANGUAGE)
    for name, value in load_file(base / SHARED).items():
        new_name, tensor = from_mistral(name, value) if is_vision(name) else (name, value)
        tensors[new_name] = tensor
    return tensors


def hugging_face_folder(target: Path, base: Path = BASE, candidate: Path | None = None) -> Path:
    """A folder with Hugging Face names throughout, for transformers and llm-compressor."""
    target.mkdir(parents=True, exist_ok=True)
    source = candidate or base
    write_tensors(target / "model.safetensors", hugging_face_tensors(source, base))
    for path in base.glob("*.json"):
        if path.name != INDEX:
            shutil.copy(path, target / path.name)
    shutil.copy(source / "config.json", target / "config.json")
    return target


def load_committed(model: torch.nn.Module, base: Path = BASE) -> None:
    """Give a model in memory the weights of a repository folder."""
    tensors = hugging_face_tensors(base, base)
    # The head is the embedding, so it is nowhere stored.
    names = [name for name in model.state_dict() if "lm_head" not in name]
    model.load_state_dict({name: tensors[repository_name(name)].float() for name in names}, strict=False)


def served_folder(target: Path, candidate: Path | None = None, base: Path = BASE) -> Path:
    """A folder vLLM can serve: the candidate's own files, the base's for everything else, as links."""
    target.mkdir(parents=True, exist_ok=True)
    files = {path.name: path for path in base.iterdir()}
    files |= {path.name: path for path in candidate.iterdir()} if candidate else {}
    for name, path in files.items():
        link = target / name
        link.unlink(missing_ok=True)
        link.symlink_to(path.resolve())
    return target


def main() -> None:
    """Export the newest checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=ROOT / ".training" / "settle.pt")
    parser.add_argument("--out", type=Path, default=BASE)
    options = parser.parse_args()
    state = torch.load(options.checkpoint, weights_only=True)
    write_base(state.get("mean", state["model"]), options.out)
    print(f"step {state['step']} → {options.out}")


if __name__ == "__main__":
    main()
