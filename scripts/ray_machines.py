"""Does a Ray cluster work over a network, and what follows when a machine of it is cut off?

    sudo .venv/bin/python scripts/ray_machines.py

Three hosts as network namespaces of this machine on one bridge: the app stands on the bridge, Ray's head (0 CPUs) and a
worker have a namespace each, with an address, Ray folder and /dev/shm of their own; Diptych and the shared folder lie
at the same paths for all. A quantization of the embedded base runs through the app on the worker and is compared with
one made here. Then a KL benchmark loses the worker's network in the middle; the cable is put back and Retry pressed.
Ray's own times are left as they are. It is one kernel, disk and clock, so what a slow disk over the network would do is
not shown: the cut-off worker still reaches the shared folder.

Needs root, iproute2's ``ip``, and ``make test``'s environment; the first run makes those of Ray and llm-compressor.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from components.core.errors import ClusterError  # noqa: E402
from components.core.jobs import Job  # noqa: E402
from components.core.states import JobState  # noqa: E402
from components.jobs.launcher import find_members  # noqa: E402
from components.jobs.ray_api import RayJobs  # noqa: E402
from components.services import Services, build_services  # noqa: E402
from components.settings import Settings  # noqa: E402
from tests.engine.test_ray_jobs import digest, made_here  # noqa: E402
from tests.ray_cluster import ray_environment  # noqa: E402
from tests.running_app import new_state_dir  # noqa: E402

BRIDGE, NETWORK = "dtray0", "10.78.0"
HOST, HEAD, WORKER = "1", "2", "3"
PORT, DASHBOARD = 6379, 8265
LIMIT_S = 900.0
FOLLOWED_S = 300.0  # after the cut
QUANTIZATION: dict[str, Any] = {"recipe": "w4a16-gptq"}
# Of minutes, most of them in steps that are kept one by one: Ray misses a machine after a minute or so.
BENCHMARK: dict[str, Any] = {
    "models": ["embedded/coarse"], "suite": "quality",
    "overrides": {"chunks": 4, "items": 6, "prompt_lengths": [64], "prompts": 40, "steps": 512, "draws": 200},
}  # fmt: skip
# In a mount namespace of its own, which `ip netns exec` makes: machines share neither Ray's folder nor /dev/shm.
PRIVATE = 'mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs tmpfs "$0" && exec "$@"'


def ip(*words: str) -> None:
    """One command of iproute2; what it says when it fails."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Machines:
    """The bridge with the app's address, and two hosts on it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dtray-"))
        self.token = secrets.token_hex(32)
        self.address = f"http://{NETWORK}.{HEAD}:{DASHBOARD}"
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def make(self) -> None:
        """The bridge and the hosts."""
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("address", "add", f"{NETWORK}.{HOST}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for number in (HEAD, WORKER):
            self._add(number)

    def _add(self, number: str) -> None:
        name, port = space(number), f"dtray-p{number}"
        ip("netns", "add", name)
        ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", port, "master", BRIDGE, "up")
        ip("-n", name, "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", name, "link", "set", device, "up")

    def plug(self, number: str, *, into_bridge: bool) -> None:
        """The cable of a host, at the bridge's end: it keeps its address and hears nothing."""
        ip("link", "set", f"dtray-p{number}", "up" if into_bridge else "down")

    def start_ray(self, number: str) -> None:
        """Ray's head or a worker on a host."""
        own = f"{NETWORK}.{number}"
        ours = self.folder / "ray"
        ours.mkdir(exist_ok=True)
        role = (
            ["--head", f"--port={PORT}", "--num-cpus=0", f"--dashboard-host={own}", f"--dashboard-port={DASHBOARD}",
             f"--temp-dir={ours}"]
            if number == HEAD else [f"--address={NETWORK}.{HEAD}:{PORT}", "--num-cpus=1"]
        )  # fmt: skip
        bin_folder = ray_environment() / "bin"
        env = {
            "PATH": f"{bin_folder}:{os.environ['PATH']}", "HOME": str(Path.home()), "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
        }  # fmt: skip
        argv = [
            "ip", "netns", "exec", space(number), "sh", "-c", PRIVATE, str(ours), str(bin_folder / "ray"), "start",
            *role, f"--node-ip-address={own}", "--memory=8000000000", "--object-store-memory=100000000",
            "--disable-usage-stats", "--block",
        ]  # fmt: skip
        with (self.folder / f"{space(number)}.log").open("ab") as log:
            self._started[number] = subprocess.Popen(
                argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def ray_runs(self, number: str) -> bool:
        """Whether Ray is still up on a host."""
        return self._started[number].poll() is None

    def said(self, number: str) -> str:
        """The end of what Ray said on a host."""
        return (self.folder / f"{space(number)}.log").read_text(errors="replace")[-1500:]

    def close(self) -> None:
        """End what runs on the hosts, and the hosts."""
        for number in (WORKER, HEAD):
            deadline = time.monotonic() + 20
            while (left := pids_on(number)) and time.monotonic() < deadline:
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.1)
            # The cable by name: what a host could not send any more would keep it for a quarter of an hour.
            for words in (("link", "del", f"dtray-p{number}"), ("netns", "del", space(number))):
                subprocess.run(["ip", *words], check=False, capture_output=True)
        for process in self._started.values():
            process.wait()
        subprocess.run(["ip", "link", "del", BRIDGE], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def space(number: str) -> str:
    """The namespace of a host."""
    return {HEAD: "dtray-head", WORKER: "dtray-worker"}[number]


def pids_on(number: str) -> list[int]:
    """Processes of a host."""
    told = subprocess.run(["ip", "netns", "pids", space(number)], capture_output=True, text=True, check=False)
    return [int(word) for word in told.stdout.split()]


async def until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> float:
    """Wait for a condition; the seconds it took."""
    begun_s = time.monotonic()
    while not await asyncio.to_thread(condition):
        if time.monotonic() - begun_s > limit_s:
            raise TimeoutError
        await asyncio.sleep(0.2)
    return time.monotonic() - begun_s


class Story:
    """What is done and said, one line after the other."""

    def __init__(self, machines: Machines, services: Services) -> None:
        self._machines, self._services = machines, services

    async def whole(self) -> None:
        """A job over the network, one whose machine is cut off, and its retry."""
        job = await self._ended(await asyncio.to_thread(self._services.quantize.submit, QUANTIZATION))
        self._tell(f"{job.state} on {self._node_of(job)}, {_took_s(job):.0f} s. {job.failure_reason or ''}")
        if job.state is JobState.SUCCEEDED:
            await asyncio.to_thread(self._compare, job)
        cut = await self._cut_off(await asyncio.to_thread(self._services.benchmarks.submit, BENCHMARK))
        if cut.state is not JobState.FAILED:
            return
        self._machines.plug(WORKER, into_bridge=True)
        await self._ray_again()
        again = self._services.jobs.retry(cut.id).job
        done = await self._ended(again.id)
        self._tell(
            f"Retry after the cable was put back: {done.state}, {_took_s(done):.0f} s. {done.failure_reason or ''}"
        )

    async def _ended(self, job_id: str) -> Job:
        await until(lambda: self._services.jobs.queue.get(job_id).has_ended)
        return self._services.jobs.queue.get(job_id)

    async def _cut_off(self, job_id: str) -> Job:
        """Cut the worker's network in the middle of a job, and follow it on both sides."""
        jobs, folder = self._services.jobs, self._services.jobs.folder(job_id)

        def in_the_middle() -> bool:
            progress = jobs.view(job_id).progress
            return progress.phase == "Generation KL" and (progress.step or 0) >= 3

        await until(lambda: in_the_middle() or jobs.queue.get(job_id).has_ended)
        self._machines.plug(WORKER, into_bridge=False)
        cut_s, at_cut = time.monotonic(), jobs.view(job_id)
        self._tell(f"Cable of the worker pulled; the job: {at_cut.job.state}, {at_cut.message}")
        ends = {
            "the job ended for the app": lambda: jobs.queue.get(job_id).has_ended,
            "no process of the job was left on the worker": lambda: not find_members(str(folder.path)),
            "the worker's Ray had ended itself": lambda: not self._machines.ray_runs(WORKER),
        }
        while ends and time.monotonic() - cut_s < FOLLOWED_S:
            for words in [words for words, happened in ends.items() if happened()]:
                self._tell(f"{time.monotonic() - cut_s:.0f} s after the cut: {words}")
                del ends[words]
            await asyncio.sleep(0.2)
        for words in ends:
            self._tell(f"{FOLLOWED_S:.0f} s after the cut it was not yet so that {words}")
        job = jobs.queue.get(job_id)
        self._tell(f"{job.state}: {job.failure_reason}")
        left = sorted(path.name for path in folder.path.iterdir())
        self._tell(f"its folder has {left}, exit code {folder.read_exit_code()}")
        return job

    async def _ray_again(self) -> None:
        """What a service manager of the worker would do: start Ray again once it has ended."""
        took_s = await until(lambda: not self._machines.ray_runs(WORKER))
        self._machines.start_ray(WORKER)
        self._tell(f"Cable put back, Ray of the worker started again ({took_s:.0f} s after the cable)")

    def _node_of(self, job: Job) -> str:
        status = RayJobs(self._machines.address, self._machines.token).status(job.id)
        return status.node if status is not None else "nowhere"

    def _compare(self, job: Job) -> None:
        there = self._services.jobs.folder(job.id).result
        with tempfile.TemporaryDirectory(prefix="dtray-here-") as folder:
            here = made_here(Path(folder), job)
            same = {name: digest(there / name) == digest(here / name) for name in ("model.safetensors", "recipe.yaml")}
        self._tell(f"the same files as made on this machine: {same}")

    def _tell(self, words: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {words}", flush=True)


def _took_s(job: Job) -> float:
    return (job.ended_at - job.started_at).total_seconds() if job.ended_at and job.started_at else float("nan")


async def run(machines: Machines) -> None:
    """Start Ray on the hosts and the app's services here, and tell the story."""
    machines.start_ray(HEAD)
    ray = RayJobs(machines.address, machines.token)

    def there() -> bool:
        if not machines.ray_runs(HEAD):
            raise SystemExit(f"Ray's head did not start: {machines.said(HEAD)}")
        with suppress(ClusterError):
            return bool(ray.version())
        return False

    await until(there, 120)
    machines.start_ray(WORKER)
    state = new_state_dir()
    services = build_services(
        Settings(state_dir=state, start_engines=False, ray_address=machines.address, ray_token=machines.token)
    )
    task = asyncio.create_task(services.jobs.runner.run())
    try:
        await Story(machines, services).whole()
    finally:
        task.cancel()
        await asyncio.wait([task])
        services.close()
        shutil.rmtree(state, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    if os.geteuid():
        raise SystemExit("Network namespaces need root: run it with sudo.")
    if shutil.which("ip") is None:
        raise SystemExit("iproute2 is missing: sudo apt-get install iproute2")
    if Path("/sys/class/net", BRIDGE).exists():
        raise SystemExit(
            f"It runs already, or was killed: ip link del {BRIDGE}, and ip netns del {space(HEAD)} {space(WORKER)}."
        )
    machines = Machines()
    try:
        machines.make()
        asyncio.run(run(machines))
    finally:
        machines.close()


if __name__ == "__main__":
    main()
