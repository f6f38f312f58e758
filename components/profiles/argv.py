"""A model of a pair to vLLM's exact command line and environment. Pure: reads no file, no clock, no environment.

Flags and variables are allow-listed (reliability T2): there is no way to pass others, and every value travels inside
its own ``--flag=value`` element, so that no value can become a flag. What is left out on purpose is as important: no
``--trust-request-*``, no TCP port, and, but for vLLM's sleep mode, none of the variables that open development routes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from components.core.errors import InputError
from components.profiles.schema import HubSource, ModelProfile, PairProfile, RemoteSource, ServeSettings

MAX_SOCKET_PATH_BYTES = 99  # the kernel's 108 less what vLLM adds for its own sockets

INHERITED_VARIABLES = frozenset(
    {
        "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD",
        "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME",
        "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
        "HF_HOME", "HF_HUB_CACHE",
        "VLLM_USE_FLASHINFER_SAMPLER",  # 0 is the way out on a GPU machine without nvcc
    }
)  # fmt: skip
# On CPU vLLM gives the model a process of its own, and while it computes the scheduler's process spins on shared memory
# (and the other way round): of two cores two engines keep four busy. In one process nothing spins; "uni" alone is
# overruled by vllm/platforms/cpu.py for OpenMP's settings, which come from the environment here.
IN_PROCESS_EXECUTOR = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
# Which cluster an engine's workers are started in, and how this machine is reached there.
_RAY_VARIABLES = frozenset({"RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "VLLM_HOST_IP"})
# Token ids go in as they are (/inference/v1/generate), and the extension writes down the hidden states they give.
SCORING_FLAGS = ("--enable-scale-out", "--worker-extension-cls=diptych_scoring.extension.ScoringExtension")
# The V1 runner, whose functions the extension knows; on a GPU vLLM would choose V2.
_SCORING_ENVIRONMENT = MappingProxyType({"VLLM_USE_V2_MODEL_RUNNER": "0"})
# /sleep and /wake_up are development routes, as are others that run code: open only to who may reach the socket, which
# lies in a private folder.
_SLEEP_ENVIRONMENT = MappingProxyType({"VLLM_SERVER_DEV_MODE": "1"})
_REPO_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?")
_NOTHING_INHERITED: Mapping[str, str] = MappingProxyType({})


class EngineCommand(BaseModel):
    """What to run for one engine. The key is in ``env`` only: command lines are readable by every local account."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    argv: tuple[str, ...] = Field(description="Program and arguments; never passed through a shell")
    env: dict[str, str] = Field(description="The whole environment of the process", repr=False)


def engine_command(
    pair: PairProfile,
    model: ModelProfile,
    *,
    model_path: str,
    socket: Path,
    device: Literal["cpu", "cuda"],
    python: Path,
    api_key: str,
    cache_root: Path,
    hook_path: Path | None,
    exchange: Path | None,
    cpu_threads: int,
    inherited: Mapping[str, str] = _NOTHING_INHERITED,
    gpu_memory_utilization: float | None = None,
) -> EngineCommand:
    """The command of one engine.

    Args:
        pair, model: the profile; ``model`` is one of the pair's.
        model_path: absolute path of the prepared folder, or the repository's id to let vLLM read the hub's cache.
        socket: Unix socket to listen on; its path must stay under 100 bytes.
        device: what vLLM runs on.
        python: interpreter that has vLLM.
        api_key: random key that the routes under /v1 ask for.
        cache_root: private folder of vLLM's caches (they hold code).
        hook_path: folder of our code inside vLLM's processes (import hook, scoring extension), or None.
        exchange: folder through which scored engines and the app hand each other files; None = no exact scoring.
        cpu_threads: OpenMP threads of this engine on CPU, count.
        inherited: our own environment; only ``INHERITED_VARIABLES`` pass.
        gpu_memory_utilization: share of each GPU's memory for this engine where several share it; None = the profile's.

    Raises:
        InputError: the model runs elsewhere, or an argument can't be part of a command line.
    """
    if isinstance(model.source, RemoteSource):
        raise InputError(f"{pair.engine_id(model)} runs on a remote server; there is nothing to start here.")
    offline = _check_paths(model_path, socket)
    serve = pair.serve_of(model)
    if gpu_memory_utilization is not None:
        serve = serve.model_copy(update={"gpu_memory_utilization": gpu_memory_utilization})
    argv = [str(python), "-m", "vllm.entrypoints.openai.api_server", f"--model={model_path}"]
    if not offline and isinstance(model.source, HubSource) and model.source.revision:
        argv += [f"--revision={model.source.revision}", f"--tokenizer-revision={model.source.revision}"]
    argv += [f"--served-model-name={pair.engine_id(model)}", f"--uds={socket}"]
    argv += [*model_flags(serve), *capacity_flags(serve, device), *_request_flags(pair, serve)]
    env = {name: value for name, value in inherited.items() if name in INHERITED_VARIABLES}
    env |= _environment(api_key, cache_root, hook_path, offline)
    if device == "cuda" and serve.distributed_executor_backend == "ray":
        env |= {name: value for name, value in inherited.items() if name in _RAY_VARIABLES}
    if sleeps(pair, model, device):
        argv.append("--enable-sleep-mode")
        env |= _SLEEP_ENVIRONMENT
    if exchange is not None:
        argv += SCORING_FLAGS
        env |= _SCORING_ENVIRONMENT | {"DIPTYCH_EXCHANGE": str(exchange)}
    if device == "cpu":
        env |= _cpu_environment(serve, cpu_threads)
    return EngineCommand(argv=tuple(argv), env=env)


