"""A recipe with a person's changes in it, validated as if the file had been written so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from components.core.errors import InputError
from components.profiles.recipe import RecipeProfile

# What makes it this recipe and no other; change these by choosing another one.
_FIXED = frozenset(
    {"schema_version", "kind", "id", "title", "description", "card", "differs_from_card", "method", "scheme",
     "tool_scheme", "needs_gpu"}
)  # fmt: skip
_HARDWARE = "hardware"
_KINDS = frozenset({"bundled", "hub", "slot", "file", "traces"})


def with_overrides(recipe: RecipeProfile, overrides: object) -> tuple[RecipeProfile, str | None]:
    """The changed recipe, and the hardware profile that was named.

    Raises:
        InputError: a field is unknown, fixed, or has a value that is not accepted; names it.
    """
    accepted = sorted({*RecipeProfile.model_fields, _HARDWARE} - _FIXED)
    if not isinstance(overrides, Mapping):
        raise InputError("overrides is an object.", f"Its fields: {', '.join(accepted)}.", field="overrides")
    for name in overrides:
        if name not in accepted:
            raise InputError(
                f"{name} can't be changed.", f"Accepted: {', '.join(accepted)}.", field=f"overrides.{name}"
            )
    hardware = overrides.get(_HARDWARE)
    if hardware is not None and not isinstance(hardware, str):
        raise InputError("hardware is the id of a profile.", field="overrides.hardware")
    changes = {name: value for name, value in overrides.items() if name != _HARDWARE}
    merged = merge(recipe.model_dump(mode="json"), changes)
    try:
        return RecipeProfile.model_validate_json(json.dumps(merged), strict=True), hardware
    except ValidationError as exc:
        raise _refusal(exc) from exc
    except (TypeError, ValueError) as exc:
        raise InputError("overrides holds something that is no JSON.", field="overrides") from exc


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both, nested objects too; where they differ the second counts. Everything else (lists too) is replaced."""
    merged = dict(first)
    for name, value in second.items():
        own = merged.get(name)
        merged[name] = merge(own, value) if isinstance(own, dict) and isinstance(value, Mapping) else value
    return merged


def _refusal(exc: ValidationError) -> InputError:
    finding = exc.errors(include_url=False)[0]
    path = finding.get("ctx", {}).get("path") if finding["type"] == "rule" else finding["loc"]
    field, after_index = "overrides", False
    for part in path or ():
        if isinstance(part, int):
            field += f"[{part}]"
        elif not (after_index and part in _KINDS):  # pydantic puts the kind of a union between index and name
            field += f".{part}"
        after_index = isinstance(part, int)
    given = finding.get("input")
    shown = f" (given: {str(given)[:80]!r})" if isinstance(given, str | int | float | bool) else ""
    return InputError(f"{field}: {finding['msg']}{shown}.", "profiles/README.md lists what is accepted.", field=field)
