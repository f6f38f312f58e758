"""Jobs on a Ray cluster: behind the same interface as this machine's process groups.

The job's folder must be the same on every node (a shared folder), and Diptych must lie at the same path. Ray gets one
fixed command, ``node_entry.py`` with the folder; all else goes through files. The job's id is its submission id, and
the start is claimed by a rename, so whatever is asked for twice runs once. Network calls are made by one thread at a
time per job, never by the runner: a cluster that does not answer holds up nobody.
"""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import ClusterError
from components.core.jobs import ClusterMark, Job, JobNeeds
from components.jobs.detached import LOG_BYTES, STEP_GRACE_S
from components.jobs.launcher import GROUP_VARIABLE
from components.jobs.lease import Grant, Wait
from components.jobs.node_entry import GIVEN_UP, START
from components.jobs.ray_api import RayJobs, RayRequest, RayStatus
from components.jobs.records import JobFolder
from components.storage.atomic_write import write_atomically

ENTRY = Path(__file__).with_name("node_entry.py")
WITHDRAWN = "start.withdrawn.json"
POLL_S = 1.0
SETTLE_S = 10.0  # from Ray's word that it has ended until the exit code must be in the folder
WORD_LIMIT_S = 60.0  # from the exit code until Ray's word on why
_ASK_AGAIN_S = 5.0  # whether the cluster is there, while jobs wait for it
_GIB = 1024**3


@dataclass(frozen=True)
class RaySettings:
    """A cluster, and what jobs ask it for.

    Attributes:
        address: of its job server; empty = no new job goes to a cluster.
        token: of a cluster with token authentication.
        cpus, gpus: what each job asks for.
        concurrency: how many jobs are handed over at once.
        kinds: which jobs run there.
        python: interpreter of every node, at the same path.
        cwd: where drivers start, at the same path.
        inherited, inherited_prefixes: what a job gets of the node's environment.
    """

    address: str
    python: Path
    cwd: Path
    kinds: frozenset[str]
    inherited: Iterable[str] = ()
    inherited_prefixes: Sequence[str] = ()
    token: str = ""
    cpus: float = 1.0
    gpus: float = 0.0
    concurrency: int = 4


