"""/metrics, /readyz and the JSON log on the real app, and who may see them."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.running_app import RunningApp
from tests.service.app.conftest import NO_ENGINES
from tests.service.app.test_http import signed_app

pytestmark = pytest.mark.service
OWNER = ("owner", "secret-word")


def get(app: RunningApp, address: str, auth: tuple[str, str] | None = None) -> httpx.Response:
    return httpx.get(app.url + address, auth=auth, timeout=30, trust_env=False)


def test_metrics_and_readiness_of_an_open_app(app: RunningApp) -> None:
    answer = get(app, "metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'diptych_engine_state{engine="embedded/base",state="STOPPED"} 1.0' in answer.text
    ready = get(app, "readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "missing": []}), "no engine is started with it"
    assert get(app, "engines/embedded/base/metrics").status_code == 400, "it does not run"
    assert get(app, "engines/no/such/metrics").status_code == 400


def test_visitors_of_a_demo_see_no_metrics(public_app: RunningApp) -> None:
    for address in ("metrics", "engines/embedded/base/metrics"):
        refused = get(public_app, address)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "not_permitted")
    assert get(public_app, "metrics", OWNER).status_code == 200
    assert get(public_app, "readyz").status_code == 200


def test_with_sign_in_metrics_ask_for_it_and_logs_can_be_json() -> None:
    environment = {**NO_ENGINES, "DIPTYCH_USERS": ":".join(OWNER), "DIPTYCH_LOG_FORMAT": "json"}
    app = signed_app(environment)
    try:
        assert get(app, "metrics").status_code == 401
        assert get(app, "metrics", OWNER).status_code == 200
        assert get(app, "readyz").json() == {"ready": True, "missing": []}
        lines = [line for line in app.said().splitlines() if not line.startswith("Diptych is at")]
    finally:
        app.close()
    assert all(isinstance(json.loads(line), dict) for line in lines)
