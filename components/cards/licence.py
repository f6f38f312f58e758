"""The licence that a model's own files tell: the head of its README.md, as the hub writes it."""

from __future__ import annotations

import yaml

from components.engines.prepare_files import Files

_CARD = "README.md"


def licence_in(files: Files) -> str | None:
    """Its name as it stands there; None where no file tells one, or the file can't be read."""
    from huggingface_hub import metadata_load  # not at import: the app starts without it

    if _CARD not in files:
        return None
    try:
        licence = (metadata_load(files[_CARD]) or {}).get("license")
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return licence if isinstance(licence, str) and licence else None
