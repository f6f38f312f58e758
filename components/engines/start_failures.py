"""From the end of a server's log to the reason why it failed, in words, and what to do about it. Pure.

The texts are those of vLLM 0.32, torch and huggingface_hub; recorded ones are in the tests. Must not guess: an unknown
text gives its own last exception as the reason, and counts as worth another try.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

SHOWN_LINES = 50
LAST_WORDS = 5  # lines at the end that count even when they look like no error
_PREFIX = re.compile(r"^\(\S+ pid=\d+\) (?:(?:ERROR|INFO|WARNING|CRITICAL) \d\d-\d\d [\d:]+ \[[^\]]*\] ?)?")
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt)(?:: .*)?$|^Exception: .+")
_REFUSAL = re.compile(r"^\S+: error: .+|^ +Value error, .+")  # the latter is pydantic's second line
_ECHOES = re.compile(  # what the outer processes say when an inner one has failed
    r"Engine core initialization failed|WorkerProc initialization failed|EngineCore (?:failed to start|encountered)"
    r"|EngineDeadError|CancelledError|^SystemExit"
)


@dataclass(frozen=True)
class Failure:
    """Why a server is not running."""

    code: str  # stable word
    reason: str  # a sentence
    hint: str = ""
    deterministic: bool = False  # it would fail in the same way again
    log_lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Known:
    code: str
    pattern: str
    reason: str
    hint: str


_MEMORY_KNOBS = (
    "Lower max_model_len or max_num_seqs, lower gpu_memory_utilization of the engines that share the device, "
    "or set tensor_parallel_size to use more GPUs; stop other engines first."
)

# The first match counts, so the particular stands before the general.
_KNOWN = (
    _Known(
        "GPU_MEMORY_TAKEN",
        r"Free memory on device .* is less than desired GPU memory utilization",
        "Less GPU memory is free than this engine's gpu_memory_utilization asks for.",
        "Stop other engines or programs on the GPU, or lower gpu_memory_utilization in the profile.",
    ),
    _Known(
        "CONTEXT_OVER_KV_CACHE",
        r"KV cache is needed, which is larger than the available KV cache memory|to serve at least one request with",
        "One request of the full context does not fit into the KV cache.",
        "Lower max_model_len, or give the cache more memory: gpu_memory_utilization on a GPU, cpu_kv_cache_gib on a "
        "CPU.",
    ),
    _Known(
        "CONTEXT_OVER_MODEL",
        r"User-specified max_model_len .* is greater than the derived max_model_len",
        "The profile asks for a longer context than the model has.",
        "Lower max_model_len in the profile.",
    ),
    _Known(
        "OUT_OF_MEMORY",
        r"OutOfMemoryError|CUDA out of memory|CUDA error: out of memory|No available memory for the cache blocks"
        r"|Not enough memory|exceeds the available memory|MemoryError|DefaultCPUAllocator: can't allocate memory"
        r"|Available memory on node .* is less than|not enough (?:CPU )?memory",
        "There is not enough memory for the model and its KV cache.",
        _MEMORY_KNOBS,
    ),
    _Known(
        "BAD_OPTION",
        r"error: (?:unrecognized arguments|argument |the following arguments are required)",
        "vLLM does not accept an option of the command line.",
        "Correct the serve settings of the profile; they may be for another vLLM version.",
    ),
    _Known(
        "NO_KERNEL",
        r"kernel \w+ is not supported|(?:Marlin|Machete|CUTLASS|NVFP4|MXFP4|FP8)\b.* not available"
        r"|Failed to find a kernel that can implement|not supported for the current GPU|No (?:\w+ )?compressed-tensors "
        r"compatible scheme|no kernel image is available",
        "This hardware has no kernel for the model's quantization scheme.",
        "Serve another scheme, or use hardware whose profile lists this format among its native ones.",
    ),
    _Known(
        "UNKNOWN_QUANTIZATION",
        r"(?i:unknown quantization)|Quantization method specified in the model config .* does not match"
        r"|Invalid quantization method",
        "vLLM does not know the model's quantization method.",
        "Look at the quantization settings in config.json and params.json of the model folder.",
    ),
    _Known(
        "UNKNOWN_ARCHITECTURE",
        r"Model architectures .* (?:are not supported|failed to be inspected)|does not recognize this architecture",
        "This vLLM does not know the model's architecture.",
        "Check config_format in the profile, and whether the model needs a newer vLLM.",
    ),
    _Known(
        "GATED_REPOSITORY",
        r"GatedRepoError|Cannot access gated repo|gated repo",
        "The model's repository on the hub is gated.",
        "Accept its conditions on its page, then set HF_TOKEN to a token of that account.",
    ),
    _Known(
        "REPOSITORY_NOT_FOUND",
        r"RepositoryNotFoundError|RevisionNotFoundError|Repository Not Found",
        "The hub has no such repository or revision, or it is private.",
        "Check repo_id and revision in the profile, and HF_TOKEN for a private one.",
    ),
    _Known(
        "NO_NETWORK",
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|outgoing traffic has been disabled|couldn't connect to"
        r"|Name or service not known|Temporary failure in name resolution|Network is unreachable|ConnectError"
        r"|MaxRetryError|ConnectTimeout",
        "The model is not on this machine and the hub cannot be reached.",
        "Connect to the network or download the model first, then start again.",
    ),
    _Known(
        "MODEL_NOT_FOUND",
        r"HFValidationError: Repo id must|Repo id must be in the form|Cannot find any model weights"
        r"|No such file or directory: '.*(?:config\.json|params\.json|tekken\.json|safetensors)"
        r"|does not appear to have a file named|Invalid repository ID or local directory|Can't load the configuration",
        "The model's folder or one of its files is missing.",
        "Check the source of the model in the profile, and that its folder is complete.",
    ),
    _Known(
        "CORRUPT_WEIGHTS",
        r"SafetensorError|Error while deserializing|size mismatch|MetadataIncompleteBuffer|InvalidHeader"
        r"|HeaderTooLarge|weights were not initialized|There is no module or parameter named",
        "The model's weight files are damaged or do not fit its configuration.",
        "Fetch or make the model's folder again.",
    ),
    _Known(
        "ADDRESS_IN_USE",
        r"Address already in use|\[Errno 98\]",
        "The address on which the server should listen is in use.",
        "Stop the program that uses it, or choose another --state-dir or port.",
    ),
    _Known(
        "TOO_FEW_DEVICES",
        r"World size .* is larger than the number of available GPUs|No CUDA GPUs are available|invalid device ordinal"
        r"|not enough GPUs|Not enough allowed NUMA nodes",
        "The profile spreads the model over more devices than this machine has.",
        "Lower tensor_parallel_size, or use a machine with more GPUs (on a CPU: with more NUMA nodes).",
    ),
    _Known(
        "DISK_FULL",
        r"No space left on device",
        "The disk is full.",
        "Make room and start again.",
    ),
    _Known(
        "BROKEN_INSTALLATION",
        r"ModuleNotFoundError|ImportError|No module named|Could not load this library"
        r"|operator torchvision::nms does not exist",
        "A package that vLLM needs is missing or does not fit the others.",
        "Install the pinned requirements again: make run does it in a fresh clone.",
    ),
)


def explain_exit(exit_code: int, lines: Sequence[str]) -> Failure:
    """Why a server ended by itself, from its exit code and the end of its log."""
    meaningful = meaningful_lines(lines)
    # Never the whole log: its ordinary lines hold words such as "quantization_config" too.
    text = "\n".join((*meaningful, *map(plain, lines[-LAST_WORDS:])))
    shown = meaningful or tuple(lines[-SHOWN_LINES:])
    for known in _KNOWN:
        if re.search(known.pattern, text):
            return Failure(known.code, known.reason, known.hint, deterministic=True, log_lines=shown)
    if exit_code == -signal.SIGKILL:
        return Failure(
            "KILLED",
            "Something outside Diptych killed the server (SIGKILL).",
            "Often that is the system when memory runs out; look at the kernel's log.",
            log_lines=shown,
        )
    ended = _ending_in_words(exit_code)
    if meaningful:
        return Failure("CRASHED", f"The server {ended}: {plain(meaningful[0])[:300]}", log_lines=shown)
    hint = "Its log, below, has no error that Diptych knows." if lines else "It wrote nothing to its log."
    return Failure("CRASHED", f"The server {ended}.", hint, deterministic=exit_code == 2, log_lines=shown)


def killed_for_memory(failure: Failure) -> Failure:
    """The same death, once the system's own count says that it was for memory (F14)."""
    return Failure(
        "HOST_OUT_OF_MEMORY",
        "The system killed the server because memory ran out.",
        "Stop other engines or programs, lower cpu_kv_cache_gib or max_model_len, or use a machine with more memory.",
        log_lines=failure.log_lines,
    )


def meaningful_lines(lines: Sequence[str], count: int = 8) -> tuple[str, ...]:
    """The exceptions and refusals among log lines, first causes first, echoes of outer processes left out."""
    found = [text for line in lines if _says_why(text := plain(line))]
    return tuple(dict.fromkeys(text[:1000] for text in found))[:count]


def plain(line: str) -> str:
    """A log line without vLLM's process, level, time and place."""
    return _PREFIX.sub("", line).rstrip()


def _says_why(text: str) -> bool:
    return bool(_EXCEPTION.match(text) or _REFUSAL.match(text)) and not _ECHOES.search(text)


def _ending_in_words(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"
