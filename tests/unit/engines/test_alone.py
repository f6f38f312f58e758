"""One engine as a server by itself: the profile's command, on TCP, with a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import AppError, InputError, ProfileNotFoundError
from components.engines import alone
from components.engines.alone import KEY_VARIABLE, command_alone, main
from components.engines.specs import HOOK
from components.profiles.argv import engine_command
from components.profiles.loader import load_pair
from components.settings import REPOSITORY

KEY = "k" * 24
ENVIRONMENT = {"PATH": "/usr/bin", "HOME": "/home/user", KEY_VARIABLE: KEY, "HF_TOKEN": "hf_hidden"}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "count_gpus", lambda: 0)


def test_it_serves_what_the_app_would_serve_but_on_tcp(tmp_path: Path) -> None:
    made = command_alone("embedded/w4a16", "0.0.0.0", 8000, tmp_path, ENVIRONMENT)
    pair = load_pair(REPOSITORY / "profiles", "embedded")
    (path,) = (part.partition("=")[2] for part in made.argv if part.startswith("--model="))
    own = engine_command(
        pair, pair.model("w4a16"), model_path=path, socket=Path("/s"), device="cpu", python=Path(made.argv[0]),
        api_key=KEY, cache_root=tmp_path / "vllm-cache", hook_path=HOOK, exchange=None,
        cpu_threads=int(made.env["OMP_NUM_THREADS"]), inherited=ENVIRONMENT,
    )  # fmt: skip
    assert [part for part in made.argv if part not in own.argv] == ["--host=0.0.0.0", "--port=8000"]
    assert [part for part in own.argv if part not in made.argv] == ["--uds=/s"]
    assert made.env == own.env


def test_a_candidate_is_served_whole(tmp_path: Path) -> None:
    """Its own folder lacks what it shares with the base; a stock vLLM could not load it."""
    made = command_alone("embedded/w4a16", "127.0.0.1", 8000, tmp_path, ENVIRONMENT)
    (path,) = (Path(part.partition("=")[2]) for part in made.argv if part.startswith("--model="))
    assert path.is_relative_to(tmp_path)
    assert {"tekken.json", "model-shared.safetensors", "model-language.safetensors"} <= {p.name for p in path.iterdir()}


def test_the_key_is_in_the_environment_only(tmp_path: Path) -> None:
    made = command_alone("embedded/base", "0.0.0.0", 8000, tmp_path, ENVIRONMENT)
    assert made.env["VLLM_API_KEY"] == KEY
    assert not any(KEY in part for part in made.argv)
    assert "hf_hidden" not in made.env.values()


@pytest.mark.parametrize(
    ("key", "host", "words"),
    [("", "0.0.0.0", "not set"), ("short", "0.0.0.0", "too short"), ("short", "127.0.0.1", "too short")],
)
def test_without_a_good_key_it_does_not_start(tmp_path: Path, key: str, host: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        command_alone("embedded/base", host, 8000, tmp_path, {**ENVIRONMENT, KEY_VARIABLE: key})


@pytest.mark.parametrize("engine", ["embedded/none", "none/base", "embedded", ""])
def test_an_engine_that_is_not_there_is_refused(tmp_path: Path, engine: str) -> None:
    with pytest.raises(AppError) as refused:
        command_alone(engine, "127.0.0.1", 8000, tmp_path, ENVIRONMENT)
    assert isinstance(refused.value, ProfileNotFoundError) or refused.value.hint


def test_a_refusal_is_said_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["embedded/base", "--host", "0.0.0.0"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("embedded/base can't start: ENGINE_KEY is not set.")
