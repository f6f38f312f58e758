"""deploy/prometheus.yaml and deploy/Caddyfile against the apps, the pair, compose, and their own programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from components.profiles.loader import load_pair
from components.settings import Settings
from components.ui.review_routes import MAX_UPLOAD_BYTES
from tests.unit.deploy.read import DEPLOY, PAIR, compose

PROMETHEUS = DEPLOY / "prometheus.yaml"
CADDYFILE = DEPLOY / "Caddyfile"


def targets(name: str) -> list[dict[str, Any]]:
    settings = yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8"))
    (job,) = (one for one in settings["scrape_configs"] if one["job_name"] == name)
    groups: list[dict[str, Any]] = job["static_configs"]
    return groups


def test_prometheus_asks_the_apps_under_names_they_answer_to() -> None:
    (apps,) = targets("diptych")
    app = compose()["services"]["app-1"]
    known = app["environment"]["DIPTYCH_ALLOWED_HOSTS"].split(",")
    assert apps["targets"] == [f"{name}:7860" for name in compose()["services"] if name.startswith("app-")]
    assert {target.partition(":")[0] for target in apps["targets"]} == set(known[1:])


def test_prometheus_asks_for_every_engine_of_the_pair(tmp_path: Any) -> None:
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / f"{PAIR}.yaml").write_bytes((DEPLOY / f"{PAIR}.yaml").read_bytes())
    engines = [f"{PAIR}/{model.id}" for model in load_pair(tmp_path, PAIR).models]
    labels = [group["labels"] for group in targets("vllm")]
    assert labels == [{"__metrics_path__": f"/engines/{one}/metrics", "model": one} for one in engines]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here")
def test_prometheus_accepts_its_file() -> None:
    done = subprocess.run(["promtool", "check", "config", PROMETHEUS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def proxy_limits() -> dict[str, int]:
    text = CADDYFILE.read_text(encoding="utf-8")
    return {name: int(size) * 10**6 for name, size in re.findall(r"request_body @(\w+) \{\s+max_size (\d+)MB", text)}


def test_the_proxy_lets_through_what_the_app_takes() -> None:
    limits = proxy_limits()
    assert Settings().image_max_bytes < limits["other"] < 2 * Settings().image_max_bytes
    assert limits["batch"] > MAX_UPLOAD_BYTES, "of a larger file the app says itself why it is refused"
    assert "@batch path /review/upload" in CADDYFILE.read_text(encoding="utf-8")


def test_a_request_that_fails_takes_no_app_from_its_visitors() -> None:
    """Two uploads over the limit once made the proxy answer 503 to everybody for ten seconds."""
    text = re.sub(r"#.*", "", CADDYFILE.read_text(encoding="utf-8"))
    assert "fail_duration" not in text
    assert "health_uri /healthz" in text


@pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not here")
def test_caddy_accepts_its_file(tmp_path: Any) -> None:
    given = {"SITE": ":8080", "APPS": "app-1:7860 app-2:7860", "PROXIES": "private_ranges", "HOME": str(tmp_path)}
    argv = ["caddy", "validate", "--adapter", "caddyfile", "--config", CADDYFILE]
    done = subprocess.run(argv, env={**os.environ, **given}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
