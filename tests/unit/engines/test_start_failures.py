"""Real texts of failed starts (vLLM 0.32 on a CPU unless said otherwise), and what is made of them."""

from __future__ import annotations

import signal

import pytest

from components.engines.start_failures import explain_exit, killed_for_memory, meaningful_lines, plain

ENGINE = "(EngineCore pid=10343) ERROR 11-21 01:46:20 [core.py:1510] "
WORKER = "(Worker pid=10387) ERROR 11-21 01:46:16 [multiproc_executor.py:953] "
PYDANTIC = "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig"
FURTHER = "    For further information visit https://errors.pydantic.dev/2.14/v/value_error"
LAST = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"

# (code, lines); those marked "read" are from the source of vLLM or huggingface_hub, the others were recorded.
TEXTS: list[tuple[str, list[str]]] = [
    ("BAD_OPTION", ["api_server.py: error: unrecognized arguments: --no-such-flag=1"]),
    (
        "MODEL_NOT_FOUND",
        [
            "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
            "'namespace/repo_name': '/no/such/folder'. Use `repo_type` argument if needed."
        ],
    ),
    ("MODEL_NOT_FOUND", [WORKER + "RuntimeError: Cannot find any model weights with `folder`", LAST]),
    (
        "NO_KERNEL",
        [
            WORKER + "ValueError: Forced NVFP4 kernel MarlinNvFp4LinearKernel is not supported: Marlin FP4 not "
            "available",
            ENGINE + "Exception: WorkerProc initialization failed due to an exception in a background process.",
            LAST,
        ],
    ),
    (
        "UNKNOWN_QUANTIZATION",
        [
            PYDANTIC,
            "  Value error, Found unknown quantization='{'quant_method': 'nonsense'}' in config [type=value_error]",
            FURTHER,
        ],
    ),
    (
        "CONTEXT_OVER_KV_CACHE",
        [
            ENGINE + "ValueError: To serve at least one request with the model's max seq len (2000000), (3.81 GiB KV "
            "cache is needed, which is larger than the available KV cache memory (1.0 GiB). Based on the available "
            "memory, the estimated maximum model length is 524160. Try increasing `gpu_memory_utilization`",
            LAST,
        ],
    ),
    (
        "CONTEXT_OVER_MODEL",
        [
            PYDANTIC,
            "  Value error, User-specified max_model_len (200000) is greater than the derived max_model_len "
            "(max_position_embeddings=4096.0 or model_max_length=None in model's config.json).",
            FURTHER,
        ],
    ),
    (
        "UNKNOWN_ARCHITECTURE",
        [
            PYDANTIC,
            "  Value error, Model architectures ['MistralNineForCausalLM'] are not supported for now. Supported "
            "architectures: dict_keys(['AfmoeForCausalLM'])",
            FURTHER,
        ],
    ),
    (
        "CORRUPT_WEIGHTS",
        [
            WORKER + "safetensors._safetensors_rust.SafetensorError: Error while deserializing header: incomplete "
            "metadata, file not fully covered",
            LAST,
        ],
    ),
    (
        "NO_NETWORK",
        [
            "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for the "
            "specified revision on the local disk and outgoing traffic has been disabled."
        ],
    ),
    ("NO_NETWORK", ["httpx2.ConnectError: [Errno -2] Name or service not known"]),
    ("ADDRESS_IN_USE", ["OSError: [Errno 98] Address already in use"]),
    (
        "OUT_OF_MEMORY",
        [
            WORKER + "ValueError: Available memory on node 0 (7.79/11.84 GiB) on kv cache allocation is less than "
            "requested memory for kv (200.0 GiB). Decrease --kv-cache-memory-bytes",
            LAST,
        ],
    ),
    (
        "TOO_FEW_DEVICES",
        [
            ENGINE + "AssertionError: Not enough allowed NUMA nodes to bind threads of 2 local CPUWorkers. Allowed "
            "NUMA nodes are [0]."
        ],
    ),
    ("BROKEN_INSTALLATION", ["RuntimeError: operator torchvision::nms does not exist"]),
    (
        "GPU_MEMORY_TAKEN",  # read
        [
            ENGINE + "ValueError: Free memory on device cuda:0 (10.1/80.0 GiB) on startup is less than desired GPU "
            "memory utilization (0.9, 72.0 GiB). Decrease GPU memory utilization or reduce GPU memory used by other "
            "processes."
        ],
    ),
    ("OUT_OF_MEMORY", [WORKER + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB."]),  # read
    ("OUT_OF_MEMORY", [ENGINE + "ValueError: No available memory for the cache blocks."]),  # read
    ("GATED_REPOSITORY", ["huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: x)"]),  # read
    ("REPOSITORY_NOT_FOUND", ["huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error."]),  # read
]


@pytest.mark.parametrize(("code", "lines"), TEXTS)
def test_f09_f13_known_texts_have_a_reason_a_hint_and_no_second_try(code: str, lines: list[str]) -> None:
    noise = ["(APIServer pid=1) INFO 11-21 01:40:08 [api_utils.py:286] non-default args: {'quantization_config': 1}"]
    failure = explain_exit(1, [*noise, *lines])
    assert failure.code == code
    assert failure.reason and failure.hint and failure.log_lines
    assert failure.deterministic


def test_unknown_exception_is_the_reason_itself_and_worth_another_try() -> None:
    failure = explain_exit(1, [ENGINE + "somewhere.StrangeError: the moon is full", LAST])
    assert (failure.code, failure.deterministic) == ("CRASHED", False)
    assert failure.reason == "The server ended with exit code 1: somewhere.StrangeError: the moon is full"
    assert failure.log_lines == ("somewhere.StrangeError: the moon is full",)


def test_ordinary_lines_are_no_reason() -> None:
    lines = ["INFO Checking for CUDA out of memory errors", *["INFO all is well"] * 6]
    failure = explain_exit(0, lines)
    assert failure.reason == "The server ended with exit code 0."
    assert failure.log_lines == tuple(lines)


def test_nothing_in_the_log() -> None:
    assert "nothing" in explain_exit(3, []).hint


def test_f14_signals_have_names() -> None:
    killed = explain_exit(-signal.SIGKILL, ["last words"])
    assert (killed.code, killed.deterministic) == ("KILLED", False)
    assert killed_for_memory(killed).code == "HOST_OUT_OF_MEMORY"
    assert killed_for_memory(killed).log_lines == ("last words",)
    assert "SIGSEGV" in explain_exit(-signal.SIGSEGV, []).reason
    assert "signal 99" in explain_exit(-99, []).reason


def test_first_causes_come_first_and_once() -> None:
    cause = "ValueError: the cause"
    assert meaningful_lines([WORKER + cause, ENGINE + cause, LAST, "TypeError"]) == (cause, "TypeError")


def test_plain_drops_process_level_and_place() -> None:
    assert plain("(Worker pid=8524) INFO 11-21 01:40:46 [default_loader.py:501] Loading weights took 0.03 seconds") == (
        "Loading weights took 0.03 seconds"
    )
    assert plain("(APIServer pid=1) Traceback (most recent call last):") == "Traceback (most recent call last):"
