"""A real Ray cluster on this machine, with token authentication: a head that runs jobs, and nodes that a test adds."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil

from components.core.errors import ClusterError
from components.jobs.launcher import GROUP_VARIABLE, find_members
from components.jobs.ray_api import RayJobs
from components.jobs.ray_place import ENTRY
from components.storage.lock_files import one_at_a_time

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "deploy" / "ray" / "requirements.txt"
HEAD_CPUS = 2  # a job that asks for more runs on an added node
START_LIMIT_S = 120.0
_GB = 10**9


def ray_environment() -> Path:
    """The environment of Ray, apart from the app's, as on a cluster; made once from its pins."""
    folder = ROOT / ".envs" / "ray"
    stamp = folder / ".installed-requirements"
    folder.parent.mkdir(exist_ok=True)
    with one_at_a_time(folder.parent / ".ray.lock"):
        if not stamp.is_file() or stamp.read_bytes() != REQUIREMENTS.read_bytes():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--retries", "1", "--no-compile", "-r", str(REQUIREMENTS)], check=True)
            stamp.write_bytes(REQUIREMENTS.read_bytes())
    return folder


class RayCluster:
    """``close`` ends every process of it. ``head_cpus``: 0 = the head runs no job."""

    def __init__(self, head_cpus: int = HEAD_CPUS) -> None:
        self._bin = ray_environment() / "bin"
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))  # sockets lie in it: its path must be short
        self.token = secrets.token_hex(32)
        self._port, dashboard = free_port(), free_port()
        self.address = f"http://127.0.0.1:{dashboard}"
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._started = 0
        self._ray(
            "head", "--head", f"--port={self._port}", f"--num-cpus={head_cpus}", "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard}", f"--temp-dir={self.folder / 't'}",
            f"--ray-client-server-port={free_port()}",
        )  # fmt: skip
        self._until_there()

    def add_node(self, cpus: int) -> str:
        """Another node, on this machine too; its name, once it is there. Two must not start at the same time."""
        self._started += 1
        name = f"node{self._started}"
        self._ray(name, f"--address=127.0.0.1:{self._port}", f"--num-cpus={cpus}")
        deadline = time.monotonic() + START_LIMIT_S
        while "Ray runtime started" not in (said := (self.folder / f"{name}.log").read_text()):
            assert self._nodes[name].poll() is None and time.monotonic() < deadline, said[-3000:]
            time.sleep(0.2)
        return name

    def node_of(self, job_folder: Path) -> str | None:
        """The node that runs a job: what Ray started there for it carries the node's name."""
        for name in self._nodes:
            for pid in find_members(self._group(name)):
                with suppress(OSError):
                    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                    if str(ENTRY).encode() in words and os.fsencode(job_folder) in words:
                        return name
        return None

    def kill_node(self, name: str, *job_folders: Path) -> None:
        """KILL to every process of Ray's there, as when its daemon crashes; with the folders of its jobs a power loss.

        All are halted first, so that none sees another one's end and acts on it. More than once: a process that is
        forked between the look and the signal outlives the signal.
        """
        process, deadline = self._nodes.pop(name), time.monotonic() + 20
        groups = [self._group(name), *map(str, job_folders)]
        left = {process.pid}.union(*map(find_members, groups))
        while left:
            assert time.monotonic() < deadline, f"processes of the node are left: {left}"
            left |= {child for pid in left for child in _tree(pid)}
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
            time.sleep(0.1)
            left = set[int]().union(*map(find_members, groups))
        process.wait()

    def close(self) -> None:
        """End all of it."""
        for name in reversed(list(self._nodes)):
            self.kill_node(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _group(self, name: str) -> str:
        return str(self.folder / name)

    def _ray(self, name: str, *options: str) -> None:
        env = {
            "PATH": f"{self._bin}:{os.environ['PATH']}", "HOME": str(self.folder), GROUP_VARIABLE: self._group(name),
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "SPT_NOENV": "1",
            # A node that is gone is missed after seconds, not after a quarter of a minute.
            "RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "4",
        }  # fmt: skip
        limits = ["--object-store-memory=100000000", f"--memory={8 * _GB}", "--disable-usage-stats", "--block"]
        limits.append(f"--dashboard-agent-listen-port={free_port()}")  # else a second cluster beside it has none
        with (self.folder / f"{name}.log").open("wb") as log:
            self._nodes[name] = subprocess.Popen(
                [str(self._bin / "ray"), "start", *options, *limits], env=env, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def _until_there(self) -> None:
        jobs, deadline = RayJobs(self.address, self.token), time.monotonic() + START_LIMIT_S
        while True:
            try:
                jobs.version()
                return
            except (ClusterError, httpx.HTTPError):
                said = (self.folder / "head.log").read_text()[-3000:]
                assert self._nodes["head"].poll() is None and time.monotonic() < deadline, said
                time.sleep(0.2)


def _tree(pid: int) -> list[int]:
    with suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
