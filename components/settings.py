"""Settings of the app: one frozen object from the command line and the environment. Nothing else reads either."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from components.core.jobs import ClusterShare

REPOSITORY = Path(__file__).resolve().parent.parent
_RAY_ADDRESS = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Settings(BaseSettings):
    """Every setting; each may also be given as an environment variable with the prefix ``DIPTYCH_``."""

    model_config = SettingsConfigDict(env_prefix="DIPTYCH_", frozen=True, extra="forbid")

    pair: str = Field(default="embedded", description="Name of the pair to open: a file of profiles/pairs")
    host: str = Field(default="127.0.0.1", description="Address to listen on")
    port: int = Field(default=7860, ge=1, le=65535, description="Port to listen on")
    recorded: bool = Field(
        default=False, description="Replay recorded turns: no engine, and nothing can be asked or started"
    )
    state_dir: Path = Field(
        default_factory=lambda given: default_state_dir() / ("recorded" if given.get("recorded") else ""),
        description="Folder of database, pictures, logs, prepared models",
    )
    public: bool = Field(
        default=False, description="A demo: visitors compare and look; what starts or writes needs sign-in"
    )
    users: str = Field(default="", description="Sign-in: name:password pairs, separated by commas; empty = no sign-in")
    allowed_hosts: str = Field(default="", description="Further host names the page is reached by, separated by commas")
    database_url: str = Field(
        default="", description="postgresql://user:password@host/name for records; empty = SQLite in the state folder"
    )
    shared_dir: str = Field(
        default="",
        description="Pictures, token files, jobs; the same for all apps of one database; empty = state folder",
    )
    ray_address: str = Field(
        default="", description="http://host:8265 of a Ray cluster, where jobs then run; empty = on this machine"
    )
    ray_token: str = Field(default="", description="Token of a Ray cluster with token authentication; empty = none")
    ray_cpus: float = Field(default=1.0, ge=0, description="CPUs that each job asks the Ray cluster for")
    ray_gpus: float = Field(default=0.0, ge=0, description="GPUs that each job asks the Ray cluster for")
    ray_jobs: int = Field(default=4, ge=1, le=64, description="How many jobs are handed to the Ray cluster at once")
    start_engines: bool = Field(default=True, description="Start the base and the first candidate with the app")
    log_format: Literal["text", "json"] = Field(
        default="text", description="Form of the app's log on standard error: text, or json (one object a line)"
    )
    image_max_bytes: int = Field(default=20_000_000, ge=1000, description="Largest accepted picture file, bytes")

    @field_validator("state_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return _folder(value)

    @field_validator("shared_dir")
    @classmethod
    def _absolute_or_empty(cls, value: str) -> str:
        return str(_folder(Path(value))) if value else ""

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: str) -> str:
        # SQLite needs one app alone beside it, which only the state folder's lock can promise. No password is repeated.
        if value and not value.startswith(("postgresql://", "postgresql+psycopg://")):
            raise ValueError("accepted: postgresql://user:password@host/name; empty = SQLite in the state folder")
        return value

    @field_validator("ray_address")
    @classmethod
    def _job_server(cls, value: str) -> str:
        # It is stored with each job and shown: no credential may be in it.
        if value and not _RAY_ADDRESS.fullmatch(value):
            raise ValueError("accepted: http://host:8265, the address of Ray's dashboard, without a path or a password")
        return value.rstrip("/")

    @field_validator("users")
    @classmethod
    def _whole_accounts(cls, value: str) -> str:
        for number, entry in enumerate((part for part in value.split(",") if part.strip()), start=1):
            name, _, password = entry.partition(":")
            if not name.strip() or not password:
                # A half entry must not quietly mean "no sign-in"; its text may be a password and is not repeated.
                raise ValueError(f"entry {number} is not name:password (a password can't contain a comma)")
        return value

    @property
    def records_url(self) -> str:
        """Where the records are."""
        return self.database_url or f"sqlite:///{self.state_dir / 'diptych.db'}"

    @property
    def files_dir(self) -> Path:
        """Folder of the files that records name."""
        return Path(self.shared_dir) if self.shared_dir else self.state_dir

    @property
    def profiles_dir(self) -> Path:
        """Folder of the YAML profiles."""
        return REPOSITORY / "profiles"

    @property
    def assets_dir(self) -> Path:
        """Folder of the embedded models, style and scripts."""
        return REPOSITORY / "assets"

    @property
    def starts_engines(self) -> bool:
        """Whether engines start with the app."""
        return self.start_engines and not self.recorded

    @property
    def cluster(self) -> ClusterShare | None:
        """What each job asks the cluster for; None = jobs run on this machine."""
        return ClusterShare(cpus=self.ray_cpus, gpus=self.ray_gpus) if self.ray_address else None

    @property
    def accounts(self) -> dict[str, str]:
        """Passwords by user name."""
        pairs = [entry.partition(":") for entry in self.users.split(",") if entry.strip()]
        return {name.strip(): password for name, _, password in pairs}

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the page."""
        return self.host in LOOPBACK

    def refusal(self) -> str | None:
        """Why the app must not start with these settings; None when it may."""
        if self.is_loopback or self.public or self.accounts:
            return None
        return (
            f"Diptych will not listen on {self.host} without sign-in: anyone who reaches it could run jobs. "
            "Set DIPTYCH_USERS=name:password, or give --public for a demo with limits, or keep --host 127.0.0.1."
        )


def _folder(path: Path) -> Path:
    folder = path.expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; a folder is needed")
    return folder


def default_state_dir() -> Path:
    """Outside the working directory and outside /tmp: Gradio may copy files from both into its public cache."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "diptych"
