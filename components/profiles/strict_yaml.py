"""Strict YAML: text to plain values, each with its place. No types beyond JSON's, and nothing is ever guessed.

Built on PyYAML's events, so that its constructors never run: no tags, no anchors or aliases, no merge keys, one
document, keys are unique names. Scalars follow the core schema of YAML 1.2; a plain scalar that YAML 1.1 and 1.2 read
differently (``no``, ``010``, ``12:30:45``, ``1_000``) is refused: read either way, someone meant the other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from components.core.errors import ProfileSyntaxError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20

Scalar = str | int | float | bool | None

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_AMBIGUOUS = (
    (re.compile(r"(?i)(yes|no|on|off|y|n)"), "write true or false; put it in quotes if the word itself is meant"),
    (re.compile(r"[-+]?0[0-9_]+"), "a leading 0 means octal to some programs; drop it, or put it in quotes as text"),
    (re.compile(r"[-+]?0[bBoOxX][0-9a-fA-F_]+"), "write the number in decimal, or put it in quotes as text"),
    (re.compile(r"[-+]?[0-9]+(_+[0-9]+)+(\.[0-9_]*)?"), "write the number without _, or put it in quotes as text"),
    (re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?"), "some programs read this in base 60; put it in quotes"),
    (re.compile(r"(?i)[-+]?\.(inf|nan)"), "write a finite number, or put it in quotes as text"),
)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands; lines and columns count from 1."""

    value: Scalar | dict[str, Node] | list[Node]
    line: int
    column: int
    key_places: dict[str, tuple[int, int]] = field(default_factory=dict)

    def plain(self) -> Any:
        """The value without its places, as JSON types."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def parse(data: bytes, name: str) -> Node:
    """Read one YAML document whose top is a mapping.

    Args:
        data: the file's bytes; UTF-8, at most ``MAX_BYTES``.
        name: the file's name, for messages.

    Raises:
        ProfileSyntaxError: it is anything else than the strict YAML described above; names file, line and column.
    """
    if len(data) > MAX_BYTES:
        raise ProfileSyntaxError(
            f"{name}:1:1: the file is larger than {MAX_BYTES // 1024} KiB.", "Split or shorten it."
        )
    builder = _Builder(name)
    text = builder.decode(data)
    try:
        root = builder.build(yaml.parse(text, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise builder.error(line, column, f"not valid YAML: {exc.problem or exc.context}.") from exc
    except yaml.YAMLError as exc:
        raise builder.error(1, 1, f"not valid YAML: {exc}.") from exc
    if root is None:
        raise builder.error(1, 1, "the file is empty.", "A profile is a list of 'key: value' lines.")
    if not isinstance(root.value, dict):
        message = "the top of the file is not 'key: value' lines."
        raise builder.error(root.line, root.column, message, "A profile starts with schema_version: 1.")
    return root


class _Builder:
    """Builds the tree of one file from PyYAML's events, refusing what is not strict."""

    def __init__(self, name: str) -> None:
        self._name = name

    def error(self, line: int, column: int, problem: str, hint: str = "") -> ProfileSyntaxError:
        return ProfileSyntaxError(f"{self._name}:{line}:{column}: {problem}", hint)

    def decode(self, data: bytes) -> str:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as exc:
            line = data.count(b"\n", 0, exc.start) + 1
            column = exc.start - data.rfind(b"\n", 0, exc.start)
            raise self.error(line, column, "the file is not UTF-8 text.", "Save it as UTF-8.") from exc
        bad = _UNPRINTABLE.search(text)
        if bad:
            line = text.count("\n", 0, bad.start()) + 1
            column = bad.start() - text.rfind("\n", 0, bad.start())
            problem = f"the character U+{ord(bad.group()):04X} is not allowed."
            raise self.error(line, column, problem, "Save the file as plain UTF-8 without a byte-order mark.")
        return text

    def build(self, events: Iterator[Any]) -> Node | None:
        """The tree of the only document, or None when there is none."""
        root: Node | None = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._at(event, "a second document starts here.", "One file holds one profile.")
                root = self._node(next(events), events, depth=1)
        return root

    def _at(self, event: Any, problem: str, hint: str = "") -> ProfileSyntaxError:
        return self.error(*_start(event), problem, hint)

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise self._at(event, "anchors (&) and aliases (*) are not accepted.", "Write the value out.")
        if event.tag is not None:
            raise self._at(event, f"tags ({event.tag}) are not accepted.", "Write a plain value.")
        if isinstance(event, yaml.ScalarEvent):
            return Node(self._scalar(event), *_start(event))
        if depth > MAX_DEPTH:
            raise self._at(event, f"nested deeper than {MAX_DEPTH} levels.", "No profile needs that.")
        return self._collection(event, events, depth)

    def _collection(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        line, column = _start(event)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(inner := next(events), yaml.SequenceEndEvent):
                items.append(self._node(inner, events, depth + 1))
            return Node(items, line, column)
        entries: dict[str, Node] = {}
        places: dict[str, tuple[int, int]] = {}
        while not isinstance(inner := next(events), yaml.MappingEndEvent):
            key = self._key(inner, places)
            places[key] = _start(inner)
            entries[key] = self._node(next(events), events, depth + 1)
        return Node(entries, line, column, places)

    def _key(self, event: Any, places: dict[str, tuple[int, int]]) -> str:
        if not isinstance(event, yaml.ScalarEvent) or event.anchor is not None or event.tag is not None:
            raise self._at(event, "this key is not a plain name.", "Keys are names such as max_model_len.")
        key = str(event.value)
        if key in places:
            problem = f"the key {key!r} is already on line {places[key][0]}."
            raise self._at(event, problem, "Keep one of the two.")
        return key

    def _scalar(self, event: Any) -> Scalar:
        text = str(event.value)
        if event.style:  # quoted or a block
            return text
        if text in _NULLS:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        for pattern, advice in _AMBIGUOUS:
            if pattern.fullmatch(text):
                raise self._at(event, f"{text} has no single meaning in YAML.", f"{advice[0].upper()}{advice[1:]}.")
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if not math.isfinite(number):
                raise self._at(event, f"{text[:40]} is too large a number.")
            return number
        return text


def _start(event: Any) -> tuple[int, int]:
    """Line and column of an event's beginning, counted from 1."""
    return event.start_mark.line + 1, event.start_mark.column + 1
