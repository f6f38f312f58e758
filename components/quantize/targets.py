"""Which model is meant: a pair's base, a repository of a hub, or a folder of this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import InputError, PreparationError
from components.core.model_names import ACCEPTED, REPO_ID, checked_model_name
from components.engines.catalog import Catalog
from components.engines.prepare import ModelPreparer
from components.engines.prepare_files import Files, list_files, read_json, served_files
from components.profiles.schema import FolderSource, HubSource, ModelProfile, PairProfile, ServeSettings

_VISION = frozenset({"Mistral3ForConditionalGeneration", "LlavaForConditionalGeneration"})


@dataclass(frozen=True)
class Target:
    """The base to quantize, in a pair of the catalog or in one made for it."""

    name: str  # as a person knows it
    pair: PairProfile
    model: ModelProfile
    in_catalog: bool
    files: Files | None  # None: they have to be fetched or converted first
    repo_id: str | None = None

    @property
    def offline(self) -> bool:
        """Whether it comes with Diptych, so that its data should too."""
        return self.model.source.kind in ("local", "pypi-gguf")


def find_target(named: str, catalog: Catalog, default_pair: str, preparer: ModelPreparer) -> Target:
    """The model that a spec names; "" = the base of the running pair.

    Raises:
        InputError: it is no model, or one that can't be quantized; the field is ``model``.
    """
    named = checked_model_name(named) or default_pair
    try:
        return _in_catalog(named, catalog, preparer) or _elsewhere(named)
    except PreparationError as exc:
        raise InputError(exc.message, exc.hint, field="model", detail=exc.detail) from exc


def _in_catalog(named: str, catalog: Catalog, preparer: ModelPreparer) -> Target | None:
    for entry in catalog.entries():
        source = entry.model.source
        is_base = entry.model.role == "base"
        repo_id = source.repo_id if isinstance(source, HubSource) else None
        meant = named == entry.engine_id or (is_base and named in (entry.pair.id, repo_id))
        if not meant:
            continue
        if not is_base:
            base = entry.pair.engine_id(entry.pair.base)
            hint = f"Name its base instead: {base}."
            raise InputError(f"{named} is quantized already ({entry.model.scheme}).", hint, field="model")
        if source.kind == "remote":
            raise InputError(f"{named} runs elsewhere; its files are not here.", ACCEPTED, field="model")
        files = preparer.files_at_hand(entry.pair, entry.model)
        return Target(entry.engine_id, entry.pair, entry.model, True, files, repo_id)
    return None


def _elsewhere(named: str) -> Target:
    if named.startswith("/"):
        return _folder(Path(named))
    if not REPO_ID.fullmatch(named):
        raise InputError(f"There is no model {named[:100]!r}.", ACCEPTED, field="model")
    from components.engines.prepare_hub import cached_snapshot, weight_patterns

    source = HubSource(kind="hub", repo_id=named)
    snapshot = cached_snapshot(source, weight_patterns(consolidated=False))
    files = None if snapshot is None else served_files(list_files(snapshot), consolidated=False)
    return _target_of(named, source, files, repo_id=named)


def _folder(path: Path) -> Target:
    if not path.is_dir():
        raise InputError(f"There is no folder {path}.", ACCEPTED, field="model")
    files = served_files(list_files(path), consolidated=False)
    if "config.json" not in files:
        raise InputError(
            f"{path} has no config.json.", "A model folder in Hugging Face's format is needed.", field="model"
        )
    return _target_of(path.name, FolderSource(kind="folder", folder=str(path.resolve())), files)


def _target_of(name: str, source: HubSource | FolderSource, files: Files | None, repo_id: str | None = None) -> Target:
    config = read_json(files["config.json"]) if files and "config.json" in files else {}
    if config.get("quantization_config"):
        raise InputError(f"{name} is quantized already.", "Name the model it was made from.", field="model")
    vision = (config.get("architectures") or [""])[0] in _VISION
    mistral = files is not None and {"params.json", "tekken.json"} <= set(files)
    how = "mistral" if mistral else "hf"
    serve = ServeSettings(tokenizer_mode=how, config_format=how, max_model_len=4096)
    slug = re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip("-.")[:48] or "model"
    model = ModelProfile(
        id="base", role="base", label="Base (BF16)", scheme="BF16", source=source, description=f"{name}, as it is.",
        prepare="mistral-vision-names" if mistral and vision else "none",
    )  # fmt: skip
    pair = PairProfile(
        schema_version=1, kind="pair", id=f"made-{slug}", title=name[:80],
        description=f"{name}, and what was made of it.",
        vision=vision, max_image_size=_image_limit(files) if vision else None, max_images=1 if vision else 0,
        serve=serve, models=(model,),
    )  # fmt: skip
    return Target(name, pair, model, False, files, repo_id)


def _image_limit(files: Files | None) -> int:
    """Longer side that the model's own tokenizer or processor scales pictures to, pixels."""
    for name, keys in (("tekken.json", ("image", "multimodal")), ("preprocessor_config.json", ("size",))):
        document = read_json(files[name]) if files and name in files else {}
        for key in keys:
            found = document.get(key) or {}
            limit = found.get("max_image_size") or found.get("longest_edge")
            if isinstance(limit, int) and 56 <= limit <= 4096:
                return limit
    return 1024
