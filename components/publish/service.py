"""The one door of publishing: a dry run that lists all that would go out, and the job that uploads it. Blocking."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import JsonValue

from components.core.errors import InputError
from components.core.jobs import Job
from components.core.states import JobState
from components.jobs.queue import JobQueue
from components.publish.content import private_folders, repository_content
from components.publish.hub import Look, look
from components.publish.records import Finding, PublishPlan, PublishSpec

KIND = "publish"
_REPO_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")
_FIELDS = ("model", "job_id", "repo_id", "private", "existing", "confirm")
_LOOKED_THROUGH = 500
CardOf = Callable[[str], tuple[str, tuple[str, ...]]]  # engine id → the card's Markdown and what it says is missing


@dataclass(frozen=True)
class PublishSettings:
    """What the room needs of the app."""

    files_dir: Path
    repository: Path
    home: Path


class PublishService:
    """Plans and submits uploads of what quantize jobs made."""

    def __init__(
        self, queue: JobQueue, card_of: CardOf, settings: PublishSettings, look_at: Callable[[str], Look] = look
    ) -> None:
        self._queue, self._card_of, self._settings, self._look = queue, card_of, settings, look_at

    def plan(self, wish: Mapping[str, Any]) -> PublishPlan:
        """What an upload would send; asks the hub two questions and sends nothing.

        Args:
            wish: ``model`` (an engine id) or ``job_id``: what is published; ``repo_id``: owner/name; ``private``
                (default true); ``existing`` (default false): a repository that is there already gets a commit.

        Raises:
            InputError: a field can't be used; it is named.
        """
        _check_fields(wish)
        repo_id = wish.get("repo_id")
        if not isinstance(repo_id, str) or not _REPO_ID.fullmatch(repo_id) or ".." in repo_id or "--" in repo_id:
            raise InputError(f"{str(repo_id)[:100]!r} is no name at a hub.", "Accepted: owner/name.", field="repo_id")
        job = self._job(wish)
        result: dict[str, Any] = dict(job.result or {})
        engine_id = str(result["engine_id"])
        card, missing = self._card_of(engine_id)
        settings = self._settings
        folder = settings.files_dir / "jobs" / job.id
        hidden = private_folders(folder, settings.files_dir, settings.repository, settings.home)
        files, texts = repository_content(folder, str(result.get("packed") or "."), card, hidden)
        private, existing = wish.get("private", True), wish.get("existing", False)
        key = hashlib.sha256(orjson.dumps([job.id, repo_id])).hexdigest()[:24]
        spec = PublishSpec(
            engine_id=engine_id, repo_id=repo_id, private=private, existing=existing, files=files, texts=texts,
            folder=str(folder), state_dir=str(settings.files_dir), work_key=key,
        )  # fmt: skip
        made_before = (settings.files_dir / "publish" / f"{key}.made").exists()
        findings = (*_of_hub(self._look(repo_id), spec, made_before=made_before), *_of_model(result, missing))
        return PublishPlan(spec=spec, findings=findings)

    def submit(self, wish: Mapping[str, Any]) -> str:
        """Queue the upload of what a dry run has shown; the job's id.

        Args:
            wish: as for ``plan``, and ``confirm``: the dry run's fingerprint.

        Raises:
            InputError: see ``plan``; or something stands in the way; or it is not what was shown.
        """
        plan = self.plan(wish)
        for finding in plan.findings:
            if finding.verdict == "fail":
                raise InputError(finding.sentence, "Nothing was sent.", field="repo_id")
        if wish.get("confirm") != fingerprint(plan):
            hint = "Look at the dry run, and give its confirm."
            raise InputError("This is not what the last dry run showed.", hint, field="confirm")
        document: dict[str, JsonValue] = plan.spec.model_dump(mode="json")
        title = f"Publish {plan.spec.engine_id} as {plan.spec.repo_id}"
        return self._queue.submit(KIND, document, title, fingerprint=plan.spec.work_key).id

    def _job(self, wish: Mapping[str, Any]) -> Job:
        model, job_id = wish.get("model"), wish.get("job_id")
        for job in self._queue.ended(_LOOKED_THROUGH):
            made = (job.result or {}).get("engine_id") if job.kind == "quantize" else None
            if job.state is JobState.SUCCEEDED and made and (job.id == job_id or (not job_id and made == model)):
                return job
        field = "job_id" if job_id else "model"
        named = str(job_id or model or "")[:100]
        raise InputError(
            f"No job of this installation made {named!r}.", "Accepted: what a quantize job made here.", field=field
        )


def fingerprint(plan: PublishPlan) -> str:
    """Equal while the same would be sent to the same place."""
    return hashlib.sha256(plan.spec.model_dump_json().encode()).hexdigest()[:24]


def _check_fields(wish: Mapping[str, Any]) -> None:
    unknown = sorted(set(wish) - set(_FIELDS))
    if unknown:
        raise InputError(f"{unknown[0]!r} is no field.", f"Accepted: {', '.join(_FIELDS)}.", field=unknown[0])
    for name in ("private", "existing"):
        if not isinstance(wish.get(name, False), bool):
            raise InputError(f"{name} is true or false.", field=name)


def _of_hub(seen: Look, spec: PublishSpec, *, made_before: bool) -> tuple[Finding, ...]:
    """What the hub said, in sentences."""
    if not seen.has_token:
        words = (
            "None was found. Log in with `hf auth login`, or start Diptych with HF_TOKEN; it needs the right to write."
        )
        return (Finding(name="Token", verdict="fail", sentence=words),)
    if seen.is_refused:
        words = f"{seen.endpoint} refused it. Log in again with `hf auth login`, or mend HF_TOKEN."
        return (Finding(name="Token", verdict="fail", sentence=words),)
    if seen.user is None:
        words = f"{seen.endpoint} could not be asked now; the upload itself will tell."
        return (Finding(name="Hub", verdict="warn", sentence=words),)
    who = Finding(name="Token", verdict="ok", sentence=f"You are {seen.user} at {seen.endpoint}.")
    name, private = spec.repo_id, spec.private
    if seen.exists is None:
        return (who, Finding(name="Name", verdict="warn", sentence=f"Whether {name} exists could not be asked."))
    if not seen.exists:
        if spec.existing:
            return (who, Finding(name="Name", verdict="fail", sentence=f"There is no {name} that your token can see."))
        return (who, Finding(name="Name", verdict="ok", sentence=f"{name} is free."))
    if not spec.existing and not made_before:
        return (
            who,
            Finding(name="Name", verdict="fail", sentence=f"{name} exists. Choose another name, or add to it."),
        )
    if private and not seen.is_private:
        return (who, Finding(name="Name", verdict="fail", sentence=f"{name} is public, and you ask for a private one."))
    return (who, Finding(name="Name", verdict="ok", sentence=f"{name} exists and gets a further commit."))


def _of_model(result: Mapping[str, Any], missing: tuple[str, ...]) -> tuple[Finding, ...]:
    check = result.get("check")
    checked = check if isinstance(check, dict) else {}
    kl, sight = checked.get("mean_kl_base_to_candidate_nats"), checked.get("sight")
    seen = {"sees": "It sees. ", "unclear": "Its sight is unclear. "}.get(str(sight), "")
    measured = f"Mean KL from the base {kl:.3g} nats" if isinstance(kl, float) else "Its KL from the base is not known"
    worry = sight == "unclear" or kl is None
    found = [Finding(name="Check", verdict="warn" if worry else "ok", sentence=f"{seen}{measured}.")]
    if missing:
        words = f"It says that these are missing: {'; '.join(missing)}."
        found.append(Finding(name="Card", verdict="warn", sentence=words))
    else:
        found.append(Finding(name="Card", verdict="ok", sentence="Nothing is missing on it."))
    return tuple(found)
