"""Settings of the app: one frozen object from the command line and the environment. Nothing else reads either."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from components.core.jobs import ClusterShare

REPOSITORY = Path(__file__).resolve().parent.parent
_RAY_ADDRESS = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def _of_a_space(own: str, theirs: str, description: str, default: str = "") -> Any:
    """A setting that a Space gives under a name of its own."""
    return Field(default=default, validation_alias=AliasChoices(f"DIPTYCH_{own}", theirs), description=description)


class Settings(BaseSettings):
    """Every setting; each may also be given as an environment variable with the prefix ``DIPTYCH_``."""

    model_config = SettingsConfigDict(env_prefix="DIPTYCH_", frozen=True, extra="forbid", populate_by_name=True)

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
    owners: str = Field(
        default="", description="Names that see and may do all, separated by commas; empty = the first of DIPTYCH_USERS"
    )
    reviewers: str = Field(
        default="",
        description="Names at Hugging Face that may review, separated by commas; empty = all if public",
    )
    oauth_client_id: str = _of_a_space(
        "OAUTH_CLIENT_ID", "OAUTH_CLIENT_ID", "Sign-in with Hugging Face: the app's id there; empty = none"
    )
    oauth_client_secret: str = _of_a_space("OAUTH_CLIENT_SECRET", "OAUTH_CLIENT_SECRET", "The app's secret there")
    openid_provider_url: str = _of_a_space(
        "OPENID_PROVIDER_URL", "OPENID_PROVIDER_URL", "Where people sign in", "https://huggingface.co"
    )
    page_url: str = _of_a_space(
        "PAGE_URL",
        "SPACE_HOST",
        "Address of the page for the way back from signing in; empty = the one it was asked by",
    )
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
    placement: Literal["profile", "together", "alternately", "planned", "shared", "apart"] = Field(
        default="profile",
        description="Engines: together (all at a time), alternately (one at a time), planned (as the memory plan finds "
        "for this machine), shared or apart (planned on the same or own GPUs), profile (as the pair's file says)",
    )
    serve: str = Field(
        default="",
        description="The pair's serve settings to change: field=value or model.field=value, separated by commas",
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Form of the app's log on standard error: text, or json (one object a line)"
    )
    image_max_bytes: int = Field(default=20_000_000, ge=1000, description="Largest accepted picture file, bytes")
    visitor_answers: int = Field(
        default=20, ge=0, description="Public page: answers for one visitor in a minute, one per column; 0 = no limit"
    )
    visitor_max_tokens: int = Field(
        default=512, ge=1, le=32768, description="Public page: longest answer to a visitor, tokens"
    )
    visitor_image_max_bytes: int = Field(
        default=5_000_000, ge=1000, description="Public page: largest picture file of a visitor, bytes"
    )
    visitor_image_max_pixels: int = Field(
        default=12_000_000, ge=10_000, description="Public page: largest picture of a visitor, width × height"
    )
    proxies: str = Field(
        default="",
        description="Addresses or networks of proxies in front, whose X-Forwarded-For is believed, separated by commas",
    )

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

    @field_validator("proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        for part in _names(value):
            try:
                ipaddress.ip_network(part)
            except ValueError:
                raise ValueError(f"{part!r} is no address or network, such as 10.0.0.7 or 10.0.0.0/8") from None
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

    @field_validator("page_url")
    @classmethod
    def _web_address(cls, value: str) -> str:
        first = value.split(",")[0].strip().rstrip("/")  # a Space with names of its own lists all of them
        if not first or first.startswith(("https://", "http://")):
            return first
        return f"https://{first}"

    @model_validator(mode="after")
    def _whole_app(self) -> Settings:
        if bool(self.oauth_client_id) != bool(self.oauth_client_secret):
            raise ValueError("DIPTYCH_OAUTH_CLIENT_ID and DIPTYCH_OAUTH_CLIENT_SECRET are only of use together")
        return self

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
    def trusted_proxies(self) -> list[str]:
        """Who is believed about the address of a caller: this machine, and what ``proxies`` names."""
        return ["127.0.0.1", "::1", *_names(self.proxies)]

    @property
    def owner_names(self) -> tuple[str, ...]:
        """Who owns the page by name."""
        return _names(self.owners)

    @property
    def reviewer_names(self) -> tuple[str, ...]:
        """Who may review by name."""
        return _names(self.reviewers)

    @property
    def signs_in_elsewhere(self) -> bool:
        """Whether people may sign in with Hugging Face."""
        return bool(self.oauth_client_id)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the page."""
        return self.host in LOOPBACK

    def refusal(self) -> str | None:
        """Why the app must not start with these settings; None when it may."""
        if self.is_loopback or self.public or self.accounts:
            return None
        if self.signs_in_elsewhere and not self.owner_names and not self.reviewer_names:
            return (
                "Anybody can have an account at Hugging Face. Name who may come in, in DIPTYCH_OWNERS and "
                "DIPTYCH_REVIEWERS, or give --public for a demo with limits."
            )
        if self.signs_in_elsewhere:
            return None
        return (
            f"Diptych will not listen on {self.host} without sign-in: anyone who reaches it could run jobs. "
            "Set DIPTYCH_USERS=name:password, or give --public for a demo with limits, or keep --host 127.0.0.1."
        )


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in listed.split(",") if name.strip())


def _folder(path: Path) -> Path:
    folder = path.expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; a folder is needed")
    return folder


def default_state_dir() -> Path:
    """Outside the working directory and outside /tmp: Gradio may copy files from both into its public cache."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "diptych"
