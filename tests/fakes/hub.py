"""A hub that speaks the calls huggingface_hub makes to upload, and fails on demand.

Who one is, create, model info, the card's check, preupload, the LFS batch with single and multipart uploads, verify,
commit. What a commit names is kept in memory, so that a test can look at what really arrived.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

TOKEN = "hf_a-token-that-nobody-may-see"
REGULAR_BYTES = 100_000  # the real one takes text files up to 10 MB into the commit
PART_BYTES = 400_000
_REPO = r"([\w.-]+/[\w.-]+)"


@dataclass
class Repository:
    """What the hub holds under one name."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0


@dataclass
class Faults:
    """What goes wrong, until a test says otherwise."""

    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)  # part of an address → status and words
    cut_uploads: int = 0  # so many uploads lose their connection half-way
    slow_upload_s: float = 0.0


class Hub:
    """The server, on a free port of this machine."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}  # LFS: SHA-256 → content
        self.parts: dict[tuple[str, int], bytes] = {}
        self.faults = Faults()
        self.calls: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        self.hub.calls.append(f"{method} {self.path}")
        if method == "PUT" and self._cut():
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for part, (status, words) in self.hub.faults.refuse.items():
            if part in self.path:
                self._send(status, {"error": words})
                return
        signed = method == "PUT" or self.path.startswith("/complete/")  # the address itself is the permission
        if not signed and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, {"error": "Invalid username or password."})
            return
        for pattern, call in _CALLS.items():
            if found := re.fullmatch(pattern, f"{method} {self.path.partition('?')[0]}"):
                call(self, body, *found.groups())
                return
        self._send(404, {"error": f"no such call: {method} {self.path}"})

    def _cut(self) -> bool:
        if not self.hub.faults.cut_uploads:
            return False
        self.hub.faults.cut_uploads -= 1
        self.rfile.read(1000)
        with suppress(OSError):
            self.connection.shutdown(2)
        self.close_connection = True
        return True

    def _send(self, status: int, document: Any, **headers: str) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(data)

    # -- calls ------------------------------------------------------------------------------------------------------

    def who(self, _: bytes) -> None:
        self._send(200, {"name": "ann", "type": "user"})

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        repo_id = f"{asked['organization']}/{asked['name']}"
        if repo_id in self.hub.repositories:
            self._send(409, {"error": "You already created this model repo"})
            return
        self.hub.repositories[repo_id] = Repository(asked.get("visibility") == "private")
        self._send(200, {"url": f"{self.hub.url}/{repo_id}"})

    def info(self, _: bytes, repo_id: str) -> None:
        repository = self.hub.repositories.get(repo_id)
        if repository is None:
            self._send(404, {"error": "Repository not found"}, **{"X-Error-Code": "RepoNotFound"})
            return
        self._send(200, {"id": repo_id, "modelId": repo_id, "private": repository.private, "sha": "0" * 40, "tags": []})

    def card(self, body: bytes) -> None:
        text = json.loads(body)["content"]
        good = text.startswith("---\n")
        self._send(200 if good else 400, {"errors": [] if good else [{"message": "no head"}], "warnings": []})

    def preupload(self, body: bytes, repo_id: str) -> None:
        assert repo_id in self.hub.repositories
        files = [
            {
                "path": file["path"], "shouldIgnore": False,
                "uploadMode": "lfs" if file["size"] > REGULAR_BYTES else "regular",
            }
            for file in json.loads(body)["files"]
        ]  # fmt: skip
        self._send(200, {"files": files})

    def batch(self, body: bytes, repo_id: str) -> None:
        objects: list[dict[str, Any]] = []
        for wanted in json.loads(body)["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            answer: dict[str, Any] = {"oid": oid, "size": size}
            if oid not in self.hub.objects:
                answer["actions"] = {
                    "upload": self._upload(oid, size),
                    "verify": {"href": f"{self.hub.url}/{repo_id}.git/info/lfs/verify"},
                }
            objects.append(answer)
        self._send(200, {"transfer": "basic", "objects": objects})

    def _upload(self, oid: str, size: int) -> dict[str, Any]:
        if size <= PART_BYTES:
            return {"href": f"{self.hub.url}/store/{oid}?signature=a-secret-of-the-hub"}
        count = -(-size // PART_BYTES)
        parts = {
            f"{n:05}": f"{self.hub.url}/store/{oid}/{n}?signature=a-secret-of-the-hub" for n in range(1, count + 1)
        }
        return {"href": f"{self.hub.url}/complete/{oid}", "header": {"chunk_size": str(PART_BYTES), **parts}}

    def store(self, body: bytes, oid: str) -> None:
        time.sleep(self.hub.faults.slow_upload_s)
        self._keep(oid, body)
        self._send(200, {})

    def store_part(self, body: bytes, oid: str, number: str) -> None:
        time.sleep(self.hub.faults.slow_upload_s)
        self.hub.parts[oid, int(number)] = body
        self._send(200, {}, ETag=f'"{number}"')

    def complete(self, body: bytes, oid: str) -> None:
        numbers = [part["partNumber"] for part in json.loads(body)["parts"]]
        self._keep(oid, b"".join(self.hub.parts[oid, number] for number in numbers))
        self._send(200, {})

    def _keep(self, oid: str, content: bytes) -> None:
        assert hashlib.sha256(content).hexdigest() == oid
        self.hub.objects[oid] = content

    def verify(self, body: bytes, _: str) -> None:
        self._send(200 if json.loads(body)["oid"] in self.hub.objects else 404, {})

    def commit(self, body: bytes, repo_id: str) -> None:
        repository = self.hub.repositories[repo_id]
        for line in body.splitlines():
            told = json.loads(line)
            value = told["value"]
            if told["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif told["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.objects[value["oid"]]
        repository.commits += 1
        oid = f"{repository.commits:040}"
        self._send(200, {"commitUrl": f"{self.hub.url}/{repo_id}/commit/{oid}", "commitOid": oid})


_CALLS: dict[str, Any] = {
    r"GET /api/whoami-v2": _Handler.who,
    r"POST /api/repos/create": _Handler.create,
    rf"GET /api/models/{_REPO}": _Handler.info,
    r"POST /api/validate-yaml": _Handler.card,
    rf"POST /api/models/{_REPO}/preupload/main": _Handler.preupload,
    rf"POST /{_REPO}\.git/info/lfs/objects/batch": _Handler.batch,
    rf"POST /{_REPO}\.git/info/lfs/verify": _Handler.verify,
    r"PUT /store/(\w+)": _Handler.store,
    r"PUT /store/(\w+)/(\d+)": _Handler.store_part,
    r"POST /complete/(\w+)": _Handler.complete,
    rf"POST /api/models/{_REPO}/commit/main": _Handler.commit,
}
