"""Starts that can't work are refused at once, in words, with what to do; nothing is left behind."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from tests.running_app import ROOT, RunningApp, copy_of_app, free_port, wait_until
from tests.service.app.conftest import NO_ENGINES, Run

pytestmark = pytest.mark.service

QUICK_S = 30.0  # the aim is 5 s on an idle machine; the test also runs beside other work


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """What a refused start said: one line, no traceback, exit code 2."""
    assert done.returncode == 2, done
    assert done.stderr.startswith("Diptych can't start: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def embedded_profile(root: Path = ROOT) -> str:
    return (root / "profiles" / "pairs" / "embedded.yaml").read_text(encoding="utf-8")


def test_help_names_every_argument(run_app: Run) -> None:
    done = run_app("--help")
    assert done.returncode == 0
    for argument in ("--pair", "--host", "--port", "--state-dir", "--public", "--placement", "--serve"):
        assert argument in done.stdout


def test_f07_a_port_in_use_is_named(run_app: Run) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused(run_app("--port", str(port)))
    assert f"Port {port} on 127.0.0.1 can't be used" in said
    assert f"PORT={port + 1}" in said


def test_an_unknown_pair_lists_the_pairs_there_are(run_app: Run) -> None:
    said = refused(run_app("--pair", "embeded"))
    assert "There is no pair 'embeded'" in said
    assert "embedded, mistral-small-3.2-24b" in said


def test_a_wrong_placement_or_setting_is_named(run_app: Run) -> None:
    said = refused(run_app("--placement", "stacked"))
    assert "--placement" in said and "'alternately'" in said
    assert "max_model_len: Input should be a valid integer" in refused(run_app("--serve", "max_model_len=few"))


def test_f43_a_hostile_pair_name_opens_nothing(run_app: Run) -> None:
    assert "There is no pair" in refused(run_app("--pair=../../etc/passwd"))


def test_f42_a_typo_in_the_profile_is_named_with_its_line(run_app: Run, state_dir: Path) -> None:
    text = embedded_profile().replace("id: embedded", "id: typo", 1).replace("max_model_len", "max_modle_len", 1)
    line = 1 + text[: text.index("max_modle_len")].count("\n")
    said = refused(run_app("--pair", "typo", root=copy_of_app(state_dir / "copy", {"typo": text})))
    assert f"pairs/typo.yaml:{line}" in said
    assert "max_modle_len" in said
    assert "max_model_len" in said


def test_f39_another_broken_profile_stops_nobody(state_dir: Path) -> None:
    root = copy_of_app(state_dir / "copy", {"broken": "schema_version: 1\n\tkind: pair\n"})
    app = RunningApp(state_dir, root=root, environment=NO_ENGINES).start()
    try:
        app.wait_for_page()
        assert "embedded/base" in app.models()
    finally:
        app.close()


def test_another_address_needs_sign_in_or_public(run_app: Run) -> None:
    said = refused(run_app("--host", "0.0.0.0", "--port", str(free_port())))
    assert "without sign-in" in said
    assert "DIPTYCH_USERS" in said
    assert "--public" in said


def test_a_port_that_is_none_is_named(run_app: Run) -> None:
    said = refused(run_app("--port=70000"))
    assert "port" in said
    assert "65535" in said
    assert "errors.pydantic.dev" not in said


def test_a_state_dir_that_is_a_file_is_named(run_app: Run, state_dir: Path) -> None:
    (state_dir / "file").write_text("something of the user's")
    said = refused(run_app("--state-dir", str(state_dir / "file")))
    assert str(state_dir / "file") in said
    assert (state_dir / "file").read_text() == "something of the user's"


def test_f58_a_second_app_on_one_state_dir_names_the_first(app: RunningApp, run_app: Run) -> None:
    said = refused(run_app("--state-dir", str(app.state_dir), "--port", str(free_port())))
    assert app.process is not None
    assert f"process {app.process.pid}" in said
    assert "--state-dir" in said
    assert app.models()


def test_the_page_comes_up_at_once_and_the_app_ends_cleanly(state_dir: Path) -> None:
    app = RunningApp(state_dir, environment=NO_ENGINES).start()
    try:
        taken = app.wait_for_page()
        print(f"the page came up after {taken:.1f} s")
        assert taken < QUICK_S
        assert app.models()["embedded/base"]["state"] == "STOPPED"
        assert app.stop() == 0
        assert "Traceback" not in app.said()
    finally:
        app.close()


def test_a_model_folder_that_does_not_exist_is_named(state_dir: Path) -> None:
    text = embedded_profile().replace("id: embedded", "id: lost", 1).replace("assets/embedded/", "assets/nowhere/")
    app = RunningApp(state_dir, "--pair", "lost", root=copy_of_app(state_dir / "copy", {"lost": text})).start()
    try:
        app.wait_for_page()
        wait_until("both are given up", lambda: states(app) == {"FATAL"}, 60, lambda: str(app.models()))
        assert "assets/nowhere/base" in app.models()["lost/base"]["message"]
        assert "assets/nowhere/w4a16" in app.models()["lost/w4a16"]["message"]
        app.wait_alone()
    finally:
        app.close()


def states(app: RunningApp) -> set[str]:
    return {app.models()[engine_id]["state"] for engine_id in ("lost/base", "lost/w4a16")}
