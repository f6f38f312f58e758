"""Reads profiles from their folder; every refusal names the file, the line and what is accepted.

Opens nothing but ``<root>/{pairs,hardware,recipes}/<slug>.yaml``, and follows no link there.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from components.core.errors import ProfileError, ProfileNotFoundError, ProfileSyntaxError, ProfileValidationError
from components.profiles.explain import explain
from components.profiles.recipe import RecipeProfile
from components.profiles.schema import HardwareProfile, PairProfile
from components.profiles.strict_yaml import MAX_BYTES, Node, parse

_SLUG = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")

NamedProfile = TypeVar("NamedProfile", PairProfile, HardwareProfile, RecipeProfile)


def load_pair(root: Path, name: str) -> PairProfile:
    """The pair of that name.

    Args:
        root: the folder ``profiles/``.
        name: file name without ``.yaml``.

    Raises:
        ProfileNotFoundError: there is no such file; the hint lists the pairs there are.
        ProfileSyntaxError, ProfileValidationError: the file can't be used; names the line and what is accepted.
    """
    folder = root / "pairs"
    if not _SLUG.fullmatch(name) or not (folder / f"{name}.yaml").is_file():
        names = ", ".join(path.stem for path in sorted(folder.glob("*.yaml"))) or "none"
        raise ProfileNotFoundError(f"There is no pair {name!r}.", f"Pairs there are: {names}.", field="pair")
    return _load(folder / f"{name}.yaml", PairProfile)


def list_pairs(root: Path) -> tuple[tuple[PairProfile, ...], tuple[ProfileError, ...]]:
    """All usable pairs by file name, and one error for each file that can't be used."""
    return _list(root / "pairs", PairProfile)


def load_hardware(root: Path) -> tuple[tuple[HardwareProfile, ...], tuple[ProfileError, ...]]:
    """All usable hardware profiles by file name, and one error for each file that can't be used."""
    return _list(root / "hardware", HardwareProfile)


def load_recipes(root: Path) -> tuple[tuple[RecipeProfile, ...], tuple[ProfileError, ...]]:
    """All usable recipes by file name, and one error for each file that can't be used."""
    return _list(root / "recipes", RecipeProfile)


def _list(folder: Path, model: type[NamedProfile]) -> tuple[tuple[NamedProfile, ...], tuple[ProfileError, ...]]:
    profiles: list[NamedProfile] = []
    errors: list[ProfileError] = []
    for path in sorted(folder.glob("*.y*ml")):
        try:
            profiles.append(_load(path, model))
        except ProfileError as error:
            errors.append(error)
    return tuple(profiles), tuple(errors)


def _load(path: Path, model: type[NamedProfile]) -> NamedProfile:
    name = "/".join(path.parts[-3:])
    if path.suffix != ".yaml" or not _SLUG.fullmatch(path.stem):
        hint = "Use lower-case letters, digits, dots and dashes, and the ending .yaml."
        raise ProfileSyntaxError(f"{name}: this is no name for a profile.", hint)
    root = parse(_read(path, name), name)
    profile = _validated(root, model, name)
    if profile.id != path.stem:
        line, _ = root.key_places["id"]
        problem = f"{name}:{line}: the id is {profile.id!r}, the file is called {path.name}."
        raise ProfileValidationError(problem, f"Write id: {path.stem}, or rename the file.", field="id")
    return profile


def read_recipe(data: bytes, name: str) -> RecipeProfile:
    """A recipe from a text that is in no file.

    Raises:
        ProfileSyntaxError, ProfileValidationError: it can't be used; names the line and what is accepted.
    """
    return _validated(parse(data, name), RecipeProfile, name)


def _validated(root: Node, model: type[NamedProfile], name: str) -> NamedProfile:
    try:
        # Through JSON: only there does pydantic's strict mode still take a list for a tuple, a text for a date.
        return model.model_validate_json(json.dumps(root.plain()), strict=True)
    except ValidationError as error:
        raise explain(error, root, model, name) from error


def _read(path: Path, name: str) -> bytes:
    """At most one byte more than is allowed, and never through a link (T5)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        hint = "It must be an ordinary file that can be read, not a link."
        raise ProfileError(f"{name}: can't be read ({error.strerror}).", hint) from error
