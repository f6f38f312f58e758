"""Turns pydantic's findings about a profile into one message for its author: file, line, problem, what is accepted."""

from __future__ import annotations

import difflib
import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from components.core.errors import ProfileValidationError
from components.profiles.strict_yaml import Node


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a finding stands: in the file, and in the schema."""

    line: int
    keys: str  # dotted path as in the file, e.g. models[1].serve.dtype
    key: str
    owner: type[BaseModel]  # the model whose key it is
    value: Any


def explain(error: ValidationError, root: Node, model: type[BaseModel], name: str) -> ProfileValidationError:
    """The first finding in full, the lines of the others."""
    found = error.errors(include_url=False)
    # A misspelt key is also a missing one: tell only the misspelling.
    misspelt = {finding["loc"][:-1] for finding in found if finding["type"] == "extra_forbidden"}
    kept = [finding for finding in found if finding["type"] != "missing" or finding["loc"][:-1] not in misspelt]
    findings = [(_place(root, model, _path(finding)), finding) for finding in kept]
    findings.sort(key=lambda pair: pair[0].line)
    place, finding = findings[0]
    problem, hint = _words(place, finding)
    others = sorted({other.line for other, _ in findings[1:]})
    if others:
        hint = f"{hint} More to mend on line {', '.join(map(str, others))}."
    return ProfileValidationError(f"{name}:{place.line}: {problem}", hint, field=place.keys or None)


def _path(finding: ErrorDetails) -> tuple[str | int, ...]:
    path: tuple[str | int, ...] = (
        finding.get("ctx", {}).get("path", ()) if finding["type"] == "rule" else finding["loc"]
    )
    return path


def _place(root: Node, model: type[BaseModel], path: tuple[str | int, ...]) -> _Place:
    node: Node | None = root
    annotation: Any = model
    owner, line, keys, key = model, root.line, "", ""
    tagged = False
    for part in path:
        if tagged and part in _tags(
            annotation
        ):  # pydantic puts the tag of a union into the path; the file has no such level
            annotation, tagged = _tags(annotation)[str(part)], False
            continue
        if isinstance(part, int):
            annotation, keys = _item(annotation), f"{keys}[{part}]"
            items = node.value if node else None
            node = items[part] if isinstance(items, list) and part < len(items) else None
        else:
            owner = _model(annotation) or owner
            entry = owner.model_fields.get(part)
            annotation, key = (entry.annotation if entry else None), part
            keys = f"{keys}.{part}" if keys else part
            line = node.key_places.get(part, (line, 0))[0] if node else line
            node = node.value.get(part) if node and isinstance(node.value, dict) else None
        line = node.line if node and isinstance(part, int) else line
        tagged = len(_tags(annotation)) > 1
    return _Place(line, keys, key, owner, node.plain() if node else None)


def _members(annotation: Any) -> list[Any]:
    """What an annotation may be, without None and without its constraints."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [inner for member in get_args(annotation) for inner in _members(member)]
    return [] if annotation is type(None) else [annotation]


def _model(annotation: Any) -> type[BaseModel] | None:
    models = [member for member in _members(annotation) if isinstance(member, type) and issubclass(member, BaseModel)]
    return models[0] if len(models) == 1 else None


def _tags(annotation: Any) -> dict[str, type[BaseModel]]:
    """Members of a union by the value of their ``kind``."""
    models = [member for member in _members(annotation) if isinstance(member, type) and issubclass(member, BaseModel)]
    if len(models) < 2:
        return {}
    return {str(get_args(model.model_fields["kind"].annotation)[0]): model for model in models}


def _item(annotation: Any) -> Any:
    """What the items of a tuple are."""
    for member in _members(annotation):
        if get_origin(member) is tuple:
            return get_args(member)[0]
    return None


def _words(place: _Place, finding: ErrorDetails) -> tuple[str, str]:
    """Problem and hint of one finding."""
    kind, context = finding["type"], finding.get("ctx", {})
    if kind == "rule":
        return f"{finding['msg']}.", ""
    if kind == "extra_forbidden":
        return f"unknown key {place.key!r}.", _choice(place.key, sorted(place.owner.model_fields), "Keys accepted here")
    if kind == "missing":
        return f"the key {place.key!r} is missing.", _meaning(place)
    if kind == "union_tag_not_found":
        return f"{place.keys}: the key 'kind' is missing.", f"Accepted: {_kinds(place)}."
    if kind == "union_tag_invalid":
        return f"{place.keys}.kind: {context.get('tag')!r} is not accepted.", f"Accepted: {_kinds(place)}."
    if place.key == "schema_version" and isinstance(place.value, int) and place.value > 1:
        return f"this profile is of a newer Diptych (schema_version {place.value}).", "This one reads version 1."
    if kind == "literal_error":
        return f"{place.keys}: {place.value!r} is not accepted.", _choice(
            str(place.value), _literals(place), "Accepted"
        )
    return f"{place.keys}: {_shown(place.value)} is not accepted. {finding['msg']}.", _meaning(place)


def _choice(given: str, accepted: list[str], title: str) -> str:
    near = difflib.get_close_matches(given, accepted, n=1, cutoff=0.6)
    guess = f"Did you mean {near[0]!r}? " if near else ""
    return f"{guess}{title}: {', '.join(accepted)}."


def _kinds(place: _Place) -> str:
    return ", ".join(_tags(place.owner.model_fields[place.key].annotation))


def _literals(place: _Place) -> list[str]:
    annotation = place.owner.model_fields[place.key].annotation
    members = _members(annotation) + _members(_item(annotation))
    return [str(value) for member in members if get_origin(member) is Literal for value in get_args(member)]


def _meaning(place: _Place) -> str:
    field = place.owner.model_fields.get(place.key)
    description = field.description if field and field.description else ""
    quotes = " Put a text that looks like a number in quotes." if isinstance(place.value, int | float) else ""
    return f"{place.key}: {description}.{quotes}" if description else quotes.strip()


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
