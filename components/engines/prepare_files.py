"""The files of a checkpoint: which belong to it, whether they are whole and safe (F44), and linking them together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from components.core.errors import PreparationError
from components.engines.prepare_shards import Tensor, read_header

Files = dict[str, Path]  # name in the model folder → where it lies

INDEX = "model.safetensors.index.json"
_CONSOLIDATED = "consolidated"
_PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})
_WEIGHTS = _PICKLES | {".safetensors", ".gguf", ".onnx", ".h5", ".msgpack"}
_HASHED_BYTES = 64 * 1024 * 1024


def list_files(folder: Path) -> Files:
    """The files of a model folder; sub-folders and hidden files are no part of it.

    Raises:
        PreparationError: there is no such folder.
    """
    if not folder.is_dir():
        raise PreparationError(
            f"The model folder {folder} does not exist.",
            "Correct source.folder in the pair's profile, or put the model there.",
            detail=str(folder),
        )
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")}


def served_files(files: Mapping[str, Path], *, consolidated: bool) -> Files:
    """The files that a server of this checkpoint may see: its shards and the small files beside them.

    Args:
        files: all of the folder.
        consolidated: take Mistral's own ``consolidated*.safetensors`` instead of the Hugging Face shards.

    Raises:
        PreparationError: pickled weights, no weights at all, or a shard of the index is missing (F44).
    """
    pickles = [name for name in files if Path(name).suffix in _PICKLES]
    if pickles:
        raise PreparationError(
            f"{pickles[0]} is a pickle file, which can run code when it is loaded.",
            "Only safetensors are served. Convert the weights, or remove the file if it holds none.",
        )
    shards = _shards(files, consolidated=consolidated)
    small = {name: path for name, path in files.items() if Path(name).suffix not in _WEIGHTS}
    return small | {name: files[name] for name in shards}


def _shards(files: Mapping[str, Path], *, consolidated: bool) -> list[str]:
    index = f"{_CONSOLIDATED}.safetensors.index.json" if consolidated else INDEX
    if index in files:
        listed = sorted(set(_weight_map(files[index]).values()))
        missing = [name for name in listed if name not in files]
        if missing:
            raise PreparationError(
                f"{missing[0]} is missing: {index} lists it"
                + (f", and {len(missing) - 1} more." if missing[1:] else "."),
                "Download or copy the model again.",
            )
        return listed
    found = [n for n in files if n.endswith(".safetensors") and n.startswith(_CONSOLIDATED) == consolidated]
    if not found:
        wanted = "consolidated.safetensors" if consolidated else "*.safetensors"
        raise PreparationError(
            f"The model folder has no {wanted}.",
            f"It has: {', '.join(sorted(files)[:12]) or 'nothing'}. Check load_format and the source in the profile.",
        )
    return found


def _weight_map(path: Path) -> dict[str, str]:
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not all(_is_plain(name) for name in weight_map.values()):
        raise PreparationError(f"{path.name} is not an index of shards.", "Download or copy the file again.")
    return weight_map


def _is_plain(name: object) -> bool:
    """Whether it names a file of the folder itself (F45)."""
    return isinstance(name, str) and name == Path(name).name and name.endswith(".safetensors")


def read_shards(files: Mapping[str, Path]) -> dict[str, dict[str, Tensor]]:
    """Tensors of every shard; raises PreparationError for one that is not whole."""
    return {name: read_header(path) for name, path in files.items() if name.endswith(".safetensors")}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        PreparationError: it is none.
    """
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as exc:
        raise PreparationError(f"{path.name} can't be read.", "Fetch the file again.", detail=repr(exc)) from exc
    if not isinstance(document, dict):
        raise PreparationError(f"{path.name} is not a JSON object.", "Fetch the file again.")
    return document


def new_index(shards: Mapping[str, Iterable[str]], size_bytes: int) -> bytes:
    """The index of the shards of a prepared folder: tensor names by file name."""
    weight_map = {name: file for file, names in shards.items() for name in names}
    return orjson.dumps(
        {"metadata": {"total_size": size_bytes}, "weight_map": weight_map},
        option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS,
    )


def identity(files: Mapping[str, Path]) -> str:
    """Hash of names and contents; of a file over 64 MiB its size and time stand for its content."""
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        stat = path.stat()
        digest.update(f"{name}\0{stat.st_size}\0".encode())
        if stat.st_size > _HASHED_BYTES:
            digest.update(str(stat.st_mtime_ns).encode())
        else:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def link_all(files: Mapping[str, Path], folder: Path) -> None:
    """Symbolic links to the files: nothing is copied, and the original can't be changed by a hard link's back door."""
    for name, path in files.items():
        (folder / name).symlink_to(path.resolve())
