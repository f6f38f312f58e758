"""HTTP to one engine, over its Unix socket or a URL. The only file that knows aiohttp; it never retries, never parses.

Every request uses a connection of its own. The real server closes a kept-alive connection after a 500, and the next
request on it then fails with a reset (reliability.md 6.2); a retry would hide that but falsify TTFT and double the
work. Connecting to a Unix socket costs about 0.1 ms, so there is no pool whose state could go bad.

aiohttp, because its parser is compiled: a token arrives as a chunk of its own, and with many streams at once what a
chunk costs is what the app takes from the engines: 57 µs for 2.6 kB, where httpx took 178 (beside a test run).
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from components.core.errors import EngineDiedError, EngineNotReadyError
from components.engines.vocabulary import Vocabulary

_CONNECT_TIMEOUT_S = 5.0
_POLL_TIMEOUT_S = 5.0  # /health, /v1/models: a server that needs longer is not ready
_MAX_ERROR_BYTES = 64 * 1024
_JSON = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
_OK = 200
_NO_ROUTE = 404
# What a connection that can't be made raises, and what one that breaks does.
_UNREACHED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_BROKEN = (aiohttp.ClientError, OSError, TimeoutError)
# No read limit: the watchdog of ``stream`` counts tokens, which a byte timeout can't.
_NO_LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S)
_POLL = aiohttp.ClientTimeout(total=_POLL_TIMEOUT_S)


@dataclass(frozen=True)
class StreamResponse:
    """An answer whose body is still coming."""

    status: int
    chunks: AsyncIterator[bytes]  # raises EngineDiedError when the connection breaks

    async def read_error(self) -> bytes:
        """The body of a refusal, up to 64 KiB."""
        body = bytearray()
        async for chunk in self.chunks:
            body += chunk
            if len(body) > _MAX_ERROR_BYTES:
                break
        return bytes(body)


class EngineClient:
    """Talks to one server of one model. Belongs to one event loop.

    Args:
        served_model: the name under which the server lists the model; requests carry it.
        uds: the server's Unix socket; or
        url: its base URL, without ``/v1``.
        api_key: sent as a bearer token.
        vocabulary: the model's tokens, where its files are at hand; with it every alternative of a step has
            its id *and* its text, without it only the text (see ``stream``).
    """

    def __init__(
        self,
        served_model: str,
        *,
        uds: Path | None = None,
        url: str | None = None,
        api_key: str | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        if (uds is None) == (url is None):
            raise ValueError("give either a Unix socket or a URL")
        self.served_model = served_model
        self.api_key = api_key
        self.vocabulary = vocabulary
        self.is_vllm = uds is not None  # of a URL it is learned by ``version``; other servers refuse vLLM's own fields
        self.address = str(uds) if uds else str(url)
        self.last_heard_s = -math.inf  # time.monotonic() of the last piece of any streamed answer
        self._uds = uds
        self._root = _root_url(url)
        self._http: aiohttp.ClientSession | None = None

    @property
    def _session(self) -> aiohttp.ClientSession:
        """Made at the first request: it belongs to the event loop that runs then."""
        if self._http is None:
            kept: dict[str, Any] = {"force_close": True, "limit": 0}
            connector = aiohttp.UnixConnector(str(self._uds), **kept) if self._uds else aiohttp.TCPConnector(**kept)
            self._http = aiohttp.ClientSession(
                connector=connector,
                headers={"Authorization": f"Bearer {self.api_key}"} if self.api_key else {},
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=_NO_LIMIT,
                trust_env=self._uds is None,
            )
        return self._http

    @asynccontextmanager
    async def request_stream(self, path: str, body: bytes) -> AsyncGenerator[StreamResponse, None]:
        """POST a JSON body and read the answer as it comes; leaving the block closes the request.

        Raises:
            EngineNotReadyError: nobody listens at the address.
            EngineDiedError: the connection broke before the answer began.
        """
        response = await self._send(path, body)
        try:
            async with aclosing(self._chunks(response)) as chunks:
                yield StreamResponse(response.status, chunks)
        finally:
            response.close()

    async def _send(self, path: str, body: bytes) -> aiohttp.ClientResponse:
        try:
            return await self._session.post(self._root + path, data=body, headers=_JSON, allow_redirects=False)
        except _UNREACHED as exc:
            raise EngineNotReadyError(
                f"The engine {self.served_model} does not answer.",
                "Look at its state on the Models tab and start it if it is stopped.",
                detail=f"{self.address}: {exc!r}",
            ) from exc
        except _BROKEN as exc:
            raise self._broken(exc) from exc

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in response.content.iter_any():
                self.last_heard_s = time.monotonic()
                yield chunk
        except _BROKEN as exc:
            raise self._broken(exc) from exc

    def _broken(self, exc: Exception) -> EngineDiedError:
        return EngineDiedError(
            f"The connection to the engine {self.served_model} broke.",
            "The engine probably ended; its log on the Models tab says why. Retry once it is ready again.",
            detail=f"{self.address}: {exc!r}",
        )

    async def healthy(self) -> bool:
        """Whether ``/health`` answers 200 now. Says nothing about which model is served, or about progress.

        A server without ``/health`` (some remote endpoints) counts as healthy when it answers at all.
        """
        try:
            status, _ = await self._get("/health")
        except _BROKEN:
            return False
        return status in (_OK, _NO_ROUTE)

    async def served_models(self) -> dict[str, int | None]:
        """Names that ``/v1/models`` lists, each with its context length in tokens where told.

        Raises:
            EngineNotReadyError: no answer, or not a list of models.
        """
        document = await self._get_json("/v1/models")
        entries = document.get("data")
        if not isinstance(entries, list):
            raise EngineNotReadyError(f"{self.served_model}: the server lists no models.", detail=str(document)[:500])
        return {entry["id"]: entry.get("max_model_len") for entry in entries if isinstance(entry, dict)}

    async def version(self) -> str | None:
        """The server's own version; None when it does not tell."""
        try:
            version = (await self._get_json("/version")).get("version")
        except EngineNotReadyError:
            return None
        self.is_vllm = isinstance(version, str)
        return str(version) if self.is_vllm else None

    async def metrics(self) -> bytes:
        """vLLM's own metrics, in Prometheus' text format.

        Raises:
            EngineNotReadyError: no answer, or the server has none.
        """
        try:
            status, body = await self._get("/metrics")
        except _BROKEN as exc:
            raise EngineNotReadyError(f"{self.served_model}: no answer from /metrics.", detail=repr(exc)) from exc
        if status != _OK:
            raise EngineNotReadyError(f"{self.served_model}: /metrics answered {status}.")
        return body

    async def sleep(self, level: int) -> None:
        """Let vLLM give up its GPU memory; needs --enable-sleep-mode and its development routes.

        Args:
            level: 1 = weights go to main memory, 2 = they are dropped.

        Raises:
            EngineNotReadyError: it did not.
        """
        await self._command(f"/sleep?level={level}")

    async def wake_up(self, level: int) -> None:
        """Undo ``sleep`` of the same level.

        Raises:
            EngineNotReadyError: it did not wake.
        """
        if level == 1:
            await self._command("/wake_up")
            return
        await self._command("/wake_up?tags=weights")
        await self._command("/collective_rpc", {"method": "reload_weights"})
        await self._command("/wake_up?tags=kv_cache")

    async def _command(self, path: str, body: dict[str, Any] | None = None) -> None:
        try:
            # No read limit: gigabytes move; the caller has a limit of its own.
            async with self._session.post(self._root + path, data=orjson.dumps(body or {}), headers=_JSON) as response:
                status = response.status
        except _BROKEN as exc:
            raise EngineNotReadyError(f"{self.served_model}: no answer from {path}.", detail=repr(exc)) from exc
        if status != _OK:
            raise EngineNotReadyError(f"{self.served_model}: {path} answered {status}.")

    async def _get(self, path: str) -> tuple[int, bytes]:
        async with self._session.get(self._root + path, timeout=_POLL, allow_redirects=False) as response:
            return response.status, await response.read()

    async def _get_json(self, path: str) -> dict[str, Any]:
        try:
            status, body = await self._get(path)
            document = orjson.loads(body)
        except (*_BROKEN, orjson.JSONDecodeError) as exc:
            raise EngineNotReadyError(f"{self.served_model}: no answer from {path}.", detail=repr(exc)) from exc
        if status in (401, 403):
            raise EngineNotReadyError(
                f"{self.served_model}: the server refused our API key.",
                "Set the environment variable that the profile names as api_key_env, and restart.",
            )
        if status != _OK or not isinstance(document, dict):
            raise EngineNotReadyError(f"{self.served_model}: {path} answered {status}.")
        return document

    async def close(self) -> None:
        """Close what is still open; later requests fail."""
        if self._http is not None:
            await self._http.close()


def _root_url(url: str | None) -> str:
    """The root of the server: profiles may give it with or without ``/v1``."""
    return (url or "http://engine").rstrip("/").removesuffix("/v1")
