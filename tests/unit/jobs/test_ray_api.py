"""Words with Ray's job server: what is asked, and what a person is told when it goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from components.core.errors import ClusterError
from components.jobs.ray_api import RayJobs, RayRequest, RayStatus

REQUEST = RayRequest("exec python entry.py /shared/jobs/j1", cpus=2, gpus=0, memory_bytes=10)
Answer = Callable[[httpx.Request], httpx.Response]


def jobs(answer: Answer, token: str = "") -> RayJobs:
    """The client, its line to the server replaced."""
    made = RayJobs("http://127.0.0.1:8265", token)
    made._client = httpx.Client(
        base_url=made.address, headers=made._client.headers, transport=httpx.MockTransport(answer)
    )
    return made


def always(status: int, body: object) -> Answer:
    return lambda _: httpx.Response(status, text=body if isinstance(body, str) else json.dumps(body))


def test_a_submission_asks_for_what_the_job_needs_and_no_more() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"submission_id": "j1"})

    jobs(answer, token="t0ken").submit("j1", REQUEST)
    (request,) = asked
    assert (request.method, request.url.path, request.headers["authorization"]) == (
        "POST",
        "/api/jobs/",
        "Bearer t0ken",
    )
    assert json.loads(request.content) == {
        "submission_id": "j1",
        "entrypoint": "exec python entry.py /shared/jobs/j1",
        "entrypoint_num_cpus": 2,
        "entrypoint_memory": 10,
    }
    jobs(answer).submit("j2", RayRequest("x", 1, 0.5, 0))
    assert json.loads(asked[-1].content) == {
        "submission_id": "j2", "entrypoint": "x", "entrypoint_num_cpus": 1, "entrypoint_num_gpus": 0.5,
    }  # fmt: skip
    assert "authorization" not in asked[-1].headers


def test_a_job_that_is_there_already_is_not_an_error() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content)["submission_id"])
        taken = f"ValueError: Job with submission_id {asked[-1]} already exists. Please use another.\n.\n"
        return httpx.Response(500, text=taken)

    jobs(answer).submit("j1", REQUEST)
    assert asked == ["j1"], "said once, and not again under another name"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, "Unauthorized", "asks for a token, or refuses this one. Set DIPTYCH_RAY_TOKEN."),
        (403, "Forbidden", "asks for a token"),
        (500, "Traceback\nRuntimeError: no agent\n.\n", "answers 500: RuntimeError: no agent"),
        (502, "", "answers 502: no words"),
    ],
)
def test_a_refusal_is_said(status: int, body: str, words: str) -> None:
    client = jobs(always(status, body))
    for call in (client.version, lambda: client.submit("j1", REQUEST), lambda: client.stop("j1")):
        with pytest.raises(ClusterError) as caught:
            call()
        assert words in str(caught.value)


@pytest.mark.parametrize("body", ["<html>", "[]", ""])
def test_what_is_no_job_server_is_said(body: str) -> None:
    with pytest.raises(ClusterError, match="no job server of Ray"):
        jobs(always(200, body)).version()


def test_a_server_that_can_not_be_reached_is_said() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("", request=request)

    with pytest.raises(ClusterError, match=r"http://127.0.0.1:8265 can't be reached: ConnectTimeout\."):
        jobs(answer).version()


def test_a_status_is_ours_or_unknown() -> None:
    told = {"status": "FAILED", "message": "gone", "error_type": "JOB_SUPERVISOR_ACTOR_DIED", "more": 1}
    assert jobs(always(200, told)).status("j1") == RayStatus("FAILED", "gone", "JOB_SUPERVISOR_ACTOR_DIED")
    assert jobs(always(200, {"status": "PENDING", "message": None})).status("j1") == RayStatus("PENDING")
    place = {"driver_agent_http_address": "http://10.0.0.7:52365", "driver_node_id": "0f3c9a21" * 7}
    node = jobs(always(200, {"status": "RUNNING", **place})).status("j1")
    assert node == RayStatus("RUNNING", node="10.0.0.7 (id 0f3c9a21…)")
    assert jobs(always(404, "Job j1 does not exist")).status("j1") is None
    with pytest.raises(ClusterError, match="nobody knows"):
        jobs(always(200, {"status": "DREAMING"})).status("j1")
