"""``/memory_plan`` on the real app: what it gives, what it refuses, and what visitors may not have read."""

from __future__ import annotations

import pytest

from tests.running_app import EMBEDDED, RefusedError, RunningApp

pytestmark = pytest.mark.service


def test_the_plan_of_a_published_pair(app: RunningApp) -> None:
    plan = app.call("memory_plan", "pixtral-large-2411/w8a8", {"users": 2})
    assert [model["source"] for model in plan["models"]] == ["formula", "formula"]
    (cell,) = (cell for cell in plan["fits"] if (cell["memory_gb"], cell["gpus"]) == (80, 8))
    assert (cell["verdict"], [seat["tensor_parallel_size"] for seat in cell["seats"]]) == ("together", [4, 2])
    assert "--tensor-parallel-size=4" in cell["seats"][0]["flags"]
    assert plan["users"] == 2


@pytest.mark.skipif(not EMBEDDED.exists(), reason="the embedded pair is not built")
def test_by_default_the_running_pair_from_its_files(app: RunningApp) -> None:
    plan = app.call("memory_plan", "", {})
    assert [(model["id"], model["source"]) for model in plan["models"]] == [
        ("embedded/base", "files"), ("embedded/w4a16", "files"),
    ]  # fmt: skip
    assert app.call("memory_plan", str(EMBEDDED.parent), {})["models"][0]["source"] == "files"


def test_refusals_name_the_field(app: RunningApp, public_app: RunningApp) -> None:
    for model, options, words in (
        ("nothing", {}, "model: There is no model"),
        ("", {"users": -1}, "users: users is a whole number"),
        ("", "many", "options: options is an object"),
    ):
        with pytest.raises(RefusedError, match=words):
            app.call("memory_plan", model, options)
    for model in ("/etc", "owner/name"):
        with pytest.raises(RefusedError, match="no model of this page"):
            public_app.call("memory_plan", model, {})
