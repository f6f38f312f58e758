"""The memory plan: a model or a pair, what it weighs, and what fits on which hardware. Blocking; reads headers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.core.errors import InputError, PreparationError
from components.core.memory_plan import ARRANGEMENTS, ModelMemory, Spread, Use, image_tokens
from components.core.model_names import ACCEPTED, REPO_ID, checked_model_name
from components.engines.catalog import Catalog, CatalogEntry
from components.engines.model_memory import ModelMemoryReader
from components.profiles.loader import load_hardware
from components.profiles.memory_fit import HardwareFit, hardware_table, use_of
from components.profiles.schema import FolderSource, HubSource, PairProfile, ServeSettings

_SIZES = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
_FIELDS = ("users", "context", "kv_cache_dtype", "arrangement", *_SIZES)
_LIMITS = {"users": 1024, "context": 1_048_576, **dict.fromkeys(_SIZES, 64)}
_KV_TYPES = ("auto", "fp8", "fp8_e4m3", "fp8_e5m2")
# The use cases of card 001, width × height in pixels.
PICTURES = ((1680, 2240), (640, 480), (480, 360))


@dataclass(frozen=True)
class MemoryPlan:
    """What was planned, with what."""

    named: str
    models: tuple[tuple[ModelMemory, ServeSettings], ...]
    use: Use
    kv_cache_dtype: str
    fits: tuple[HardwareFit, ...]
    picture_tokens: tuple[tuple[int, int, int], ...]  # width, height, tokens; empty for a text model
    asked: tuple[str, ...] = ()  # what was wished otherwise than in the profile, as field=value
    pair: PairProfile | None = None  # of the catalog
    paths: Mapping[str, str] = field(default_factory=dict)  # by model: what vLLM could be given as it is

    @property
    def is_pair(self) -> bool:
        """Whether a base and a candidate were planned together."""
        return len(self.models) > 1

    @property
    def named_candidate(self) -> str:
        """Id of the candidate in its pair."""
        return self.models[-1][0].name.rpartition("/")[2]


@dataclass(frozen=True)
class _Wish:
    users: int
    context: int | None
    kv_dtype: str | None
    spread: Spread

    @property
    def asked(self) -> tuple[str, ...]:
        """As settings of ``serve``."""
        given = {
            "max_model_len": self.context, "kv_cache_dtype": self.kv_dtype,
            "tensor_parallel_size": self.spread.tensor,
            "pipeline_parallel_size": self.spread.pipeline if self.spread.pipeline > 1 else None,
            "data_parallel_size": self.spread.replicas if self.spread.replicas > 1 else None,
        }  # fmt: skip
        return tuple(f"{name}={value}" for name, value in given.items() if value is not None)


class MemoryPlanner:
    """Makes memory plans."""

    def __init__(self, catalog: Catalog, reader: ModelMemoryReader, profiles: Path) -> None:
        self._catalog, self._reader, self._profiles = catalog, reader, profiles

    def choices(self) -> list[tuple[str, str]]:
        """What of the catalog can be named, with a label: each candidate with its base, and each base alone."""
        entries = [entry for entry in self._catalog.entries() if entry.model.source.kind != "remote"]
        return [
            (
                entry.engine_id,
                f"{entry.pair.title}: {entry.model.label}" + ("" if _is_base(entry) else " beside its base"),
            )
            for entry in sorted(entries, key=lambda entry: (entry.pair.title, _is_base(entry)))
        ]

    def plan(self, named: str, options: Mapping[str, Any], *, default: str, may_read: bool) -> MemoryPlan:
        """The plan of a model of the catalog (a candidate: beside its base), of a repository or of a folder.

        Args:
            named: see ``ACCEPTED``; a pair stands for its first candidate. "" = ``default``.
            options: users (count), context (tokens of each user), kv_cache_dtype, and how models lie on the GPUs:
                arrangement and three parallel sizes. What is left out is the profile's, or as it fits.
            may_read: whether the caller may have folders of this machine and the hub read.

        Raises:
            InputError: names the field and what is accepted.
        """
        wish, named = _read_options(options), checked_model_name(named) or default
        try:
            models, limit = self._models(named, may_read)
            entries = self._entries(named)
        except PreparationError as exc:
            raise InputError(exc.message, exc.hint, field="model", detail=exc.detail) from exc
        serve = models[-1][1]
        use = use_of(serve, users=wish.users, context=wish.context, kv_dtype=wish.kv_dtype, spread=wish.spread)
        hardware, _ = load_hardware(self._profiles)
        patch = models[0][0].architecture.patch
        return MemoryPlan(
            named=named, models=models, use=use, kv_cache_dtype=wish.kv_dtype or serve.kv_cache_dtype,
            fits=hardware_table(models, use, hardware, kv_dtype=wish.kv_dtype),
            picture_tokens=_picture_tokens(limit, patch), asked=wish.asked, pair=entries[0].pair if entries else None,
            paths=_paths(entries) if entries else {models[0][0].name: named},
        )  # fmt: skip

    def _models(self, named: str, may_read: bool) -> tuple[tuple[tuple[ModelMemory, ServeSettings], ...], int | None]:
        """Models with their settings, and the pixels to which pictures are scaled."""
        entries = self._entries(named)
        if entries:
            found = tuple((self._known(entry), entry.pair.serve_of(entry.model)) for entry in entries)
            return found, entries[0].pair.max_image_size
        if not may_read:
            raise InputError(
                f"{named[:100]!r} is no model of this page.", "Sign in to have others read.", field="model"
            )
        if named.startswith("/"):
            return ((self._reader.of_folder(Path(named)), ServeSettings()),), None
        if not REPO_ID.fullmatch(named):
            raise InputError(f"There is no model {named[:100]!r}.", ACCEPTED, field="model")
        return ((self._reader.of_repository(named), ServeSettings()),), None

    def _entries(self, named: str) -> Sequence[CatalogEntry]:
        of_pair = self._catalog.of_pair(named)
        if of_pair:
            return of_pair[:2]
        found = [entry for entry in self._catalog.entries() if entry.engine_id == named]
        return found if not found or _is_base(found[0]) else [self._catalog.of_pair(found[0].pair.id)[0], found[0]]

    def _known(self, entry: CatalogEntry) -> ModelMemory:
        memory = self._reader.of_entry(entry)
        if memory is None:
            hint = "Name its repository or its folder instead."
            raise InputError(f"The shape of {entry.engine_id} is not known here.", hint, field="model")
        return memory


def _paths(entries: Sequence[CatalogEntry]) -> dict[str, str]:
    """Of models that need no preparation."""
    found = {}
    for entry in entries:
        source = entry.model.source
        if isinstance(source, HubSource) and entry.model.prepare == "none":
            found[entry.engine_id] = source.repo_id
        elif isinstance(source, FolderSource) and entry.model.prepare == "none":
            found[entry.engine_id] = source.folder
    return found


def _picture_tokens(limit: int | None, patch: int | None) -> tuple[tuple[int, int, int], ...]:
    if limit is None or patch is None:
        return ()
    return tuple((width, height, image_tokens(width, height, limit, patch)) for width, height in PICTURES)


def _is_base(entry: CatalogEntry) -> bool:
    return entry.model.role == "base"


def _read_options(options: Mapping[str, Any]) -> _Wish:
    if not isinstance(options, Mapping):
        raise InputError("options is an object.", f"Accepted: {', '.join(_FIELDS)}.", field="options")
    unknown = sorted(set(options) - set(_FIELDS))
    if unknown:
        raise InputError(f"There is no option {unknown[0]!r}.", f"Accepted: {', '.join(_FIELDS)}.", field=unknown[0])
    kv_dtype = options.get("kv_cache_dtype") or None
    if kv_dtype is not None and kv_dtype not in _KV_TYPES:
        raise InputError("That is no type of KV cache.", f"Accepted: {', '.join(_KV_TYPES)}.", field="kv_cache_dtype")
    arrangement = next((one for one in ARRANGEMENTS if one == (options.get("arrangement") or "auto")), None)
    if arrangement is None:
        raise InputError("That is no arrangement.", f"Accepted: {', '.join(ARRANGEMENTS)}.", field="arrangement")
    tensor, pipeline, replicas = (_count(options, name) for name in _SIZES)
    spread = Spread(arrangement, tensor, pipeline or 1, replicas or 1)
    return _Wish(_count(options, "users") or 1, _count(options, "context"), kv_dtype, spread)


def _count(options: Mapping[str, Any], name: str) -> int | None:
    value = options.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value[:20])
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LIMITS[name]:
        raise InputError(f"{name} is a whole number.", f"Accepted: 1 to {_LIMITS[name]}.", field=name)
    return value
