"""The endpoint ``/publish`` on the real app: who may, and what is refused. The upload itself: tests/service/publish."""

from __future__ import annotations

import pytest

from tests.running_app import RefusedError, RunningApp

pytestmark = pytest.mark.service


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"model": "embedded/w4a16", "repo_id": "ann/x"}, "model: No job of this installation made 'embedded/w4a16'."),
        ({"model": "embedded/w4a16", "repo_id": "x; rm -rf ~"}, "repo_id: 'x; rm -rf ~' is no name at a hub."),
        ({"repo_id": "ann/x", "token": "hf_x"}, "token: 'token' is no field."),
        ([], "spec: The spec is no object."),
    ],
)
def test_a_bad_wish_is_refused_by_field(app: RunningApp, spec: object, words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        app.call("publish", spec)
    assert words in caught.value.args[0]


def test_visitors_publish_nothing(public_app: RunningApp) -> None:
    with pytest.raises(RefusedError, match="Visitors can't start or change jobs"):
        public_app.call("publish", {"model": "embedded/w4a16", "repo_id": "ann/x"})
