"""Lets vLLM run on CPU torch beside CUDA builds of torch's companions; for processes with this folder on PYTHONPATH.

Where only a package index is reachable, torchvision, torchaudio and torchcodec are CUDA builds, whose compiled parts
can't load beside CPU torch: ``import torchvision`` stops at "operator torchvision::nms does not exist", the others at
a missing CUDA library. vLLM's Pixtral and Mistral 3 modules want torchvision for image transforms only, which are plain
torch, so declaring the two missing operators is enough; the other two nobody needs, so they count as not installed.

And lets vLLM's parsers of tool calls be made in 4 ms instead of 70: two are made for each request, and each compiles a
pattern for every special token. Tekken has 1,000 of them, ``regex`` remembers 500.

Must do nothing where the compiled parts load, and must cost nothing to a process that imports none of them: every
import stands inside the function that needs it. The first can go when the package index has CPU wheels of the three.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # spelt out: importing typing would cost every process some milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from pathlib import Path
    from types import ModuleType
    from typing import Any

PARSERS = "vllm.parser.engine.streaming_parser_engine"
KEPT_PATTERNS = 4096
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class CpuTorchHook:
    """A finder that acts at the first import of torch and of torchvision, and leaves all finding to the others."""

    def __init__(self) -> None:
        self.kept_alive: Any = None  # a torch Library takes its operators with it when it is collected

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Always None: only the moment matters."""
        if fullname == "torch":
            hide_broken_packages()
        elif fullname == "torchvision":
            sys.meta_path.remove(self)
            self.declare_missing_operators()
        return None

    def declare_missing_operators(self) -> None:
        """Declares the two operators unless torchvision's compiled ones load."""
        package = folder_of("torchvision")
        if package is None:
            return
        import torch

        for library in package.glob("_C*.so"):
            try:
                torch.ops.load_library(str(library))
            except OSError:
                continue
            return
        self.kept_alive = torch.library.Library("torchvision", "DEF")
        for schema in SCHEMAS:
            self.kept_alive.define(schema)


class ParserHook:
    """A finder that acts at the first import of vLLM's parsers, and leaves all finding to the others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Always None: only the moment matters."""
        if fullname == PARSERS:
            sys.meta_path.remove(self)
            remember_more_patterns()
        return None


def remember_more_patterns() -> None:
    """Raise the number of compiled patterns that ``regex`` keeps. It has no public setting."""
    try:
        from regex import _main  # type: ignore[import-untyped]
    except ImportError:  # another version of it: slower, not wrong
        return
    _main._MAXCACHE = max(KEPT_PATTERNS, getattr(_main, "_MAXCACHE", 0))  # noqa: SLF001


def hide_broken_packages() -> None:
    """Makes the CUDA builds of torchaudio and torchcodec "not installed" where torch itself is not a CUDA build."""
    if built_for_cuda("torch"):
        return
    for package in ("torchaudio", "torchcodec"):
        if built_for_cuda(package):
            sys.modules[package] = None  # type: ignore[assignment]  # the import system's own "not there"


def built_for_cuda(package: str) -> bool:
    """What the package's own version file says, such as 2.11.0+cu130."""
    folder = folder_of(package)
    version = folder / "version.py" if folder else None
    return version is not None and version.exists() and "+cu" in version.read_text(encoding="utf-8")


def folder_of(package: str) -> Path | None:
    """Where a package lies, without importing it."""
    from importlib.machinery import PathFinder
    from pathlib import Path

    spec = PathFinder.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


sys.meta_path.insert(0, ParserHook())
HOOK = CpuTorchHook()
if "torchvision" not in sys.modules:
    sys.meta_path.insert(0, HOOK)
