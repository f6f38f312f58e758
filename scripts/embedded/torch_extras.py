"""Makes transformers importable beside CPU torch where only the CUDA builds of torchvision and torchaudio can be had.

Their C++ parts cannot load there: `import torchvision` stops at "operator torchvision::nms does not exist" and
`import torchaudio` at a missing CUDA library. transformers needs torchvision for image transforms only, which are
plain torch, and torchaudio not at all. Where the proper builds are present this changes nothing.
"""

from __future__ import annotations

import importlib.util
import sys

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept_alive: list[torch.library.Library] = []


def prepare() -> None:
    """Declare torchvision's missing operators and hide a torchaudio that cannot load; call it before transformers."""
    if not _imports("torchvision") and not _kept_alive:
        library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            library.define(schema)
        _kept_alive.append(library)
    for name in ("torchaudio", "torchcodec"):
        if not _imports(name):
            sys.modules[name] = None  # type: ignore[assignment]  # find_spec then says "not installed"


def _imports(name: str) -> bool:
    """Whether a package is absent or imports cleanly; a half-imported one is removed again."""
    if name in sys.modules:
        return sys.modules[name] is not None
    if importlib.util.find_spec(name) is None:
        return True
    try:
        importlib.import_module(name)
    except (RuntimeError, OSError, ImportError):
        for loaded in [module for module in sys.modules if module.split(".")[0] == name]:
            del sys.modules[loaded]
        return False
    return True
