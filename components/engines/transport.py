"""HTTP to one engine, over its Unix socket or a URL. The only file that knows httpx; it never retries and never parses.

Every request uses a connection of its own. The real server closes a kept-alive connection after a 500, and the next
request on it then fails with a reset (reliability.md 6.2); a retry would hide that but falsify TTFT and double the
work. Connecting to a Unix socket costs about 0.1 ms, so there is no pool whose state could go bad.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson

from components.core.errors import EngineDiedError, EngineNotReadyError
from components.engines.vocabulary import Vocabulary

_CONNECT_TIMEOUT_S = 5.0
_WRITE_TIMEOUT_S = 60.0  # a request may carry some MB of pictures
_POLL_TIMEOUT_S = 5.0  # /health, /v1/models: a server that needs longer is not ready
_MAX_ERROR_BYTES = 64 * 1024
_JSON = {"Content-Type": "application/json"}


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
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        # No TLS over a Unix socket: building a certificate store would cost 20 ms for nothing.
        transport = httpx.AsyncHTTPTransport(uds=str(uds), verify=False, limits=limits, retries=0) if uds else None
        self._http = httpx.AsyncClient(
            transport=transport,
            base_url=_base_url(url),
            limits=limits,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            # No read limit: the watchdog of ``stream`` counts tokens, which a byte timeout can't.
            timeout=httpx.Timeout(connect=_CONNECT_TIMEOUT_S, read=None, write=_WRITE_TIMEOUT_S, pool=None),
            trust_env=uds is None,
            follow_redirects=False,
        )

    @asynccontextmanager
    async def request_stream(self, path: str, body: bytes) -> AsyncGenerator[StreamResponse, None]:
        """POST a JSON body and read the answer as it comes; leaving the block closes the request.

        Raises:
            EngineNotReadyError: nobody listens at the address.
            EngineDiedError: the connection broke before the answer began.
        """
        request = self._http.build_request(
            "POST", path, content=body, headers={"Content-Type": "application/json", "Accept-Encoding": "identity"}
        )
        response = await self._send(request)
        try:
            async with aclosing(self._chunks(response)) as chunks:
                yield StreamResponse(response.status_code, chunks)
        finally:
            await response.aclose()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._http.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            raise EngineNotReadyError(
                f"The engine {self.served_model} does not answer.",
                "Look at its state on the Models tab and start it if it is stopped.",
                detail=f"{self.address}: {exc!r}",
            ) from exc
        except httpx.TransportError as exc:
            raise self._broken(exc) from exc

    async def _chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in response.aiter_bytes():
                self.last_heard_s = time.monotonic()
                yield chunk
        except httpx.TransportError as exc:
            raise self._broken(exc) from exc

    def _broken(self, exc: httpx.TransportError) -> EngineDiedError:
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
            response = await self._http.get("/health", timeout=_POLL_TIMEOUT_S)
        except httpx.TransportError:
            return False
        return response.status_code in (200, 404)

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
            response = await self._http.get("/metrics", timeout=_POLL_TIMEOUT_S)
        except httpx.TransportError as exc:
            raise EngineNotReadyError(f"{self.served_model}: no answer from /metrics.", detail=repr(exc)) from exc
        if response.status_code != httpx.codes.OK:
            raise EngineNotReadyError(f"{self.served_model}: /metrics answered {response.status_code}.")
        return response.content

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
            response = await self._http.post(path, content=orjson.dumps(body or {}), headers=_JSON)
        except httpx.TransportError as exc:
            raise EngineNotReadyError(f"{self.served_model}: no answer from {path}.", detail=repr(exc)) from exc
        if response.status_code != httpx.codes.OK:
            raise EngineNotReadyError(f"{self.served_model}: {path} answered {response.status_code}.")

    async def _get_json(self, path: str) -> dict[str, Any]:
        try:
            response = await self._http.get(path, timeout=_POLL_TIMEOUT_S)
            document = orjson.loads(response.content)
        except (httpx.TransportError, orjson.JSONDecodeError) as exc:
            raise EngineNotReadyError(f"{self.served_model}: no answer from {path}.", detail=repr(exc)) from exc
        if response.status_code in (401, 403):
            raise EngineNotReadyError(
                f"{self.served_model}: the server refused our API key.",
                "Set the environment variable that the profile names as api_key_env, and restart.",
            )
        if response.status_code != httpx.codes.OK or not isinstance(document, dict):
            raise EngineNotReadyError(f"{self.served_model}: {path} answered {response.status_code}.")
        return document

    async def close(self) -> None:
        """Close what is still open; later requests fail."""
        await self._http.aclose()


def _base_url(url: str | None) -> str:
    """The root of the server: profiles may give it with or without ``/v1``."""
    return (url or "http://engine").rstrip("/").removesuffix("/v1")
