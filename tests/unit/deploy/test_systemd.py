"""deploy/systemd: systemd's own checker, where there is one, and the settings."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from components.settings import Settings
from tests.unit.deploy.read import DEPLOY, ROOT, check_app, settings_named

UNIT = DEPLOY / "systemd" / "diptych.service"
TEXT = UNIT.read_text(encoding="utf-8")


def values(name: str) -> list[str]:
    lines = (line.partition("=") for line in TEXT.splitlines() if not line.startswith(("#", ";")))
    return [value for key, _, value in lines if key == name]


def only(name: str) -> str:
    (value,) = values(name)
    return value


def test_systemd_accepts_every_line(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # What the unit expects to be installed stands in a folder of the test.
    (tmp_path / "python").write_text("#!/bin/sh\n")
    (tmp_path / "python").chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(TEXT.replace("/opt/diptych/.venv/bin/python", str(tmp_path / "python")))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(f"{unit.read_text()}Imagined=yes\n")
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "'Imagined'" in done.stderr


def test_systemd_calls_it_well_protected() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    argv = ["systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", str(UNIT)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:]


def test_the_app_starts_with_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = dict(entry.split("=", 1) for line in values("Environment") for entry in line.split())
    program, script, *arguments = only("ExecStart").split()
    settings = check_app(arguments, environment, monkeypatch)
    assert settings.refusal() is None
    assert str(settings.state_dir) == f"/var/lib/{only('StateDirectory')}"
    assert environment["HF_HOME"].startswith(f"/var/cache/{only('CacheDirectory')}/")
    assert (ROOT / script).is_file()
    assert program.startswith(only("WorkingDirectory"))
    assert settings_named(TEXT) <= set(Settings.model_fields)


def test_jobs_outlive_the_app() -> None:
    assert only("KillMode") == "process"
    assert not values("PrivateTmp"), "it would be emptied under the jobs"
    assert not values("RemoveIPC")


def test_no_secret_stands_in_the_unit() -> None:
    assert not any("USERS=" in line or "TOKEN" in line or "DATABASE" in line for line in values("Environment"))
    assert only("EnvironmentFile") == "-/etc/diptych/environment"
