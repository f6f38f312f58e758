"""What a model weighs: from its files' headers, from the hub's without a download, or from published figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from components.core.errors import InputError, PreparationError
from components.core.memory_plan import ModelMemory, WeightPart, memory_of_figures
from components.core.model_shape import architecture_of
from components.engines.catalog import CatalogEntry
from components.engines.prepare import ModelPreparer
from components.engines.prepare_files import INDEX, Files, list_files, read_json, read_shards, served_files
from components.engines.prepare_hub import remote_headers
from components.engines.tensor_parts import part_of
from components.profiles.schema import HubSource
from components.profiles.strict_yaml import parse

Header = tuple[str, str, int]  # a tensor's name, its type, its bytes


class ModelMemoryReader:
    """Reads headers and figures; never a weight."""

    def __init__(self, preparer: ModelPreparer, published: Path, hub_token: str | None = None) -> None:
        self._preparer, self._hub_token = preparer, hub_token
        self._published: Mapping[str, Any] = parse(published.read_bytes(), published.name).plain()

    def of_entry(self, entry: CatalogEntry) -> ModelMemory | None:
        """A model of the catalog: from its files where they are here, else by formula; None where neither is known.

        Raises:
            PreparationError: its files are damaged.
        """
        if entry.model.source.kind == "remote":
            return None
        files = self._preparer.files_at_hand(entry.pair, entry.model)
        if files is not None:
            return memory_of_files(entry.engine_id, files)
        base = entry.pair.base
        name = base.source.repo_id if isinstance(base.source, HubSource) else entry.pair.engine_id(base)
        figures = self._published.get(name)
        return memory_of_figures(entry.engine_id, figures, entry.model.scheme) if figures else None

    def of_folder(self, folder: Path) -> ModelMemory:
        """A model folder of this machine.

        Raises:
            PreparationError: it is no whole model in safetensors. InputError: its config.json lacks a figure.
        """
        return memory_of_files(folder.name, served_files(list_files(folder), consolidated=False))

    def of_repository(self, repo_id: str, endpoint: str | None = None) -> ModelMemory:
        """A repository of the hub, by its headers and its config.json alone; some seconds.

        Raises:
            PreparationError: it can't be reached, is gated, or holds no safetensors. InputError: a figure is missing.
        """
        headers, config = remote_headers(repo_id, self._hub_token, endpoint)
        return ModelMemory(repo_id, weight_parts(headers), architecture_of(config), "hub")


def memory_of_files(name: str, files: Files) -> ModelMemory:
    """From files that are here.

    Raises:
        PreparationError: they are damaged. InputError: config.json lacks a figure.
    """
    config = files.get("config.json") or files.get("params.json")
    if config is None:
        raise PreparationError(f"{name} has no config.json.", "A model folder in Hugging Face's format is needed.")
    weight_map = read_json(files[INDEX]).get("weight_map", {}) if INDEX in files else {}
    headers = [
        (tensor.name, tensor.dtype, tensor.size_bytes)
        for file, tensors in read_shards(files).items()
        for tensor in tensors.values()
        if weight_map.get(tensor.name, file) == file
    ]
    return ModelMemory(name, weight_parts(headers), architecture_of(read_json(config)), "files")


def weight_parts(headers: Iterable[Header]) -> tuple[WeightPart, ...]:
    """Sizes by part and type of number, the largest first.

    Raises:
        InputError: there is no tensor at all.
    """
    sizes: dict[tuple[str, str], int] = {}
    for name, dtype, size in headers:
        key = (part_of(name), dtype)
        sizes[key] = sizes.get(key, 0) + size
    if not sizes:
        raise InputError("The model has no weights.", field="model")
    ordered = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    return tuple(WeightPart(part, dtype, size) for (part, dtype), size in ordered)
