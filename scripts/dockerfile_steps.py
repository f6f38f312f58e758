"""Run every step of the Dockerfile where there is no container engine, then start what it made and do the main job.

    sudo .venv/bin/python scripts/dockerfile_steps.py [--device cpu] [--keep]

Each instruction is carried out as it stands, at the paths that it names, as the user that it names and with no variable
but its own: in a copy-on-write view of this machine's root (overlayfs, a mount namespace, chroot), thrown away at the
end. What differs from `docker build`: the base image is this machine's system, whose Python may be another one; and pip
is told by this machine's settings where its index is. Then ENTRYPOINT and CMD start the app, HEALTHCHECK asks it,
/compare is asked about a picture over the API, and the same image is started once more with --recorded.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[1]
PICTURE, QUESTION = ROOT / "assets" / "samples" / "where-is-the-star.png", "Where is the purple star?"
HIDDEN = ("/work", "/root", "/home", "/tmp")  # noqa: S108  # nothing of this machine's users is seen inside
PORT = 7878
START_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # a container's


@dataclass(frozen=True)
class Step:
    """One instruction: its name in capitals and the rest, continued lines joined."""

    name: str
    rest: str


def read_steps(dockerfile: str) -> list[Step]:
    """All instructions of a Dockerfile, comments left out."""
    parser = DockerfileParser(fileobj=BytesIO(dockerfile.encode()))
    return [Step(s["instruction"].upper(), s["value"]) for s in parser.structure if s["instruction"] != "COMMENT"]


def substituted(text: str, variables: Mapping[str, str]) -> str:
    """With $NAME and ${NAME} replaced; a name that is not known is empty, as for Docker."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: variables.get(found[1] or found[2], ""), text)


def steps_of_image(steps: list[Step], build_arguments: Mapping[str, str]) -> list[Step]:
    """The steps that make the last stage: those of the stages it is built on first, without the ones it skips."""
    arguments: dict[str, str] = {}
    stages: dict[str, list[Step]] = {}
    current = ""
    for step in steps:
        if step.name == "ARG" and not current:
            name, _, default = step.rest.partition("=")
            arguments[name] = build_arguments.get(name, default)
        elif step.name == "FROM":
            base, _, name = substituted(step.rest, arguments).partition(" AS ")
            current = name or "last"
            stages[current] = [*stages.get(base, [Step("FROM", base)])]
        elif step.name == "ARG":
            name, _, default = step.rest.partition("=")
            stages[current].append(Step("ARG", f"{name}={arguments.get(name, build_arguments.get(name, default))}"))
        else:
            stages[current].append(step)
    return stages[current]


