"""Records of publishing: what would be uploaded, and what its job is given. No token is in any of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.core.answers import Record


class PublishFile(Record):
    """One file of the repository."""

    name: str = Field(description="Its place in the repository")
    size_bytes: int
    source: str | None = Field(description="Below the folder of the job that made it; None = written for the hub")


class Finding(Record):
    """One thing that was looked at before an upload."""

    name: str
    verdict: Literal["ok", "warn", "fail"]
    sentence: str


class PublishSpec(Record):
    """The driver's input: everything resolved and shown before."""

    format: Literal[1] = 1
    engine_id: str
    repo_id: str = Field(description="owner/name at the hub")
    private: bool
    existing: bool = Field(description="The repository is there already and gets a further commit")
    files: tuple[PublishFile, ...]
    texts: dict[str, str] = Field(description="Content of the files that were written for the hub, by name")
    folder: str = Field(description="Of the job that made the model")
    state_dir: str
    work_key: str = Field(description="Equal for equal work: a retry may go on in the repository that it made")


class PublishPlan(Record):
    """What an upload would do; nothing was sent."""

    spec: PublishSpec
    findings: tuple[Finding, ...]

    @property
    def can_start(self) -> bool:
        """Whether nothing stands in the way."""
        return all(finding.verdict != "fail" for finding in self.findings)

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.spec.files)
