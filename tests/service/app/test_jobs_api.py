"""The endpoints of jobs on the real app: what they give, what they refuse, and what visitors may not do."""

from __future__ import annotations

import httpx
import pytest

from tests.running_app import RefusedError, RunningApp

pytestmark = pytest.mark.service
OWNER = ("owner", "secret-word")


@pytest.mark.parametrize("endpoint", ["job", "cancel"])
@pytest.mark.parametrize("job_id", ["no-such-job", "../../etc/passwd", "", "quantize-'; DROP TABLE jobs; --"])
def test_an_unknown_job_is_refused_by_name(app: RunningApp, endpoint: str, job_id: str) -> None:
    with pytest.raises(RefusedError, match="job_id: There is no job"):
        app.call(endpoint, job_id)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"recipe": "w4a16-gptq", "speed": "fast"},
            "spec: 'speed' is no field of a spec. Accepted: model, recipe, overrides.",
        ),
        ([1, 2], "spec: The spec is no object. Accepted fields: model, recipe, overrides."),
        ({"recipe": "w1a1-magic"}, "recipe: "),
        ({"model": "$(rm -rf ~)", "recipe": "w4a16-gptq"}, "model: "),
    ],
)
def test_a_bad_spec_is_refused_by_field(app: RunningApp, spec: object, words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        app.call("quantize", spec)
    assert words in caught.value.args[0]
    assert "Traceback" not in caught.value.args[0]


def test_visitors_start_and_cancel_nothing_and_read_no_files(public_app: RunningApp) -> None:
    with pytest.raises(RefusedError, match="Visitors can't start or change jobs"):
        public_app.call("quantize", {"recipe": "w4a16-gptq"})
    with pytest.raises(RefusedError, match="Visitors can't start or change jobs"):
        public_app.call("cancel", "quantize-1")
    with pytest.raises(RefusedError, match="There is no job"):
        public_app.call("job", "quantize-1")  # looking is allowed
    for address in ("jobs/quantize-1/log", "jobs/quantize-1/files/spec.json"):
        refused = httpx.get(public_app.url + address, trust_env=False)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "not_permitted")
        known = httpx.get(public_app.url + address, auth=OWNER, trust_env=False)
        assert (known.status_code, known.json()["error"]["code"]) == (404, "record_not_found")


@pytest.mark.parametrize(
    "address", ["jobs/x/log", "jobs/..%2f..%2f/files/diptych.db", "jobs/x/files/..%2f..%2fdiptych.db"]
)
def test_files_of_no_job_are_not_found(app: RunningApp, address: str) -> None:
    assert httpx.get(app.url + address, trust_env=False).status_code == httpx.codes.NOT_FOUND
