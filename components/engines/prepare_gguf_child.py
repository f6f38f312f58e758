"""Child process: dequantizes a GGUF file to a BF16 checkpoint. ``python prepare_gguf_child.py FOLDER FILE TARGET``.

Must import nothing of Diptych: it runs by path, with the server's interpreter.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Loads, drops every trace of quantization from the configuration, and saves model, tokenizer and licence."""
    folder, file, target = sys.argv[1:]
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    if hasattr(model.config, "quantization_config"):  # depends on the version of transformers
        del model.config.quantization_config
    model.is_quantized = False
    model.hf_quantizer = None
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(target)
    _write_licence(Path(folder) / file, Path(target))


def _write_licence(gguf: Path, target: Path) -> None:
    """As the head of a README.md, where a downloaded model has it too; nothing where the file names none."""
    from gguf import GGUFReader
    from huggingface_hub import ModelCard, ModelCardData

    named = GGUFReader(gguf).get_field("general.license")
    if named is not None:
        data = ModelCardData(license=str(named.contents()))
        ModelCard(f"---\n{data.to_yaml()}\n---\nDequantized to BF16 from a GGUF file.\n").save(target / "README.md")


if __name__ == "__main__":
    main()
