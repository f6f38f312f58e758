"""One engine of a profile as a server by itself, for containers: prepare the model, then become vLLM.

    ENGINE_KEY=… python -m components.engines.alone embedded/base --host 0.0.0.0 --port 8000

A stock vLLM would load some checkpoints blind, and would take options that a profile does not allow. This serves the
prepared folder with the profile's own command line, but listens on TCP. An app reaches it as a remote engine.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from components.core.errors import AppError, InputError
from components.engines.memory import count_gpus
from components.engines.prepare import ModelPreparer
from components.engines.specs import HOOK
from components.profiles.argv import EngineCommand, engine_command
from components.profiles.loader import load_pair
from components.settings import LOOPBACK, REPOSITORY, Settings

KEY_VARIABLE = "ENGINE_KEY"
_SHORTEST_KEY = 16


def read_arguments(argv: list[str]) -> argparse.Namespace:
    """Engine, host and port from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m components.engines.alone", description="Serve one model of a pair as its profile says."
    )
    parser.add_argument("engine", help="pair/model of profiles/pairs, such as embedded/base")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: 8000)")
    return parser.parse_args(argv)


def command_alone(engine: str, host: str, port: int, state_dir: Path, environment: Mapping[str, str]) -> EngineCommand:
    """Prepare the model and give the command that serves it.

    Args:
        engine: pair/model.
        host, port: where it listens.
        state_dir: folder of prepared models and vLLM's caches.
        environment: our own; the key that callers must show is in it.

    Raises:
        InputError: no key, a short one, or no such engine. ProfileError, PreparationError: as the names say.
    """
    key = environment.get(KEY_VARIABLE, "")
    if len(key) < _SHORTEST_KEY and (key or host not in LOOPBACK):
        raise InputError(
            f"{KEY_VARIABLE} is {'too short' if key else 'not set'}.",
            f"Set it to at least {_SHORTEST_KEY} random characters; the app needs the same key.",
        )
    pair_id, _, model_id = engine.partition("/")
    pair = load_pair(REPOSITORY / "profiles", pair_id)
    model = pair.model(model_id)
    token = environment.get("HF_TOKEN") or None
    harmless = {name: value for name, value in environment.items() if name not in (KEY_VARIABLE, "HF_TOKEN")}
    preparer = ModelPreparer(state_dir / "models", REPOSITORY, hub_token=token, child_env=harmless)
    path = preparer.prepare(pair, model, _tell)
    made = engine_command(
        pair, model, model_path=path, socket=Path("/unused"), device="cuda" if count_gpus() else "cpu",
        python=Path(sys.executable), api_key=key, cache_root=state_dir / "vllm-cache", hook_path=HOOK, exchange=None,
        cpu_threads=len(os.sched_getaffinity(0)), inherited=environment,
    )  # fmt: skip
    argv = [part for part in made.argv if not part.startswith("--uds=")]
    return EngineCommand(argv=(*argv, f"--host={host}", f"--port={port}"), env=made.env)


def _tell(text: str, _share: float | None) -> None:
    sys.stderr.write(f"{text}\n")


def main(argv: list[str]) -> NoReturn:
    """Become vLLM; or exit with 2, the reason on standard error."""
    options = read_arguments(argv)
    try:
        command = command_alone(options.engine, options.host, options.port, Settings().state_dir, os.environ)
    except AppError as exc:
        sys.stderr.write(f"{options.engine} can't start: {exc}\n")
        sys.exit(2)
    os.execve(command.argv[0], list(command.argv), command.env)  # noqa: S606  # a list, and this process becomes it


if __name__ == "__main__":
    main(sys.argv[1:])
