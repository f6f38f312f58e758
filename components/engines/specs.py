"""Profiles → engine specs: where each engine's files, socket, log and key are, and what it needs. Starts nothing."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from components.engines.catalog import Catalog, CatalogEntry
from components.engines.memory import count_gpus
from components.engines.placement import SLEEPING_SHARE, place
from components.engines.prepare import ModelPreparer
from components.engines.sight import SightReport, check_sight
from components.engines.status import EngineSpec, LocalServer, Report
from components.engines.transport import EngineClient
from components.engines.vocabulary import Vocabulary, load_vocabulary
from components.profiles.argv import EngineCommand, engine_command, sleeps
from components.profiles.schema import RemoteSource, ServeSettings

HOOK = Path(__file__).parent / "inside_vllm"
_GIB = 1024**3
# Resident memory of a vLLM CPU engine beside weights and KV cache: Python, torch, four processes.
# About 1 GB was seen for the embedded pair.
_CPU_OVERHEAD_BYTES = int(1.2 * _GIB)


@dataclass(frozen=True)
class SpecSettings:
    """What all engines of one app share."""

    state_dir: Path
    device: Literal["cpu", "cuda"]
    python: Path
    cpu_threads: int
    gpu_count: int = 0
    gpu_names: tuple[str, ...] = ()  # by index, where CUDA_VISIBLE_DEVICES calls them otherwise: on a cluster
    inherited: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_machine(cls, state_dir: Path, gpu_names: tuple[str, ...] = ()) -> SpecSettings:
        """Those of this process's machine: its GPUs, or else its cores."""
        gpu_count = len(gpu_names) or count_gpus()
        return cls(
            state_dir=state_dir,
            device="cuda" if gpu_count else "cpu",
            python=Path(sys.executable),
            # Two engines answer at the same time: each gets half of the cores.
            cpu_threads=max(1, (os.cpu_count() or 2) // 2),
            gpu_count=gpu_count,
            gpu_names=gpu_names,
            inherited=dict(os.environ),
        )


def cpu_memory_bytes(serve: ServeSettings) -> int:
    """Of main memory that an engine on the CPU is booked with; weights are small beside it."""
    return serve.cpu_kv_cache_gib * _GIB + _CPU_OVERHEAD_BYTES


def exchange_folder(state_dir: Path) -> Path:
    """Where engines and app hand each other hidden states and results of scoring; private to this account."""
    return state_dir / "exchange"


def engine_specs(catalog: Catalog, preparer: ModelPreparer, settings: SpecSettings) -> list[EngineSpec]:
    """One spec for each engine of the catalog."""
    return [engine_spec(entry, preparer, settings) for entry in catalog.entries()]


def engine_spec(entry: CatalogEntry, preparer: ModelPreparer, settings: SpecSettings) -> EngineSpec:
    """How to run one model of the catalog."""
    source = entry.model.source
    sight = _sight_check(entry) if entry.pair.vision else None
    if isinstance(source, RemoteSource):
        key = settings.inherited.get(source.api_key_env or "")
        return EngineSpec(
            engine_id=entry.engine_id,
            served_name=source.served_model,
            connect=lambda: EngineClient(source.served_model, url=source.url, api_key=key or None),
            check_sight=sight,
        )
    local = _LocalEngine(entry, preparer, settings)
    return EngineSpec(
        engine_id=entry.engine_id,
        served_name=entry.engine_id,
        connect=local.connect,
        server=local.server(),
        check_sight=sight,
    )


def _sight_check(entry: CatalogEntry) -> Callable[[EngineClient, Report], Awaitable[SightReport]]:
    async def run(client: EngineClient, report: Report) -> SightReport:
        return await check_sight(client, entry.engine_id, vision=True, report=report)

    return run


def _weights_bytes(model_path: str, copies: int) -> int | None:
    """What the weights of a prepared folder take in main memory; None where vLLM reads the hub's cache itself."""
    return copies * sum(file.stat().st_size for file in Path(model_path).glob("*.safetensors")) or None


class _LocalEngine:
    """The parts of one engine that we run: its key is random for each app, its folder is known once prepared."""

    def __init__(self, entry: CatalogEntry, preparer: ModelPreparer, settings: SpecSettings) -> None:
        self._entry, self._preparer, self._settings = entry, preparer, settings
        self._key = secrets.token_urlsafe(24)
        name = entry.engine_id.replace("/", "--")
        self._socket = settings.state_dir / "run" / f"{name}.sock"
        self._log = settings.state_dir / "logs" / f"{name}.log"
        self._vocabulary: Vocabulary | None = None
        on_gpu = settings.device == "cuda"
        self._placement = place(entry.pair, entry.model, settings.gpu_count) if on_gpu else None

    def server(self) -> LocalServer:
        """How to run the process."""
        serve = self._entry.pair.serve_of(self._entry.model)
        placement = self._placement
        on_gpu = placement is not None
        return LocalServer(
            device=placement.device if placement else "cpu",
            prepare=self._prepare,
            command=self._command,
            socket=self._socket,
            log=self._log,
            memory_bytes=0 if on_gpu else cpu_memory_bytes(serve),
            device_share=placement.share if placement else 0.0,
            devices=tuple(f"cuda:{index}" for index in placement.gpus) if placement else (),
            expected_start_s=90.0 if on_gpu else 30.0,
            start_timeout_s=3600.0 if on_gpu else 900.0,
            takes_turns=self._entry.pair.placement == "alternately",
            sleep_level=serve.sleep_level if sleeps(self._entry.pair, self._entry.model, self._settings.device) else 0,
            sleeping_share=SLEEPING_SHARE,
            main_memory_asleep=lambda path: _weights_bytes(path, serve.data_parallel_size),
        )

    def connect(self) -> EngineClient:
        """A client of the running server."""
        return EngineClient(self._entry.engine_id, uds=self._socket, api_key=self._key, vocabulary=self._vocabulary)

    def _prepare(self, report: Report) -> str:
        path = self._preparer.prepare(self._entry.pair, self._entry.model, report)
        self._vocabulary = load_vocabulary(Path(path)) if Path(path).is_absolute() else None
        return path

    def _command(self, model_path: str) -> EngineCommand:
        settings, placement = self._settings, self._placement
        inherited = settings.inherited
        serve = self._entry.pair.serve_of(self._entry.model)
        if placement and serve.distributed_executor_backend != "ray":  # Ray hands out its GPUs itself
            names = dict(enumerate(settings.gpu_names))
            chosen = ",".join(names.get(index, str(index)) for index in placement.gpus)
            inherited = {**inherited, "CUDA_VISIBLE_DEVICES": chosen}
        return engine_command(
            self._entry.pair,
            self._entry.model,
            model_path=model_path,
            socket=self._socket,
            device=settings.device,
            python=settings.python,
            api_key=self._key,
            cache_root=settings.state_dir / "vllm-cache",
            hook_path=HOOK,
            exchange=exchange_folder(settings.state_dir),
            cpu_threads=settings.cpu_threads,
            inherited=inherited,
            gpu_memory_utilization=placement.share if placement else None,
        )
