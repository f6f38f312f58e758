"""A scripted server that speaks like vLLM 0.32, for faults which the real one can't be made to show on demand.

``python -m tests.fakes.fake_vllm --uds PATH [--mode MODE] [--control FILE]`` at the repository root. The control file,
when it exists, holds JSON that replaces fields of ``Options`` at each request. ``GET /_hits`` answers the requests so
far. The contract tests hold it to the real server.

Modes: ok, abort (connection cut after ``abort_after`` tokens), clean_end, error_chunk, bad_json, split_utf8, stall,
engine_dead (/health 503), wrong_model, no_logprobs, nan_logprobs, http_500, http_503, http_400, plain_ids (no token
ids), giving_up (finish reason "abort").
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from components.engines.sight_pictures import picture

VERSION = "0.32.0+fake"


@dataclass(frozen=True)
class Options:
    mode: str = "ok"
    ttft_s: float = 0.0
    itl_s: float = 0.0
    tokens: int = 8
    abort_after: int = 3
    answers: dict[str, str] = field(default_factory=dict)  # beginning of the last question → answer
    seeded: tuple[str, ...] = ()  # answers of requests with a seed, which chooses one
    failing_seeds: tuple[int, ...] = ()  # requests with these get HTTP 500
    blank_answer: str | None = None  # instead of it, for the sight check's blank picture


@dataclass
class Fake:
    options: Options
    model: str
    control: Path | None
    hits: list[dict[str, Any]] = field(default_factory=list)
    open_streams: int = 0

    def now(self) -> Options:
        if self.control is not None and self.control.exists():
            return replace(self.options, **json.loads(self.control.read_text()))
        return self.options

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split("\r\n", 1)[0].split(" ", 2)
            length = next(
                (int(x.split(":")[1]) for x in head.split("\r\n") if x.lower().startswith("content-length")), 0
            )
            body = json.loads(await reader.readexactly(length)) if length else {}
            if not path.startswith("/_"):
                self.hits.append({"method": method, "path": path, "body": body})
            await self.answer(path, body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, path: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        options = self.now()
        if path == "/health":
            await _reply(writer, 503 if options.mode == "engine_dead" else 200, b"")
        elif path == "/v1/models":
            models = (
                [] if options.mode == "wrong_model" else [{"id": self.model, "object": "model", "max_model_len": 2048}]
            )
            await _json(writer, 200, {"object": "list", "data": models})
        elif path == "/version":
            await _json(writer, 200, {"version": VERSION})
        elif path == "/_hits":
            await _json(writer, 200, {"hits": self.hits, "open_streams": self.open_streams})
        elif path == "/v1/chat/completions":
            await self.chat(body, options, writer)
        else:
            await _json(writer, 404, {"detail": "Not Found"})

    async def chat(self, body: dict[str, Any], options: Options, writer: asyncio.StreamWriter) -> None:
        if options.mode.startswith("http_") or body.get("seed") in options.failing_seeds:
            code = int(options.mode.removeprefix("http_")) if options.mode.startswith("http_") else 500
            await _json(
                writer, code, {"error": {"message": "scripted failure", "type": "x", "param": None, "code": code}}
            )
            return
        if body.get("model") != self.model:
            error = {
                "message": f"The model `{body.get('model')}` does not exist.",
                "type": "NotFoundError",
                "code": 404,
            }
            await _json(writer, 404, {"error": error | {"param": "model"}})
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self.open_streams += 1
        try:
            async for piece in self.pieces(body, options):
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await writer.drain()
            if options.mode != "abort":
                writer.write(b"0\r\n\r\n")
                await writer.drain()
        finally:
            self.open_streams -= 1

    async def pieces(self, body: dict[str, Any], options: Options) -> AsyncIterator[bytes]:
        yield _event(self.chunk({"role": "assistant", "content": ""}, first=bool(body.get("return_token_ids"))))
        await asyncio.sleep(options.ttft_s)
        words = _words(body, options)
        for index, word in enumerate(words):
            if options.mode in ("abort", "stall", "error_chunk", "bad_json") and index == options.abort_after:
                break
            data = _event(self.token(body, options, index, word, last=index == len(words) - 1))
            if options.mode == "split_utf8":
                cut = next((i for i, byte in enumerate(data) if byte >= 0xC0), len(data) // 2) + 1
                yield data[:cut]
                await asyncio.sleep(0.01)
                data = data[cut:]
            yield data
            await asyncio.sleep(options.itl_s)
        if options.mode == "stall":
            await asyncio.sleep(3600)
        if options.mode == "bad_json":
            yield b'data: {"choices": [{"delta": {"con\n\n'
        if options.mode == "error_chunk":
            message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
            yield _event({"error": {"message": message, "type": "InternalServerError", "param": None, "code": 500}})
        elif options.mode != "clean_end":
            yield _event(self.usage(body, len(words)))
        if options.mode not in ("abort", "clean_end"):
            yield b"data: [DONE]\n\n"

    def chunk(self, delta: dict[str, Any], *, first: bool = False, **choice: Any) -> dict[str, Any]:
        chunk = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1, "model": self.model}
        chunk["choices"] = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} | choice]
        return chunk | ({"prompt_token_ids": [1, 3, 1100, 4], "prompt_text": None} if first else {})

    def token(self, body: dict[str, Any], options: Options, index: int, word: str, *, last: bool) -> dict[str, Any]:
        choice: dict[str, Any] = {}
        if body.get("return_token_ids") and options.mode != "plain_ids":
            choice["token_ids"] = [1000 + index]
        if body.get("logprobs") and options.mode != "no_logprobs":
            choice["logprobs"] = {"content": [_logprob(body, options, 1000 + index, word)]}
        if last and options.mode != "clean_end":
            choice |= {"finish_reason": "abort" if options.mode == "giving_up" else "stop", "stop_reason": None}
        return self.chunk({"content": word}, **choice)

    def usage(self, body: dict[str, Any], count: int) -> dict[str, Any]:
        usage = {"prompt_tokens": 4, "total_tokens": 4 + count, "completion_tokens": count}
        return {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1, "model": self.model,
                "choices": [], "usage": usage}  # fmt: skip


def _words(body: dict[str, Any], options: Options) -> list[str]:
    scripted = _scripted(body.get("messages") or [], options)
    if options.seeded and "seed" in body:
        scripted = options.seeded[body["seed"] % len(options.seeded)]
    if scripted is not None:
        words = scripted.split(" ")
        return [*(word + " " for word in words[:-1]), words[-1]]
    count = min(options.tokens, body.get("max_tokens") or options.tokens)
    return ["grün " if index == 1 else f"w{index} " for index in range(count)]


def _scripted(messages: list[dict[str, Any]], options: Options) -> str | None:
    content = messages[-1]["content"] if messages else ""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    question = " ".join(part["text"] for part in parts if part["type"] == "text")
    pictures = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    answer = next((answer for start, answer in options.answers.items() if question.startswith(start)), None)
    is_blank = options.blank_answer is not None and pictures == [picture("blank")]
    return options.blank_answer if answer is not None and is_blank else answer


def _logprob(body: dict[str, Any], options: Options, token_id: int, word: str) -> dict[str, Any]:
    by_id = body.get("return_tokens_as_token_ids")

    def name(number: int, text: str) -> str:
        return f"token_id:{number}" if by_id else text

    def entry(number: int, text: str, value: float) -> dict[str, Any]:
        return {"token": name(number, text), "logprob": value, "bytes": list(name(number, text).encode())}

    value = float("nan") if options.mode == "nan_logprobs" else -0.1
    top = [entry(token_id, word, value)]
    top += [entry(token_id + 100 + k, f"alt{k}", -1.0 - k) for k in range(body.get("top_logprobs", 0) - 1)]
    if len(top) > 1:
        top[-1]["logprob"] = -9999.0
    return {"token": name(token_id, word), "logprob": value, "bytes": list(word.encode()), "top_logprobs": top}


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


async def _json(writer: asyncio.StreamWriter, status: int, document: dict[str, Any]) -> None:
    await _reply(writer, status, json.dumps(document).encode())


async def _reply(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def serve(fake: Fake, uds: str) -> None:
    server = await asyncio.start_unix_server(fake.handle, path=uds)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uds", required=True)
    parser.add_argument("--mode", default="ok")
    parser.add_argument("--served-model-name", default="fake/base")
    parser.add_argument("--control", type=Path)
    known, _ = parser.parse_known_args()  # takes vLLM's other flags and ignores them
    asyncio.run(serve(Fake(Options(mode=known.mode), known.served_model_name, known.control), known.uds))


if __name__ == "__main__":
    main()