def _check_paths(model_path: str, socket: Path) -> bool:
    """Whether the model is a folder, which vLLM needs no hub for."""
    offline = Path(model_path).is_absolute()
    if not offline and not _REPO_ID.fullmatch(model_path):
        hint = "Accepted: an absolute path, or owner/name of a repository."
        raise InputError(f"{model_path!r} is no model.", hint, field="model_path")
    if len(str(socket).encode()) > MAX_SOCKET_PATH_BYTES:
        hint = "Choose a state directory with a shorter path."
        raise InputError(f"The path of the socket is longer than {MAX_SOCKET_PATH_BYTES} bytes: {socket}", hint)
    return offline


def sleeps(pair: PairProfile, model: ModelProfile, device: Literal["cpu", "cuda"]) -> bool:
    """Whether an engine is run with vLLM's sleep mode, which there is on GPUs only."""
    return device == "cuda" and pair.placement == "alternately" and pair.serve_of(model).sleep_level > 0


def model_flags(serve: ServeSettings) -> list[str]:
    """How the files are read."""
    flags = [
        f"--tokenizer-mode={serve.tokenizer_mode}",
        f"--config-format={serve.config_format}",
        f"--load-format={serve.load_format}",
        f"--dtype={serve.dtype}",
    ]
    if serve.quantization:
        flags.append(f"--quantization={serve.quantization}")
    if serve.trust_remote_code:
        flags.append("--trust-remote-code")
    return flags


def capacity_flags(serve: ServeSettings, device: Literal["cpu", "cuda"]) -> list[str]:
    """How much is computed at once, and in how much memory; the memory plan shows the same."""
    flags = [
        f"--max-model-len={serve.max_model_len}",
        f"--kv-cache-dtype={serve.kv_cache_dtype}",
        f"--max-num-seqs={serve.max_num_seqs}",
        _switch("enable-prefix-caching", serve.enable_prefix_caching),
        _switch("enable-chunked-prefill", serve.enable_chunked_prefill),
        _switch("enforce-eager", serve.enforce_eager),
    ]
    if serve.max_num_batched_tokens:
        flags.append(f"--max-num-batched-tokens={serve.max_num_batched_tokens}")
    if device == "cuda":
        flags.append(f"--gpu-memory-utilization={serve.gpu_memory_utilization}")
        flags.append(f"--tensor-parallel-size={serve.tensor_parallel_size}")
        if serve.pipeline_parallel_size > 1:
            flags.append(f"--pipeline-parallel-size={serve.pipeline_parallel_size}")
        if serve.data_parallel_size > 1:
            flags.append(f"--data-parallel-size={serve.data_parallel_size}")
        flags += ["--disable-custom-all-reduce"] if serve.disable_custom_all_reduce else []
        if serve.distributed_executor_backend:
            flags.append(f"--distributed-executor-backend={serve.distributed_executor_backend}")
    else:
        flags.append(f"--distributed-executor-backend={IN_PROCESS_EXECUTOR}")
    return flags


def _request_flags(pair: PairProfile, serve: ServeSettings) -> list[str]:
    """What a request may ask for (reliability sections 6.3 and 8)."""
    defaults = json.dumps({"temperature": pair.sampling.temperature}, separators=(",", ":"))
    flags = [
        f"--max-logprobs={serve.max_logprobs}",
        f"--generation-config={serve.generation_config}",
        f"--override-generation-config={defaults}",
        "--allowed-media-domains=invalid.invalid",  # pictures come as data: URLs only; vLLM fetches nothing
        "--disable-fastapi-docs",
        "--enable-prompt-tokens-details",  # image and cached tokens are counted by the server itself
        "--disable-access-log-for-endpoints=/health,/v1/models,/version,/metrics",  # polled every second
        "--shutdown-timeout=10",
    ]
    if pair.vision:
        limit = json.dumps({"image": pair.max_images}, separators=(",", ":"))
        flags.append(f"--limit-mm-per-prompt={limit}")
    if serve.tool_call_parser:
        flags.append(f"--tool-call-parser={serve.tool_call_parser}")
    if serve.enable_auto_tool_choice:
        flags.append("--enable-auto-tool-choice")
    return flags


def _switch(name: str, on: bool) -> str:
    return f"--{name}" if on else f"--no-{name}"


def _environment(api_key: str, cache_root: Path, hook_path: Path | None, offline: bool) -> dict[str, str]:
    env = {
        "VLLM_API_KEY": api_key,
        "VLLM_CACHE_ROOT": str(cache_root),
        # Compiled code is code: it stays in our private folder, not under a name anybody can guess in /tmp (T11).
        "TORCHINDUCTOR_CACHE_DIR": str(cache_root / "inductor"),
        "TRITON_CACHE_DIR": str(cache_root / "triton"),
        "VLLM_MAX_N_SEQUENCES": "8",
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        "VLLM_MAX_IMAGE_PIXELS": "40000000",  # as our own limit of an upload; nothing larger is ever sent
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if offline:
        env |= {"HF_HUB_OFFLINE": "1"}
    if hook_path is not None:
        env |= {"PYTHONPATH": str(hook_path)}
    return env


def _cpu_environment(serve: ServeSettings, cpu_threads: int) -> dict[str, str]:
    """``nobind``: vLLM's own choice ties every engine to the same cores, which would halve two engines side by side.

    Without binding the worker takes OMP_NUM_THREADS as it is (vllm/utils/ompmultiprocessing.py).
    """
    return {
        "VLLM_CPU_KVCACHE_SPACE": str(serve.cpu_kv_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(cpu_threads),
        # Nothing is compiled while serving: no C++ compiler is needed, and the first answer does not wait for one.
        "TORCHDYNAMO_DISABLE": "1",
    }
