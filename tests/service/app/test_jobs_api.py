"""The endpoints of jobs on the real app: what they give, what they refuse, and what visitors may not do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from components.jobs.launcher import find_members
from tests.running_app import EMBEDDED, RefusedError, RunningApp, wait_until

pytestmark = pytest.mark.service
FIXED_NAMES = {"state", "progress", "message", "log_tail", "result", "failure_reason"}
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


@pytest.mark.skipif(not EMBEDDED.exists(), reason="the embedded pair is not built; see scripts/embedded")
def test_f50_submits_at_once_give_one_job_and_a_cancel_ends_it(app: RunningApp) -> None:
    spec = {"recipe": "fp8-dynamic"}
    with ThreadPoolExecutor(4) as pool:
        ids = {answer["job_id"] for answer in pool.map(lambda _: app.call("quantize", spec), range(4))}
    assert len(ids) == 1
    job_id = str(*ids)
    app.call("cancel", job_id)
    wait_until("it has stopped", lambda: app.call("job", job_id)["state"] == "STOPPED", 15.0)
    stopped = app.call("job", job_id)
    assert set(stopped) >= FIXED_NAMES
    assert stopped["failure_reason"] in ("Cancelled.", "Cancelled before it started.")
    assert find_members(str(app.state_dir / "jobs" / job_id)) == {}
    assert app.call("cancel", job_id)["state"] == "STOPPED"  # a second time changes nothing


@pytest.mark.skipif(not EMBEDDED.exists(), reason="the embedded pair is not built; see scripts/embedded")
def test_log_and_files_of_a_job_can_be_read(app: RunningApp) -> None:
    job_id = app.call("quantize", {"recipe": "w4a16-rtn"})["job_id"]
    wait_until("it has started", lambda: app.call("job", job_id)["state"] == "RUNNING", 15.0)
    address = f"{app.url}jobs/{job_id}"
    try:
        wait_until("it has a spec", lambda: _get(f"{address}/files/spec.json").status_code == httpx.codes.OK, 15.0)
        spec = _get(f"{address}/files/spec.json")
        assert spec.json()["recipe"]["id"] == "w4a16-rtn"
        assert spec.headers["content-disposition"] == f'attachment; filename="{job_id}-spec.json"'
        assert isinstance(_get(f"{address}/log").json()["lines"], list)
        for bad in ("files/reserve", "files/..%2fdiptych.db", "files/result", "log?count=0", "log?count=x"):
            assert _get(f"{address}/{bad}").status_code in (400, 404, 422), bad
    finally:
        app.call("cancel", job_id)
        wait_until("it has stopped", lambda: app.call("job", job_id)["state"] == "STOPPED", 15.0)


def _get(address: str) -> httpx.Response:
    return httpx.get(address, trust_env=False)
