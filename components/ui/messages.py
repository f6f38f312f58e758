"""AppError → what a person reads. Gradio renders its messages as HTML, so everything is escaped here."""

from __future__ import annotations

import html

import gradio as gr

from components.core.errors import AppError


def warn(error: AppError) -> None:
    """Show an expected failure in the page's corner."""
    gr.Warning(html.escape(str(error)), title="Not done")


def as_api_error(error: AppError) -> gr.Error:
    """The same for an API client: names the field and what is accepted; never a traceback."""
    field = f"{error.field}: " if error.field else ""
    return gr.Error(html.escape(f"{field}{error}", quote=False), print_exception=False)