@dataclass
class Image:
    """What the steps have made so far."""

    root: Path
    variables: dict[str, str] = field(default_factory=lambda: {"PATH": START_PATH, "HOME": "/root"})
    arguments: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0"
    program: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def take(self, step: Step) -> None:
        """Carry out one step.

        Raises:
            SystemExit: it failed, or is of a kind that this program does not know.
        """
        known = {
            "FROM": self._base, "ARG": self._argument, "ENV": self._environment, "RUN": self._run, "COPY": self._copy,
            "WORKDIR": self._workdir, "USER": self._become, "EXPOSE": lambda _: None, "HEALTHCHECK": self._healthcheck,
            "ENTRYPOINT": self._entrypoint, "CMD": self._command,
        }  # fmt: skip
        if step.name not in known:
            raise SystemExit(f"{step.name} is not carried out by this program: {step.rest}")
        known[step.name](step.rest)

    def argv(self, command: list[str]) -> list[str]:
        """A command inside, as the image's user, in its folder."""
        who = f"--userspec={self.user}:{self.user}"
        return [
            "chroot",
            who,
            "--groups=",
            str(self.root),
            "/bin/sh",
            "-c",
            f'cd {self.folder} && exec "$@"',
            "sh",
            *command,
        ]

    def _base(self, base: str) -> None:
        print(f"   (instead of {base}: this machine's system)", flush=True)

    def _argument(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self.arguments[name] = value

    def _environment(self, rest: str) -> None:
        for name, value in re.findall(r"(\w+)=(\S+)", rest):
            self.variables[name] = substituted(value, {**self.arguments, **self.variables})

    def _run(self, rest: str) -> None:
        environment = {**machine_variables(), **self.arguments, **self.variables, "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(self.argv(["/bin/sh", "-c", rest]), env=environment, check=False)
        if done.returncode:
            raise SystemExit(f"this step ended with {done.returncode}")

    def _copy(self, rest: str) -> None:
        *sources, target = rest.split()
        kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        inside = self.root / str(Path(self.folder) / target).lstrip("/")
        for source in sources:
            if source not in kept:
                raise SystemExit(f".dockerignore leaves out {source}")
            if (ROOT / source).is_dir():  # a folder's content goes into the target
                skip = shutil.ignore_patterns("__pycache__", "*.pyc")
                shutil.copytree(ROOT / source, inside, ignore=skip, dirs_exist_ok=True)
            else:
                inside.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, inside)

    def _workdir(self, rest: str) -> None:
        self.folder = str(Path(self.folder) / rest)
        (self.root / self.folder.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _become(self, rest: str) -> None:
        self.user = rest

    def _healthcheck(self, rest: str) -> None:
        self.health = json.loads(rest.partition("CMD")[2])

    def _entrypoint(self, rest: str) -> None:
        self.program = json.loads(rest)

    def _command(self, rest: str) -> None:
        self.options = json.loads(rest)


def machine_variables() -> dict[str, str]:
    """How this machine reaches a package index; a build would have its own way."""
    named = ("http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    own = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.lower() in named}
    # As in the Makefile: where PyTorch's own pages can't be reached, pip would ask them six times for every package.
    return {"PIP_RETRIES": "1", **own}


def mount_root(folder: Path) -> Path:
    """A view of this machine's root in which everything can be changed and nothing is."""
    parts = {name: folder / name for name in ("changes", "work", "root")}
    for part in parts.values():
        part.mkdir()
    options = f"lowerdir=/,upperdir={parts['changes']},workdir={parts['work']}"
    root = parts["root"]
    pip_files = [Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"]
    settings = "\n".join(path.read_text() for path in pip_files if path.is_file())
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(root)], check=True)
    for name in ("proc", "sys", "dev"):
        subprocess.run(["mount", "--rbind", f"/{name}", str(root / name)], check=True)
    for path in (path for path in HIDDEN if (root / path[1:]).is_dir()):
        empty = folder / f"empty-{path[1:]}"
        empty.mkdir()
        empty.chmod(0o1777 if path == "/tmp" else 0o755)  # noqa: S108
        subprocess.run(["mount", "--bind", str(empty), str(root / path[1:])], check=True)
    (root / "etc" / "pip.conf").write_text(_one_section(settings))
    _forget_people(root / "etc")
    return root


def _forget_people(etc: Path) -> None:
    """Accounts and groups of people (1000 and above), which a base image does not have."""
    for name in ("passwd", "group"):
        lines = [line.split(":") for line in (etc / name).read_text().splitlines()]
        people = {line[0] for line in lines if 1000 <= int(line[2]) < 60000}
        for file in (etc / name, etc / {"passwd": "shadow", "group": "gshadow"}[name]):
            kept = [line for line in file.read_text().splitlines() if line.split(":")[0] not in people]
            file.write_text("\n".join([*kept, ""]))


def _one_section(settings: str) -> str:
    """Several pip.conf as one; pip reads no file with a section twice."""
    lines = dict.fromkeys(line for line in settings.splitlines() if line.strip() and not line.startswith("["))
    return "\n".join(["[global]", *lines, ""]) if lines else ""


def start(image: Image, *further: str) -> subprocess.Popen[bytes]:
    """The container: ENTRYPOINT with CMD and what is given further, on a port of ours."""
    command = [*image.program, *image.options, *further]
    print(f"-- {' '.join(command)}", flush=True)
    environment = {**image.variables, "DIPTYCH_PORT": str(PORT)}
    return subprocess.Popen(image.argv(command), env=environment, start_new_session=True)


def until_healthy(image: Image, process: subprocess.Popen[bytes]) -> float:
    """Ask HEALTHCHECK's command until it is content; the seconds it took."""
    begun = time.monotonic()
    environment = {**image.variables, "DIPTYCH_PORT": str(PORT)}
    while subprocess.run(image.argv(image.health), env=environment, capture_output=True, check=False).returncode:
        if process.poll() is not None or time.monotonic() - begun > 180:
            raise SystemExit("the app is not healthy")
        time.sleep(0.5)
    return time.monotonic() - begun


def call(http: httpx.Client, endpoint: str, *data: Any) -> Any:
    """A named endpoint over bare HTTP."""
    event = http.post(f"gradio_api/call/{endpoint}", json={"data": list(data)}).json()["event_id"]
    lines = http.get(f"gradio_api/call/{endpoint}/{event}").text.splitlines()
    ends = [(kind, line[6:]) for kind, line in pairwise(lines) if line.startswith("data: ")]
    kind, value = next(end for end in ends if end[0] in ("event: complete", "event: error"))
    return json.loads(value)[0] if kind.endswith("complete") else {"refused": value}


def main_job(http: httpx.Client) -> None:
    """Wait for the two engines, ask both about a picture, print what they say."""
    begun = time.monotonic()
    while sum(model["ready"] for model in call(http, "models")) < 2:
        if time.monotonic() - begun > 900:
            raise SystemExit(f"the engines are not ready: {call(http, 'models')}")
        time.sleep(2)
    print(f"-- both engines ready after {time.monotonic() - begun:.0f} s", flush=True)
    (uploaded,) = http.post("gradio_api/upload", files={"files": PICTURE.open("rb")}).json()
    picture = {"path": uploaded, "meta": {"_type": "gradio.FileData"}}
    trace = call(http, "compare", QUESTION, [picture], {})
    if "refused" in trace:
        raise SystemExit(f"/compare was refused: {trace['refused']}")
    for column in trace["columns"]:
        answer = column["answer"]
        print(f"-- {column['engine_id']} ({answer['outcome']}): {answer['text']!r}", flush=True)
        if answer["outcome"] != "finished" or not answer["text"]:
            raise SystemExit("this is no answer")
    if len(trace["columns"]) != 2:
        raise SystemExit("these are not both answers")


def end(process: subprocess.Popen[bytes]) -> None:
    """As `docker stop` does."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    code = process.wait(60)
    print(f"-- ended with {code}", flush=True)


def inside(options: argparse.Namespace, folder: Path) -> None:
    """All of it, in a mount namespace of its own."""
    image = Image(mount_root(folder))
    for number, step in enumerate(
        steps_of_image(read_steps((ROOT / "Dockerfile").read_text()), {"DEVICE": options.device})
    ):
        begun = time.monotonic()
        print(f"{number:2} {step.name} {step.rest}", flush=True)
        image.take(step)
        if step.name == "RUN":
            print(f"   ({time.monotonic() - begun:.0f} s)", flush=True)
    process = start(image)
    try:
        print(f"-- healthy after {until_healthy(image, process):.1f} s", flush=True)
        with httpx.Client(base_url=f"http://127.0.0.1:{PORT}/", timeout=600.0, trust_env=False) as http:
            main_job(http)
        records = image.root / "data" / "diptych" / "diptych.db"
        print(f"-- records of user {records.stat().st_uid}: {records.stat().st_size:,} bytes", flush=True)
    finally:
        end(process)
    process = start(image, "--recorded")
    try:
        print(f"-- recorded mode healthy after {until_healthy(image, process):.1f} s", flush=True)
        with httpx.Client(base_url=f"http://127.0.0.1:{PORT}/", timeout=60.0, trust_env=False) as http:
            print(f"-- /compare there: {call(http, 'compare', QUESTION, [], {})['refused']}", flush=True)
    finally:
        end(process)
    print("every step was carried out, and the image does its job", flush=True)


def main(argv: list[str]) -> int:
    """Into a namespace first, where mounts end with the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="the Dockerfile's build argument")
    parser.add_argument("--keep", action="store_true", help="leave what the steps changed in its folder")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.inside:
        inside(options, Path(options.inside))
        return 0
    if os.geteuid() != 0:
        parser.error("chroot and mounts need root")
    folder = Path(tempfile.mkdtemp(prefix="dockerfile-steps-", dir="/var/tmp"))  # large, and on a disk
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        sys.executable,
        __file__,
        *argv,
        "--inside",
        str(folder),
    ]
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
