"""Apps without engines, for what happens before and around them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.openid import CLIENT_ID, CLIENT_SECRET, OpenIDProvider
from tests.running_app import ROOT, RunningApp, new_state_dir

NO_ENGINES = {"DIPTYCH_START_ENGINES": "false"}
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def state_dir() -> Iterator[Path]:
    folder = new_state_dir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def run_app(state_dir: Path) -> Run:
    """Run app.py to its end: for calls that are refused, or only print something."""

    def run(*arguments: str, root: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DIPTYCH_")}
        argv = [sys.executable, str(root / "app.py"), "--state-dir", str(state_dir), *arguments]
        return subprocess.run(
            argv, cwd=root, env={**inherited, **NO_ENGINES, **environment}, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip

    return run


@pytest.fixture(scope="package")
def app() -> Iterator[RunningApp]:
    """One app on this machine's own address, without sign-in."""
    yield from _running()


@pytest.fixture(scope="package")
def provider() -> Iterator[OpenIDProvider]:
    """Where people sign in with Hugging Face."""
    with OpenIDProvider() as found:
        yield found


@pytest.fixture(scope="package")
def public_app(provider: OpenIDProvider) -> Iterator[RunningApp]:
    """One app as a demo, as on a Space: visitors compare and look; an account and Boss at Hugging Face own it."""
    yield from _running(
        "--public", DIPTYCH_USERS="owner:secret-word", DIPTYCH_OWNERS="owner,boss", OAUTH_CLIENT_ID=CLIENT_ID,
        OAUTH_CLIENT_SECRET=CLIENT_SECRET, OPENID_PROVIDER_URL=provider.url, NO_PROXY="127.0.0.1",
    )  # fmt: skip


def _running(*arguments: str, **environment: str) -> Iterator[RunningApp]:
    app = RunningApp(new_state_dir(), *arguments, environment={**NO_ENGINES, **environment}).start()
    try:
        app.wait_for_page()
        yield app
    finally:
        app.close()
