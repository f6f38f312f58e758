"""The job server of a Ray cluster, over its documented HTTP interface (Ray Jobs REST API; tried with Ray 2.60).

The app needs no Ray installed: versions of app and cluster don't have to fit, and every call has a limit of time, which
Ray's own client has not. Calls block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlsplit

import httpx
from pydantic import JsonValue

from components.core.errors import ClusterError

State = Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]
_STATES: tuple[State, ...] = get_args(State)
_ENDED = frozenset({"STOPPED", "SUCCEEDED", "FAILED"})
_ASK_LIMIT_S = 5.0
_SUBMIT_LIMIT_S = 20.0  # the first of a cluster takes some seconds
_UNAUTHORIZED = frozenset({401, 403})
_NOT_FOUND = 404
_KEPT_CHARACTERS = 300
_ID_CHARACTERS = 8  # of a node's id; enough to find it in Ray's dashboard


@dataclass(frozen=True)
class RayRequest:
    """What a job asks the cluster for.

    Attributes:
        entrypoint: one shell command, made of parts that no person's text is among.
        cpus, gpus: how many the node must have free for it; a part of one is allowed.
        memory_bytes: the same, of memory.
    """

    entrypoint: str
    cpus: float
    gpus: float
    memory_bytes: int


@dataclass(frozen=True)
class RayStatus:
    """What the cluster says of a job.

    Attributes:
        error_type: Ray's own word for a failure.
        node: address and id of the node that was given it; empty = none yet.
    """

    state: State
    message: str = ""
    error_type: str = ""
    node: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether it will not change any more."""
        return self.state in _ENDED


class RayJobs:
    """One cluster's job server.

    Args:
        address: ``http://host:8265``, the address of Ray's dashboard.
        token: of a cluster with token authentication; empty = none.
    """

    def __init__(self, address: str, token: str = "") -> None:
        self.address = address
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # No proxy of the environment's: the cluster is in the house, and the token is for it alone.
        self._client = httpx.Client(base_url=address, headers=headers, timeout=_ASK_LIMIT_S, trust_env=False)

    def version(self) -> str:
        """Ray's version.

        Raises:
            ClusterError: the cluster can't be reached, or asks for a token.
        """
        return str(_document(self._call("GET", "/api/version")).get("ray_version", ""))

    def submit(self, submission_id: str, request: RayRequest) -> None:
        """Hand a job over. One that the cluster has already under this id stays as it is.

        Raises:
            ClusterError: it was not taken, or nobody knows whether it was.
        """
        body: dict[str, JsonValue] = {
            "submission_id": submission_id,
            "entrypoint": request.entrypoint,
            "entrypoint_num_cpus": request.cpus,
        }
        if request.gpus:
            body["entrypoint_num_gpus"] = request.gpus
        if request.memory_bytes:
            body["entrypoint_memory"] = request.memory_bytes
        answer = self._call("POST", "/api/jobs/", body, limit_s=_SUBMIT_LIMIT_S, refused_is_error=False)
        if answer.is_error and "already exists" not in answer.text:
            raise self._refused(answer)

    def status(self, submission_id: str) -> RayStatus | None:
        """How a job stands; None = the cluster knows none of that id.

        Raises:
            ClusterError: the cluster can't be asked.
        """
        answer = self._call("GET", f"/api/jobs/{submission_id}", refused_is_error=False)
        if answer.status_code == _NOT_FOUND:
            return None
        if answer.is_error:
            raise self._refused(answer)
        told = _document(answer)
        state = next((known for known in _STATES if known == told.get("status")), None)
        if state is None:
            raise ClusterError(f"The Ray cluster at {self.address} gives a state that nobody knows.")
        return RayStatus(state, str(told.get("message") or ""), str(told.get("error_type") or ""), _node(told))

    def stop(self, submission_id: str) -> None:
        """Ask for a job's end; of one that has ended nothing happens.

        Raises:
            ClusterError: the cluster can't be asked.
        """
        self._call("POST", f"/api/jobs/{submission_id}/stop")

    def _call(
        self, method: str, path: str, body: dict[str, JsonValue] | None = None, *, limit_s: float = _ASK_LIMIT_S,
        refused_is_error: bool = True,
    ) -> httpx.Response:  # fmt: skip
        try:
            answer = self._client.request(method, path, json=body, timeout=limit_s)
        except httpx.HTTPError as exc:
            why = str(exc)[:_KEPT_CHARACTERS] or type(exc).__name__
            raise ClusterError(f"The Ray cluster at {self.address} can't be reached: {why}.") from exc
        if answer.status_code in _UNAUTHORIZED or (answer.is_error and refused_is_error):
            raise self._refused(answer)
        return answer

    def _refused(self, answer: httpx.Response) -> ClusterError:
        if answer.status_code in _UNAUTHORIZED:
            return ClusterError(
                f"The Ray cluster at {self.address} asks for a token, or refuses this one.", "Set DIPTYCH_RAY_TOKEN."
            )
        lines = [line.strip() for line in answer.text.splitlines() if line.strip(" .")]
        last = lines[-1][:_KEPT_CHARACTERS] if lines else "no words"
        return ClusterError(f"The Ray cluster at {self.address} answers {answer.status_code}: {last}")


def _node(told: dict[str, JsonValue]) -> str:
    """Nodes of one machine differ in their ids only."""
    host = urlsplit(str(told.get("driver_agent_http_address") or "")).hostname
    node_id = str(told.get("driver_node_id") or "")[:_ID_CHARACTERS]
    return f"{host} (id {node_id}…)" if host and node_id else host or ""


def _document(answer: httpx.Response) -> dict[str, JsonValue]:
    try:
        told = answer.json()
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise ClusterError(
            f"What answers at {answer.url.host} is no job server of Ray.", "Give its dashboard's address."
        )
    return told
