"""A PostgreSQL server of its own for tests and measurements, on a socket in its own folder; it opens no port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

_LIMIT_S = 60.0


def binaries() -> Path | None:
    """The folder of the server's programs; None where there is none."""
    known = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda found: int(found.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    folders = [*known, *([Path(on_path).resolve().parent] if on_path else [])]
    return next((folder for folder in folders if (folder / "postgres").exists() and (folder / "initdb").exists()), None)


def _account() -> str | None:
    """The server refuses to run as root: another account of this machine, where we are root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class PostgresServer:
    """Started by ``start``, ended by ``stop``; ``durable`` = as in earnest, else nothing waits for the disk."""

    def __init__(self, programs: Path, *, durable: bool = False) -> None:
        self._programs, self._durable = programs, durable
        self._folder = Path(tempfile.mkdtemp(prefix="dt-pg-"))  # short: a socket's path has 107 characters at most
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0

    def start(self) -> PostgresServer:
        """Make the files and run the server."""
        if (account := _account()) is not None:
            shutil.chown(self._folder, account)
        self._run(
            "initdb", "-D", f"{self._folder}/data", "-U", "diptych", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"
        )
        self.run_server()
        return self

    def run_server(self) -> None:
        """Run the server over the files that are there."""
        quick = [] if self._durable else ["-F", "-c", "full_page_writes=off", "-c", "synchronous_commit=off"]
        argv = [self._programs / "postgres", "-D", f"{self._folder}/data", "-k", self._folder, "-h", "", *quick]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, user=_account(), cwd=self._folder)
        deadline = time.monotonic() + _LIMIT_S
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self._folder / "log").read_text()
                assert time.monotonic() < deadline, (self._folder / "log").read_text()
                time.sleep(0.05)

    def new_database(self, template: str = "template0") -> str:
        """Make a database; its name."""
        self._count += 1
        name = f"d{self._count}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def url(self, database: str) -> str:
        """As DIPTYCH_DATABASE_URL."""
        return f"postgresql://diptych@/{database}?host={quote(str(self._folder), safe='')}"

    def execute(self, statement: str, database: str = "postgres") -> Any:
        """One statement outside any transaction; the first value of its first row, if it has one."""
        with psycopg.connect(host=str(self._folder), user="diptych", dbname=database, autocommit=True) as connection:
            done = connection.execute(statement)
            row = done.fetchone() if done.description else None
            return None if row is None else row[0]

    def end_server(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server and keep its files; SIGQUIT = at once, as in a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_LIMIT_S)

    def stop(self) -> None:
        """End the server and remove its files."""
        self.end_server()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        argv = [self._programs / program, *arguments]
        subprocess.run(argv, check=True, capture_output=True, user=_account(), cwd=self._folder)
