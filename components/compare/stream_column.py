"""One column's answer while it streams: collects tokens, hands out snapshots, ends in exactly one outcome."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from components.core.answers import Answer, ErrorRecord, TokenStep, ToolCall, Usage
from components.core.errors import AppError, EngineDiedError, StreamStalledError, StreamTruncatedError
from components.core.latency import timing_from_arrivals
from components.core.states import Outcome
from components.core.traces import AnswerSlot
from components.engines.stream import (
    ChatRequest,
    FinishedEvent,
    StreamEvent,
    TokensEvent,
    has_images,
    stream_chat,
    to_records,
)
from components.engines.stream_events import RawStep
from components.engines.stream_tokens import TokensRequest, stream_tokens
from components.engines.supervisor import EngineHub
from components.engines.transport import EngineClient
from components.engines.vocabulary import Vocabulary

_HEAD_START_S = 0.003
_HEARTBEAT_S = 1.0  # Gradio notices a closed tab at the next yield only (reliability.md 6.1)
_READY_LIMIT_S = 900.0  # an engine that is loading when it is asked
_TRUNCATING = (EngineDiedError, StreamTruncatedError, StreamStalledError)


@dataclass(frozen=True)
class Snapshot:
    """The answer so far, and what is being waited for, in words."""

    answer: Answer
    waiting: str


class ColumnStream:
    """Runs one request. ``run`` may be iterated once; ``answer`` is valid at any time."""

    def __init__(self, hub: EngineHub, slot: AnswerSlot, request: ChatRequest | TokensRequest) -> None:
        self.slot = slot
        self.text = request.text if isinstance(request, TokensRequest) else ""
        self._hub, self._request = hub, request
        self._steps: list[RawStep] = []
        self._calls: tuple[ToolCall, ...] = ()
        self._usage = Usage()
        self._prompt_ids: tuple[int, ...] = ()
        self._finish_reason: str | None = None
        self._error: ErrorRecord | None = None
        self._outcome = Outcome.STREAMING
        self._end_ms: float | None = None
        self._is_waiting = True
        self._changed = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._record: Answer | None = None
        self._vocabulary: Vocabulary | None = None

    def stop(self) -> None:
        """Ask the stream to end; what came so far is kept."""
        if self._outcome is Outcome.STREAMING:
            self._outcome = Outcome.STOPPED
        if self._pump is not None:
            self._pump.cancel()
        self._changed.set()

    async def run(self, flush_s: Callable[[], float]) -> AsyncGenerator[Snapshot, None]:
        """Snapshots: one of the beginning, one at once on the first token, then at most every ``flush_s()``, and a
        heartbeat every second.
        """
        self._pump = asyncio.create_task(self._read())
        try:
            # The request goes out first: telling the page takes Gradio some ms, in which the engine can work already.
            await asyncio.sleep(_HEAD_START_S)
            yield Snapshot(self._partial(), self._waiting)
            while not self._pump.done():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_HEARTBEAT_S):
                        await self._changed.wait()
                self._changed.clear()
                yield Snapshot(self._partial(), self._waiting)
                await asyncio.wait({self._pump}, timeout=flush_s())
            # The last words are shown before the record is written, which takes some ms.
            yield Snapshot(self._partial().model_copy(update={"outcome": Outcome.STREAMING}), "")
        finally:
            self.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pump

    async def _read(self) -> None:
        try:
            # A blind engine is never ready for pictures, but its text is as good as before.
            engine_id, blind_too = self.slot.label.engine_id, not self._has_images
            async with self._hub.use(engine_id, _READY_LIMIT_S, blind_too=blind_too) as client:
                self._is_waiting = False
                await self._collect(client)
        except AppError as exc:
            record = exc.as_record()
            self._error = ErrorRecord(code=str(record["code"]), message=exc.message, hint=exc.hint, field=exc.field)
            truncated = isinstance(exc, _TRUNCATING) and (self.text or self._steps)
            self._outcome = Outcome.TRUNCATED if truncated else Outcome.FAILED
        finally:
            self._is_waiting = False
            self._changed.set()

    @property
    def _waiting(self) -> str:
        """What an engine that is loading, or waits for its turn, is doing; empty once it answers."""
        if not self._is_waiting:
            return ""
        status = self._hub.status(self.slot.label.engine_id)
        return status.message or status.state.value

    async def _collect(self, client: EngineClient) -> None:
        self._vocabulary = client.vocabulary
        async with contextlib.aclosing(self._events(client)) as events:
            async for event in events:
                if isinstance(event, TokensEvent):
                    self.text += event.text_delta
                    self._steps.extend(event.raw_steps)
                elif isinstance(event, FinishedEvent):
                    self._finish(event)
                else:
                    self._calls = event.calls
                self._changed.set()

    @property
    def _has_images(self) -> bool:
        request = self._request
        return bool(request.path.images) if isinstance(request, TokensRequest) else has_images(request)

    def _events(self, client: EngineClient) -> AsyncGenerator[StreamEvent, None]:
        request = self._request
        return stream_tokens(client, request) if isinstance(request, TokensRequest) else stream_chat(client, request)

    def _finish(self, event: FinishedEvent) -> None:
        self._usage, self._prompt_ids = event.usage, event.prompt_token_ids
        self._finish_reason, self._end_ms = event.finish_reason, event.at_ms
        if self._outcome is Outcome.STREAMING:
            self._outcome = Outcome.FINISHED

    def _partial(self) -> Answer:
        """Cheap: no token records, which are made once at the end."""
        return Answer.model_construct(
            text=self.text, tokens=(), tool_calls=self._calls, finish_reason=None, outcome=self._outcome,
            error=self._error, prompt_token_ids=(), usage=self._usage, timing=timing_from_arrivals((), None),
        )  # fmt: skip

    def answer(self) -> Answer:
        """Everything that is known, as a record; made once the answer is over."""
        if self._record is not None:
            return self._record
        given: tuple[TokenStep, ...] = ()
        prompt_ids = self._prompt_ids
        if isinstance(self._request, TokensRequest):  # the engine takes what was given for a part of the prompt
            given, prompt_ids = self._request.given, self._request.path.prompt_ids
        self._record = Answer(
            text=self.text,
            tokens=(*given, *to_records(self._steps, self._vocabulary)),
            tool_calls=self._calls,
            finish_reason=self._finish_reason,
            outcome=self._outcome,
            error=self._error,
            prompt_token_ids=prompt_ids,
            usage=self._usage,
            timing=timing_from_arrivals([step.at_ms for step in self._steps], self._end_ms),
        )
        return self._record
