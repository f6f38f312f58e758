"""A dry run → plain values: what assets/js/publish.js draws, and the API's answer. Pure."""

from __future__ import annotations

from typing import Any

from components.publish.content import CARD
from components.publish.records import PublishPlan
from components.publish.service import fingerprint


def plan_view(plan: PublishPlan) -> dict[str, Any]:
    """Everything that would be sent, by name and bytes; ``confirm`` is what an upload has to give."""
    spec = plan.spec
    return {
        "repo_id": spec.repo_id,
        "private": spec.private,
        "existing": spec.existing,
        "files": [
            {"name": file.name, "size_bytes": file.size_bytes, "written": file.source is None} for file in spec.files
        ],
        "size_bytes": plan.size_bytes,
        "card": spec.texts[CARD],
        "findings": [finding.model_dump() for finding in plan.findings],
        "can_start": plan.can_start,
        "confirm": fingerprint(plan),
    }
