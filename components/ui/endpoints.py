"""API endpoints beside the page: plain functions, no components, expected failures as clear messages."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import gradio as gr

from components.core.errors import AppError
from components.ui.messages import as_api_error

_P = ParamSpec("_P")
_R = TypeVar("_R")


def add_endpoint(function: Callable[_P, Awaitable[_R]], name: str) -> None:
    """Register an endpoint inside the current Blocks context.

    Args:
        function: Its arguments' names and types are those of the endpoint; a ``gr.Request`` is given by Gradio. An
            AppError that it raises reaches the caller with its field and what is accepted.
        name: Without the slash.
    """
    gr.api(answering(function), api_name=name, concurrency_limit=None)


def answering(function: Callable[_P, Awaitable[_R]]) -> Callable[_P, Awaitable[_R]]:
    """The same function for a caller of the API: expected failures become clear messages."""

    @functools.wraps(function)
    async def answered(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return await function(*args, **kwargs)
        except AppError as exc:
            raise as_api_error(exc) from None

    return answered
