"""The driver of an upload: ``python -m components.publish.job JOB_FOLDER``.

repository → files, one after the other → one commit. What a hub has is visible only with the commit, so a torn upload
leaves at most an empty repository; a retry goes on in it.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import orjson
from pydantic import JsonValue

from components.jobs.driver import run_driver
from components.jobs.records import JobEvent, JobFolder
from components.publish.hub import check_visibility, create_repository, upload
from components.publish.records import PublishSpec
from components.storage.atomic_write import make_private_folder

_EVERY_S = 1.0


class Teller:
    """Progress as event lines, at most one a second while a file goes out."""

    def __init__(self, folder: JobFolder, spec: PublishSpec) -> None:
        self._folder = folder
        self._sizes = [file.size_bytes for file in spec.files if file.source is not None]
        self._started_s = time.monotonic()
        self._told_s, self._told_step = 0.0, -1

    def say(self, phase: str, message: str) -> None:
        """A step without a count."""
        self._folder.append_event(JobEvent(phase=phase, message=message))

    def __call__(self, done: int, name: str, read_bytes: int) -> None:
        """See ``hub.Progress``. A file is read twice: for its hash, then to be sent."""
        now_s = time.monotonic()
        if done < self._told_step:
            return  # a small file, read once more for the commit
        if done == self._told_step and now_s - self._told_s < _EVERY_S:
            return
        self._told_s, self._told_step = now_s, done
        gone, whole = sum(self._sizes[:done]), sum(self._sizes)
        rate = gone / max(now_s - self._started_s, 0.1)
        of = f" ({read_bytes / 1e6:.0f} of {self._sizes[done] / 1e6:.0f} MB read)" if done < len(self._sizes) else ""
        self._folder.append_event(
            JobEvent(
                phase="Uploading", step=done, steps=len(self._sizes), message=f"{name}{of}",
                remaining_s=(whole - gone) / rate if gone > 1e6 else None,
            )
        )  # fmt: skip


def publish(folder: JobFolder) -> dict[str, JsonValue]:
    """The whole job; its result."""
    # These libraries log addresses at INFO, and an address that a hub gives for an upload holds a key.
    for name in ("httpx", "httpx2", "httpcore", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    spec = PublishSpec.model_validate_json(orjson.dumps(folder.read_spec()))
    tell = Teller(folder, spec)
    tell.say("Repository", f"Looking for {spec.repo_id}")
    mark = Path(spec.state_dir) / "publish" / f"{spec.work_key}.made"
    if not spec.existing and not mark.exists():
        create_repository(spec)
        make_private_folder(mark.parent)
        mark.touch(mode=0o600)  # a retry goes on in the repository that this attempt made
    check_visibility(spec)
    url, oid = upload(spec, tell)
    return {
        "repo_id": spec.repo_id, "url": url.partition("/commit/")[0], "commit": oid, "private": spec.private,
        "files": len(spec.files), "size_bytes": sum(file.size_bytes for file in spec.files),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_driver(sys.argv[1:], publish))
