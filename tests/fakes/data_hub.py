"""A hub of one data set, for huggingface_hub itself: its list of files, and the files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class DataHub(BaseHTTPRequestHandler):
    """One server's handler; ``asked`` are the paths."""

    repo_id: ClassVar[str]
    files: ClassVar[Mapping[str, bytes]]
    asked: ClassVar[list[str]]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(path)
        name = path.partition(f"/resolve/{COMMIT}/")[2]
        if path.startswith(f"/api/datasets/{self.repo_id}"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in self.files.items()]
            data = json.dumps({"id": self.repo_id, "sha": COMMIT, "siblings": siblings}).encode()
            self._send(200, data, with_body, "application/json")
        elif path.startswith(f"/datasets/{self.repo_id}/") and name in self.files:
            self._send(200, self.files[name], with_body, "application/octet-stream")
        else:
            self._send(404, b"{}", with_body, "application/json")

    def _send(self, status: int, data: bytes, with_body: bool, kind: str) -> None:
        self.send_response(status)
        for header, value in (
            ("content-type", kind), ("content-length", str(len(data))), ("x-repo-commit", COMMIT),
            ("etag", f'"{hashlib.sha256(data).hexdigest()}"'),
        ):  # fmt: skip
            self.send_header(header, value)
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextmanager
def serving_data_set(repo_id: str, files: Mapping[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """The endpoint of a hub with one data set, and the paths that it was asked for."""
    asked: list[str] = []
    handler = type("Handler", (DataHub,), {"repo_id": repo_id, "files": files, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
