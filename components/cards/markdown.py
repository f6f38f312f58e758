"""Markdown from plain values: tables, escaped text. Untrusted text can't become markup, links or HTML. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from components.core.markdown import visible

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$!&])")
_SPACES = re.compile(r"\s+")
_MAX = 400


def text(value: object) -> str:
    """One line of plain text."""
    flat = visible(_SPACES.sub(" ", str(value)).strip()[:_MAX])
    return _SPECIAL.sub(r"\\\1", flat)


def code(value: object) -> str:
    """One line as code; back-ticks, which would end it, become quotes."""
    flat = visible(_SPACES.sub(" ", str(value)).strip()[:_MAX]).replace("`", "'").replace("|", "/")
    return f"`{flat}`"


def prose(value: str) -> str:
    """What a person wrote, as Markdown without HTML and without headings, which would break the card's order."""
    lines = [line.rstrip() for line in value.replace("<", "&lt;").splitlines()]
    return "\n".join(re.sub(r"^(\s{0,3})(#|=+$|-+$|`{3,}|~{3,})", r"\1\\\2", line) for line in lines).strip()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
