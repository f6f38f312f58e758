"""F43 and the exact command of every profile."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from regenerate import GOLDEN, ROOT, golden_files

from components.core.errors import InputError
from components.profiles.argv import EngineCommand, engine_command
from components.profiles.loader import load_pair
from components.profiles.schema import HubSource, LocalSource, ModelProfile, PairProfile, RemoteSource, ServeSettings

FORBIDDEN_VARIABLES = {
    "VLLM_SERVER_DEV_MODE",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    "VLLM_ALLOW_INSECURE_SERIALIZATION",
    "VLLM_MEDIA_CACHE",
}


@functools.cache
def pair_of(name: str) -> PairProfile:
    return load_pair(ROOT / "profiles", name)


def command(pair: PairProfile, model: ModelProfile, **changes: Any) -> EngineCommand:
    arguments: dict[str, Any] = {
        "model_path": "/models/m",
        "socket": Path("/run/e.sock"),
        "device": "cpu",
        "python": Path("/venv/bin/python"),
        "api_key": "sk-key",
        "cache_root": Path("/cache"),
        "hook_path": None,
        "exchange": None,
        "cpu_threads": 1,
    }
    return engine_command(pair, model, **(arguments | changes))


@pytest.fixture(scope="module")
def pair() -> PairProfile:
    return pair_of("mistral-small-3.2-24b")


@pytest.mark.parametrize("name", sorted(golden_files()))
def test_the_exact_command_line_of_every_profile(name: str) -> None:
    """After a wanted change: PYTHONPATH=. .venv/bin/python tests/unit/profiles/regenerate.py, then review."""
    assert (GOLDEN / name).read_text(encoding="utf-8") == golden_files()[name]


def test_no_reviewed_command_is_left_over() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(golden_files())


def test_the_key_is_in_no_argument_and_no_printed_form(pair: PairProfile) -> None:
    made = command(pair, pair.base)
    assert made.env["VLLM_API_KEY"] == "sk-key"
    assert "sk-key" not in " ".join(made.argv)
    assert "sk-key" not in repr(made)


def test_only_listed_variables_are_inherited(pair: PairProfile) -> None:
    inherited = {"PATH": "/bin", "HF_TOKEN": "secret", "AWS_KEY": "secret", "PYTHONPATH": "/evil", "VLLM_X": "1"}
    made = command(pair, pair.base, inherited=inherited | dict.fromkeys(FORBIDDEN_VARIABLES, "1"))
    assert made.env["PATH"] == "/bin"
    assert "PYTHONPATH" not in made.env
    assert "secret" not in made.env.values()
    assert not FORBIDDEN_VARIABLES & set(made.env)


def test_inherited_variables_never_win(pair: PairProfile) -> None:
    made = command(pair, pair.base, inherited={"VLLM_API_KEY": "theirs", "HF_HUB_OFFLINE": "0"})
    assert made.env["VLLM_API_KEY"] == "sk-key"
    assert made.env["HF_HUB_OFFLINE"] == "1"


def test_every_value_is_inside_its_own_flag(pair: PairProfile) -> None:
    for model in pair.models:
        assert all(item.startswith("--") for item in command(pair, model).argv[3:])


def test_nothing_listens_on_tcp_and_nothing_is_trusted(pair: PairProfile) -> None:
    argv = " ".join(command(pair, pair.base, device="cuda").argv)
    assert "--uds=/run/e.sock" in argv
    for flag in ("--host", "--port", "--trust", "--load-format=auto", "--chat-template"):
        assert flag not in argv


def test_a_share_of_the_gpu_replaces_the_profiles(pair: PairProfile) -> None:
    assert "--gpu-memory-utilization=0.96" in command(pair, pair.base, device="cuda").argv
    assert "--gpu-memory-utilization=0.5" in command(pair, pair.base, device="cuda", gpu_memory_utilization=0.5).argv


def test_rays_executor_is_for_gpus_and_knows_its_cluster(pair: PairProfile) -> None:
    base = pair.base.model_copy(update={"serve": ServeSettings(distributed_executor_backend="ray")})
    pair = pair.model_copy(update={"models": (base, *pair.candidates)})
    inherited = {"RAY_ADDRESS": "head:6379", "RAY_AUTH_TOKEN": "t", "RAY_OTHER": "x"}
    made = command(pair, base, device="cuda", inherited=inherited)
    assert "--distributed-executor-backend=ray" in made.argv
    assert {name: value for name, value in made.env.items() if name.startswith("RAY")} == {
        "RAY_ADDRESS": "head:6379", "RAY_AUTH_TOKEN": "t",
    }  # fmt: skip
    for other in (
        command(pair, base, inherited=inherited),
        command(pair, pair.candidates[0], device="cuda", inherited=inherited),
    ):
        assert "--distributed-executor-backend=ray" not in other.argv
        assert not any(name.startswith("RAY") for name in other.env)


def test_a_repository_is_read_at_its_revision_and_a_folder_offline(pair: PairProfile) -> None:
    source = HubSource(kind="hub", repo_id="o/n", revision="a1" * 20)
    model = pair.base.model_copy(update={"source": source})
    from_hub = command(pair, model, model_path="o/n")
    assert f"--revision={'a1' * 20}" in from_hub.argv
    assert "HF_HUB_OFFLINE" not in from_hub.env
    from_folder = command(pair, model)
    assert not any("revision" in item for item in from_folder.argv)
    assert from_folder.env["HF_HUB_OFFLINE"] == "1"


def test_a_text_pair_has_no_limit_of_pictures() -> None:
    text = pair_of("smollm2-135m")
    assert not any("limit-mm" in item for item in command(text, text.base).argv)


def test_a_socket_path_that_the_kernel_would_refuse_is_refused(pair: PairProfile) -> None:
    with pytest.raises(InputError, match="shorter"):
        command(pair, pair.base, socket=Path("/" + "ü" * 50))


def test_a_remote_model_has_no_command(pair: PairProfile) -> None:
    source = RemoteSource(kind="remote", url="https://host.invalid/v1", served_model="m")
    with pytest.raises(InputError, match="remote"):
        command(pair, pair.base.model_copy(update={"source": source}))


BAD_IDS = [
    "; rm -rf /",
    "$(touch x)",
    "`id`",
    "--trust-remote-code",
    "-m",
    "../../etc/passwd",
    "a/../b",
    "a/b/c",
    "a\n",
    "a\nb",
    "\na",
    "a b",
    "a\x00",
    "mistralaі/x",  # Cyrillic i
    "ａ/b",
    "a/",
    "/a",
    "",
    "a//b",
    "a/-b",
    "a/.b",
    "a" * 129,
]


@pytest.mark.parametrize("bad", BAD_IDS)
def test_f43_bad_model_ids_are_refused_by_pattern(pair: PairProfile, bad: str) -> None:
    with pytest.raises(ValidationError):
        HubSource(kind="hub", repo_id=bad)
    if not bad.startswith("/") and len(bad) < 129:
        with pytest.raises(InputError):
            command(pair, pair.base, model_path=bad)


@pytest.mark.parametrize("bad", ["../x", "/etc", "a/../b", "a\n", "-x", "~", "a//b", "a/", "", "ａ"])
def test_f43_bad_folders_are_refused_by_pattern(bad: str) -> None:
    with pytest.raises(ValidationError):
        LocalSource(kind="local", folder=bad)


@pytest.mark.parametrize(
    "bad", ["file:///etc", "http://u:p@h/v1", "http://h/v1?x=1", "http://h/v1#x", "h/v1", "http://", "http://h/a b"]
)
def test_remote_urls_carry_no_credentials_and_no_query(bad: str) -> None:
    with pytest.raises(ValidationError):
        RemoteSource(kind="remote", url=bad, served_model="m")


@given(st.text(max_size=60) | st.sampled_from(BAD_IDS) | st.from_regex(r"[\w.-]+(/[\w.-]+)?", fullmatch=True))
def test_f43_an_id_never_changes_the_number_of_arguments(text: str) -> None:
    pair = pair_of("mistral-small-3.2-24b")
    usual = command(pair, pair.base, model_path="o/n").argv
    try:
        source = HubSource(kind="hub", repo_id=text)
    except ValidationError:
        return
    model = pair.base.model_copy(update={"source": source})
    argv = command(pair, model, model_path=source.repo_id).argv
    assert len(argv) == len(usual)
    assert argv[3] == f"--model={text}"
    assert text.isascii()


@given(st.text(min_size=1, max_size=60).filter(lambda text: "\x00" not in text))
def test_f43_a_folder_of_any_name_stays_one_argument(text: str) -> None:
    pair = pair_of("smollm2-135m")
    argv = command(pair, pair.base, model_path=f"/{text}").argv
    assert argv[3] == f"--model=/{text}"
    assert len(argv) == len(command(pair, pair.base).argv)
