"""A server's refusals and failures as errors that a person can act on. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

from components.core.errors import EngineFailureError, RequestRefusedError, StreamError

_SERVER_ERROR = 500
_TOO_MANY_REQUESTS = 429
_FORBIDDEN = 403
_MAX_SHOWN = 400
_PARAMETER = re.compile(r" \(parameter=\w+(, value=[^)]*)?\)$")  # vLLM's note to programmers

# vLLM 0.32: renderers/params.py, v1/engine/input_processor.py, multimodal/processing/context.py, sampling_params.py.
_KNOWN: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], tuple[str, str]]], ...] = (
    (
        re.compile(
            r"maximum context length is (\d+) tokens.*?requested (\d+) output tokens.*?(\d+) input tokens", re.S
        ),
        lambda m: (
            f"The prompt has {m[3]} tokens and the answer may have {m[2]}, but the model's context holds {m[1]}.",
            "Lower max tokens, shorten the prompt, or start a new conversation.",
        ),
    ),
    (
        re.compile(r"maximum context length is (\d+) tokens.*?contains (at least )?(\d+) input tokens", re.S),
        lambda m: (
            f"The prompt has {m[2] or ''}{m[3]} tokens, but the model's context holds {m[1]}.",
            "Shorten the prompt, use fewer or smaller pictures, or start a new conversation.",
        ),
    ),
    (
        re.compile(r"maximum context length is (\d+) tokens.*?contains (\d+) characters", re.S),
        lambda m: (
            f"The prompt has {m[2]} characters, more than the model's context of {m[1]} tokens can hold.",
            "Shorten the prompt, or start a new conversation.",
        ),
    ),
    (
        re.compile(r"max_tokens=(\d+) cannot be greater than max_model_len=(\d+)"),
        lambda m: (
            f"The answer may have {m[1]} tokens, but the model's context holds {m[2]}, the prompt included.",
            "Lower max tokens.",
        ),
    ),
    (
        re.compile(r"prompt \(length (\d+)\).*?longer than the maximum model length of (\d+)", re.S),
        lambda m: (
            f"The prompt has {m[1]} tokens, pictures included, but the model's context holds {m[2]}.",
            "Shorten the prompt, use fewer or smaller pictures, or start a new conversation.",
        ),
    ),
    (
        re.compile(r"At most (\d+) image\(s\) may be provided"),
        lambda m: (
            f"This engine takes at most {m[1]} pictures in a conversation.",
            "Remove some, or start a new conversation.",
        ),
    ),
    (
        re.compile(r"Requested (?:sample|prompt) logprobs of (\d+).*?max allowed: (\d+)", re.S),
        lambda m: (
            f"{m[1]} alternatives per token were asked for, but this engine gives at most {m[2]}.",
            "Ask for fewer, or start the engine with a larger max_logprobs.",
        ),
    ),
    (
        re.compile(r"prompt_logprob_token_ids requires the V2 model runner"),
        lambda _m: (
            "This engine runs vLLM's V1 model runner, which can't score chosen ids.",
            "Choose the method top_k or exact, or serve the model where the V2 runner works (on a GPU).",
        ),
    ),
    (
        re.compile(r"cannot identify image file|Failed to load image|image file is truncated"),
        lambda m: ("The engine can't decode the picture.", "Open it in an image editor and save it as PNG."),
    ),
)


def refusal(model: str, status: int, body: bytes) -> StreamError:
    """The error of an answer with a status other than 200."""
    message = _server_message(body) or f"HTTP {status}"
    if status >= _SERVER_ERROR:
        return _failure(model, message, status)
    if status == _TOO_MANY_REQUESTS:
        return EngineFailureError(f"{model} has too many requests now.", "Wait a moment and retry.", detail=message)
    if status == _FORBIDDEN and "--enable-scale-out" in message:
        return RequestRefusedError(
            f"{model} has no endpoint for token ids.", "Start its vLLM with --enable-scale-out.", detail=message
        )
    if status in (401, _FORBIDDEN):
        return RequestRefusedError(
            f"{model} refused our API key.",
            "Set the environment variable that the profile names as api_key_env, and restart.",
            detail=message,
        )
    return _refused(model, message)


def chunk_error(model: str, error: Any) -> StreamError:
    """The error of an ``error`` object inside a stream that had begun well."""
    fields = error if isinstance(error, dict) else {"message": str(error)}
    code, message = fields.get("code"), str(fields.get("message") or "no reason given")
    if isinstance(code, int) and 400 <= code < _SERVER_ERROR:
        return _refused(model, message)
    return _failure(model, message, code if isinstance(code, int) else _SERVER_ERROR)


def _refused(model: str, message: str) -> RequestRefusedError:
    for pattern, explain in _KNOWN:
        match = pattern.search(message)
        if match:
            shown, hint = explain(match)
            return RequestRefusedError(shown, hint, detail=message)
    shown = _PARAMETER.sub("", message)[:_MAX_SHOWN]
    return RequestRefusedError(f"{model} refused the request: {shown}", detail=message)


def _failure(model: str, message: str, code: int) -> EngineFailureError:
    return EngineFailureError(
        f"{model} failed: {message[:_MAX_SHOWN]}",
        "The engine is restarted if it died; its log says more. Retry once it is ready again.",
        detail=f"code {code}: {message}",
    )


def _server_message(body: bytes) -> str:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace").strip()[:_MAX_SHOWN]
    error = document.get("error", document) if isinstance(document, dict) else document
    message = (error.get("message") or error.get("detail")) if isinstance(error, dict) else error
    return str(message or "")