class Asking:
    """Calls something in a thread of its own, one call at a time and not more often than every so many seconds."""

    def __init__(self, ask: Callable[[], None], every_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._every_s, self._clock_s = ask, every_s, clock_s
        self._thread: threading.Thread | None = None
        self._asked_s: float | None = None

    def when_due(self) -> None:
        """Have it called, unless it is being called or was just called."""
        now_s = self._clock_s()
        if self._thread is not None and self._thread.is_alive():
            return
        if self._asked_s is None or now_s - self._asked_s >= self._every_s:
            self._asked_s = now_s
            self._thread = threading.Thread(target=self._ask, name="ray", daemon=True)  # the app's end waits for none
            self._thread.start()

    def soon(self) -> None:
        """It is due again at the next opportunity."""
        self._asked_s = None


class RayAttempt:
    """One job on the cluster. Implements ``places.Attempt``."""

    def __init__(
        self, folder: JobFolder, mark: ClusterMark, api: RayJobs, request: RayRequest,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.mark = mark
        self._folder, self._api, self._request, self._clock_s = folder, api, request, clock_s
        self._asking = Asking(self._ask, POLL_S, clock_s)
        # What the cluster said last; None before its first word, and when it does not know the job.
        self._status: RayStatus | None = None
        self._unknown = False  # it was started there, and the cluster knows no such job
        self._trouble = ""
        self._stop_wanted = False
        self._ended_s: float | None = None  # when the cluster's word that it has ended was first seen
        self._code_s: float | None = None  # when the exit code was first seen

    @property
    def note(self) -> str:
        """Why it does not go on, or why nothing is known of it."""
        if self._trouble:
            begun = " What runs there goes on." if not self._unclaimed() else ""
            return f"{self._trouble}{begun} Diptych asks again."
        if self._status is not None and self._status.state == "PENDING":
            return f"Waits on the cluster for a node with {_words(self._request)} free."
        return ""

    def runs(self) -> bool:
        """From the folder and the cluster's last word. See ``_has_ended``."""
        self._asking.when_due()
        return not self._has_ended()

    def ask_to_stop(self) -> None:
        """Take the start back where nobody has claimed it; else ask the cluster until it has heard."""
        self._withdraw()
        if not self._stop_wanted:
            self._stop_wanted = True
            self._asking.soon()

    async def end_rest(self) -> Mapping[int, str]:
        """The launcher on the node does it before it notes the exit code. Without a code the node is dead or cut off:
        one that is cut off ends the job when it sees this file, so that no attempt works beside the next one for long.
        """
        if self._ended_s is not None and self.exit_code() is None:
            with suppress(OSError):  # the folder is gone
                (self._folder.path / GIVEN_UP).touch()
        return {}

    def exit_code(self) -> int | None:
        """Of the driver."""
        return self._folder.read_exit_code()

    def why_lost(self) -> str:
        """The cluster's word, in ours."""
        if self._unknown:
            return "The Ray cluster does not know this job any more: it was restarted."
        status = self._status
        if status is not None and status.state == "STOPPED":
            return "The job was ended on the cluster, not by Diptych."
        if status is None or status.state != "FAILED":
            return ""
        if status.error_type in ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE"):
            node = f"its node {status.node}" if status.node else "the node"
            return f"The cluster lost {node}, which ran the job: it died, was cut off, or its Ray was ended."
        if status.error_type == "JOB_SUPERVISOR_ACTOR_START_TIMEOUT":
            return f"No node of the cluster had {_words(self._request)} free within Ray's limit of time."
        if self.exit_code() is not None:
            return ""  # our own launcher knows better
        lines = [line.strip() for line in status.message.splitlines() if line.strip()]
        return (
            f"The cluster could not run the job: {lines[-1][:500]}" if lines else "The cluster could not run the job."
        )

    def memory_bytes(self) -> int:
        """Not measured from here; drivers tell their own."""
        return 0

    # -- the cluster ------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Ask, hand over what the cluster does not have yet, and pass on a wish to stop."""
        name = self.mark.submission_id
        try:
            status = self._api.status(name)
            if status is None and self._unclaimed():
                self._api.submit(name, self._request)
                status = self._api.status(name)
            if self._stop_wanted and status is not None and not status.has_ended:
                self._api.stop(name)
        except ClusterError as exc:
            self._trouble = str(exc)
            return
        self._trouble = ""
        self._unknown = status is None and not self._unclaimed()
        self._status = status

    # -- the folder -------------------------------------------------------------------------------------------------

    def _has_ended(self) -> bool:
        """Whether nothing more will come.

        The launcher writes the exit code when no process is left. It is enough where the driver has said how it ended
        or where the end was asked for; else the cluster's word tells why. Without a code the node may be gone.
        """
        if (self._folder.path / WITHDRAWN).exists():
            return True
        now_s = self._clock_s()
        ray_ended = self._unknown or (self._status is not None and self._status.has_ended)
        if ray_ended:
            self._ended_s = self._ended_s if self._ended_s is not None else now_s
            if self._withdraw():
                return True  # it never began
        if self._folder.read_exit_code() is not None:
            self._code_s = self._code_s if self._code_s is not None else now_s
            said = self._folder.read_exit()
            clear = self._stop_wanted or (said is not None and said.state != "STOPPED")
            return clear or ray_ended or now_s - self._code_s > WORD_LIMIT_S
        return self._ended_s is not None and now_s - self._ended_s > SETTLE_S

    def _unclaimed(self) -> bool:
        return (self._folder.path / START).exists()

    def _withdraw(self) -> bool:
        """Take the start back. Whether nobody had claimed it."""
        try:
            (self._folder.path / START).rename(self._folder.path / WITHDRAWN)
        except OSError:
            return False
        return True


class RayRoom:
    """The cluster grants room itself; here it is only looked whether it can be reached. Implements ``lease.Lease``."""

    def __init__(self, api: RayJobs) -> None:
        self._api = api
        self._asking = Asking(self._ask, _ASK_AGAIN_S)
        self._why_not = f"Asks the Ray cluster at {api.address}."

    def take(self, holder: str, needs: JobNeeds) -> Grant | Wait:
        """A grant where the cluster answered within the last seconds."""
        del holder, needs
        self._asking.when_due()
        return Wait(self._why_not) if self._why_not else Grant()

    def hold(self, holder: str, needs: JobNeeds) -> None:
        """The cluster does."""

    def note_use(self, holder: str, used_bytes: int) -> None:
        """Not of this machine."""

    def give_back(self, holder: str) -> None:
        """The cluster does."""

    def _ask(self) -> None:
        try:
            self._api.version()
            self._why_not = ""
        except ClusterError as exc:
            self._why_not = f"Waits for the cluster. {exc}"


class RayPlace:
    """Jobs of some kinds run on a Ray cluster. Implements ``places.Place``."""

    def __init__(self, settings: RaySettings) -> None:
        self._settings = settings
        self.concurrency = settings.concurrency
        self._apis: dict[str, RayJobs] = {}
        self.lease = RayRoom(self._api(settings.address))

    def takes(self, job: Job) -> bool:
        """Whether it is of a kind that goes there, and there is a cluster."""
        return bool(self._settings.address) and job.kind in self._settings.kinds

    def start(self, job: Job, folder: JobFolder, argv: Sequence[str], grant: Grant) -> RayAttempt:
        """Write what a node needs to know. The cluster is asked when the runner looks first."""
        settings = self._settings
        # Where none was asked for, Ray leaves the node's GPUs in sight.
        hidden = {} if settings.gpus else {"CUDA_VISIBLE_DEVICES": ""}
        start = {
            "argv": list(argv),
            "cwd": str(settings.cwd),
            "env": {**grant.env, **hidden, GROUP_VARIABLE: str(folder.path), "SPT_NOENV": "1"},
            "inherited": sorted(settings.inherited),
            "inherited_prefixes": list(settings.inherited_prefixes),
            "log": str(folder.log),
            "log_bytes": LOG_BYTES,
            "grace_s": STEP_GRACE_S,
            "code": str(folder.exit_code),
        }
        write_atomically(folder.path / START, json.dumps(start, indent=1).encode(), folder.path)
        return self._attempt(job, folder, ClusterMark(address=settings.address, submission_id=job.id))

    def find(self, job: Job, folder: JobFolder) -> RayAttempt | None:
        """By its id, at the cluster it was given to, which may be another one than new jobs go to."""
        return self._attempt(job, folder, job.process) if isinstance(job.process, ClusterMark) else None

    def _attempt(self, job: Job, folder: JobFolder, mark: ClusterMark) -> RayAttempt:
        settings = self._settings
        command = shlex.join([str(settings.python), "-I", "-S", str(ENTRY), str(folder.path)])
        request = RayRequest(f"exec {command}", settings.cpus, settings.gpus, job.needs.memory_bytes)
        return RayAttempt(folder, mark, self._api(mark.address), request)

    def _api(self, address: str) -> RayJobs:
        """The token is sent to the cluster that is set, and to no other."""
        if address not in self._apis:
            token = self._settings.token if address == self._settings.address else ""
            self._apis[address] = RayJobs(address, token)
        return self._apis[address]


def _words(request: RayRequest) -> str:
    parts = [f"{request.cpus:g} CPU" + ("" if request.cpus == 1 else "s")]
    if request.gpus:
        parts.append(f"{request.gpus:g} GPU" + ("" if request.gpus == 1 else "s"))
    if request.memory_bytes:
        parts.append(f"{request.memory_bytes / _GIB:.1f} GiB")
    return ", ".join(parts)
