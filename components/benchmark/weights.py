"""How large the weights are that a server loads."""

from __future__ import annotations

from pathlib import Path

_MISTRAL = "consolidated"


def weights_bytes(folder: Path) -> int:
    """Bytes of the .safetensors files of a prepared folder, of one format where it holds two.

    Mistral's repositories carry the same weights as ``consolidated*`` and as Hugging Face's files.
    """
    files = sorted(folder.glob("*.safetensors"))
    own = [file for file in files if not file.name.startswith(_MISTRAL)]
    return sum(file.stat().st_size for file in own or files)
