"""A visitor's limits as the page's own events meet them; over the API they are in test_http.py."""

from __future__ import annotations

import secrets
from typing import Any

import httpx
import pytest

from tests.data.images import make_images as draw
from tests.running_app import RunningApp
from tests.service.app.test_http import config_of

pytestmark = pytest.mark.service


def composer_of(config: dict[str, Any]) -> int:
    return int(next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "dt-composer"))


def test_f47_the_page_says_that_there_were_too_many(public_app: RunningApp) -> None:
    config, visitor = config_of(public_app), {"x-forwarded-for": "203.0.113.9"}
    composer, values = composer_of(config), {c["id"]: c["props"].get("value") for c in config["components"]}
    ask = next(d for d in config["dependencies"] if [composer, "ask0"] in [list(t) for t in d["targets"]])
    said = []
    with httpx.Client(base_url=f"{public_app.url}gradio_api/queue/", headers=visitor, timeout=30) as http:
        for _ in range(11):  # two columns each
            event = {"key": secrets.token_hex(16), "prompt": "Hello", "images": [], "names": [], "history": {}}
            body = {"data": [values[i] for i in ask["inputs"]], "event_data": event, "session_hash": "visitor"}
            http.post("join", json={**body, "fn_index": ask["id"], "trigger_id": composer}).raise_for_status()
            said.append(http.get("data", params={"session_hash": "visitor"}).text)
    assert not any("answers in a minute" in text for text in said[:-1])
    assert "A visitor gets 20 answers in a minute, one for each column." in said[-1]


def test_f47_a_visitors_picture_may_be_refused_that_an_owners_may_not(public_app: RunningApp) -> None:
    """13 megapixels in few bytes: more than the 12 of a visitor, less than the 40 of all."""
    picture = draw.encode(draw.quarters(4000, 3250), "PNG")
    found = {}
    for who, auth in (("visitor", None), ("owner", ("owner", "secret-word"))):
        with httpx.Client(base_url=f"{public_app.url}gradio_api/", auth=auth, timeout=60) as http:
            (path,) = http.post("upload", files={"files": ("large.png", picture, "image/png")}).json()
            call = {"session_hash": who, "component_id": composer_of(config_of(public_app)), "fn_name": "ingest"}
            found[who] = http.post(
                "component_server", json={**call, "data": {"path": path, "name": "large.png"}}
            ).json()
    assert found["visitor"]["error"]["code"] == "image_too_large"
    assert "12" in found["visitor"]["error"]["hint"] + found["visitor"]["error"]["message"]
    assert found["owner"]["image"]["width"] == 4000


def test_f47_the_log_of_an_engine_is_its_owners(public_app: RunningApp) -> None:
    board = next(c["id"] for c in config_of(public_app)["components"] if c["props"].get("elem_id") == "dt-models")
    found = {}
    for who, auth in (("visitor", None), ("owner", ("owner", "secret-word"))):
        call = {"session_hash": who, "component_id": board, "fn_name": "log", "data": {"engine": "embedded/base"}}
        with httpx.Client(base_url=f"{public_app.url}gradio_api/", auth=auth, timeout=60) as http:
            found[who] = http.post("component_server", json=call).json()["lines"]
    assert "read the logs of engines" in found["visitor"][0]
    assert not any("read the logs of engines" in line for line in found["owner"])
