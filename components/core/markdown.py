"""Untrusted text inside Markdown: it can't become markup, a link or HTML, nor hide anything. Pure."""

from __future__ import annotations

import re
import unicodedata

_BACKTICKS = re.compile("`+")
# What Markdown could read as markup, a link or a mention inside a line of ours; none of it ever begins a line.
_MARKUP = re.compile(r"([\\`*_{}\[\]#|<>~&:@$])")


def fenced(text: str, language: str = "text") -> str:
    """A code block that its content can't end: its fence is longer than any run of backticks inside."""
    shown = visible(text.replace("\r\n", "\n"), keep="\n\t")
    fence = "`" * max(3, 1 + _longest_run(shown))
    return f"{fence}{language}\n{shown}\n{fence}"


def code(text: str) -> str:
    """Text as code inside a line."""
    shown = visible(text)
    ticks = "`" * (1 + _longest_run(shown))
    return f"{ticks} {shown} {ticks}" if "`" in shown or not shown.strip() else f"{ticks}{shown}{ticks}"


def inline(text: str) -> str:
    """Text as part of a line: nothing in it is markup, a link, a mention or a line break."""
    return _MARKUP.sub(r"\\\1", visible(text))


def visible(text: str, keep: str = "") -> str:
    """Control characters, direction overrides and the like, as their escape codes."""
    return "".join(letter if letter in keep or not _is_unseen(letter) else escape_code(letter) for letter in text)


def _is_unseen(letter: str) -> bool:
    # Cc control, Cf direction and joiners, Cs half surrogates, Zl/Zp line and paragraph separators.
    return unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") and letter != "\u200d"


def escape_code(letter: str) -> str:
    """One character by its number."""
    return f"\\u{{{ord(letter):04x}}}"


def _longest_run(text: str) -> int:
    return max((len(match) for match in _BACKTICKS.findall(text)), default=0)
