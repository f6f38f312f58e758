"""The files of deploy/, read as what will use them reads them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from components.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
PAIR = "two-servers"
# Values that only a secret may give; nothing in the files may hold one.
SECRETS = {"DIPTYCH_USERS", "POSTGRES_PASSWORD", "ENGINE_KEY", "HF_TOKEN"}


@cache
def compose(name: str = "compose.yaml") -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / name).read_text(encoding="utf-8"))
    return document


@cache
def manifests() -> list[dict[str, Any]]:
    return [one for path in KUBERNETES for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def manifest(kind: str, name: str) -> dict[str, Any]:
    (found,) = (one for one in manifests() if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def pod_of(kind: str, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = manifest(kind, name)["spec"]["template"]["spec"]
    return spec


def settings_named(text: str) -> set[str]:
    return {name.lower() for name in re.findall(r"DIPTYCH_(\w+)", text)}


def check_app(arguments: list[str], environment: dict[str, Any], monkeypatch: Any) -> Settings:
    """The settings that an app gets from these, as app.py reads them. Secrets get a value of a test."""
    from app import parse_arguments

    for name, value in ((name, value) for name, value in environment.items() if value is not None):
        given = re.sub(r"\$\{?(\w+)(?::\?[^}]*)?\}?|\$\((\w+)\)", "secret", value) if "$" in value else value
        monkeypatch.setenv(name, {"DIPTYCH_USERS": "ann:word"}.get(name, given))
    return parse_arguments(arguments)
