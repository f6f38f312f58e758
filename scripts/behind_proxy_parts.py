"""The processes of scripts/behind_proxy.py: PostgreSQL, two apps, the proxy, Prometheus; each ends with its block."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.scripted import ScriptedEngines  # noqa: E402
from tests.postgres_server import PostgresServer, binaries  # noqa: E402
from tests.running_app import RunningApp, copy_of_app, free_port, new_state_dir, wait_until  # noqa: E402

OWNER = ("ann", "a long password")
FIRST_ENGINES = ("scripted/base", "scripted/slow")
SCRAPE_S = 1  # Prometheus asks every 15 s as a rule; a run of minutes needs more points
_START_LIMIT_S = 30.0


@dataclass
class Found:
    """What was measured, and what is not as it should be."""

    wrong: list[str] = field(default_factory=list)

    def check(self, holds: bool, what: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.wrong.append(what)
            print(f"  NOT SO: {what}", flush=True)

    def say(self, text: str) -> None:
        """A line of the report."""
        print(text, flush=True)


@dataclass(frozen=True)
class Passed:
    """A request as the proxy handed it on."""

    who: str  # the User-Agent
    upstream: str
    method: str
    path: str
    status: int  # 0 = the app could not be reached


class Proxy:
    """The real Caddy with deploy/Caddyfile, which also writes down where each request went."""

    def __init__(self, folder: Path, apps: list[RunningApp]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.log = folder / "caddy.log"
        names = [urlsplit(app.url).netloc for app in apps]
        environment = {**os.environ, "SITE": f":{self.port}", "APPS": " ".join(names), "HOME": str(folder)}
        adapt = ["caddy", "adapt", "--config", str(ROOT / "deploy" / "Caddyfile"), "--adapter", "caddyfile"]
        made = subprocess.run(adapt, env=environment, capture_output=True, text=True, check=False)
        if made.returncode:
            raise SystemExit(f"Caddy refuses deploy/Caddyfile: {made.stderr}")
        config = json.loads(made.stdout)
        # All that is added: Caddy tells of each request which app it was handed to only in its log for finding faults.
        config["logging"] = {
            "logs": {"default": {"level": "DEBUG", "writer": {"output": "file", "filename": str(self.log)}}}
        }
        self.file = folder / "caddy.json"
        self.file.write_text(json.dumps(config), encoding="utf-8")
        self.environment = environment

    def passed(self) -> list[Passed]:
        """Every request so far."""
        found = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if entry.get("msg") == "upstream roundtrip":
                asked = entry["request"]
                who = (asked["headers"].get("User-Agent") or [""])[0]
                path = asked["uri"].partition("?")[0]
                found.append(Passed(who, entry["upstream"], asked["method"], path, entry.get("status", 0)))
        return found

    def upstreams(self, who: str) -> set[str]:
        """The apps that answered this visitor."""
        return {one.upstream for one in self.passed() if one.who == who and one.status}


@contextmanager
def running(argv: list[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """A process for the time of the block."""
    with log.open("ab") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out, env=environment, cwd=log.parent)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class Stage:
    """Everything that runs."""

    folder: Path
    engines: ScriptedEngines
    apps: list[RunningApp]
    proxy: Proxy
    prometheus_url: str  # empty = Prometheus is not here
    prometheus_file: Path

    def app_at(self, upstream: str) -> RunningApp:
        """The app that the proxy calls so."""
        return next(app for app in self.apps if urlsplit(app.url).netloc == upstream)

    def other_than(self, app: RunningApp) -> RunningApp:
        """The second one."""
        return next(one for one in self.apps if one is not app)


def wait_for(what: str, url: str, log: Path) -> None:
    """Until an address answers 200."""

    def answers() -> bool:
        try:
            return httpx.get(url, timeout=5, trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    wait_until(what, answers, _START_LIMIT_S, lambda: log.read_text(encoding="utf-8", errors="replace")[-2000:])


def prometheus_settings(folder: Path, apps: list[RunningApp], engines: tuple[str, ...]) -> Path:
    """deploy/prometheus.yaml with this machine's addresses, password and engines; everything else as it stands."""
    settings: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "prometheus.yaml").read_text(encoding="utf-8"))
    password = folder / "password"
    password.write_text(OWNER[1], encoding="utf-8")
    addresses = [urlsplit(app.url).netloc for app in apps]
    settings["global"]["scrape_interval"] = f"{SCRAPE_S}s"
    for job in settings["scrape_configs"]:
        job["basic_auth"] = {"username": OWNER[0], "password_file": str(password)}
        if job["job_name"] == "diptych":
            job["static_configs"] = [{"targets": addresses}]
        else:
            (shape, *_) = job["static_configs"]
            before, _, after = shape["labels"]["__metrics_path__"].partition(shape["labels"]["model"])
            job["static_configs"] = [
                {"targets": addresses[:1], "labels": {"__metrics_path__": f"{before}{one}{after}", "model": one}}
                for one in engines
            ]
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file


@contextmanager
def stage(engines: tuple[str, ...]) -> Iterator[Stage]:
    """Start everything, end everything. ``engines``: real ones whose own metrics are read, too."""
    programs = binaries()
    if programs is None or shutil.which("caddy") is None:
        raise SystemExit(
            "PostgreSQL (initdb, postgres) and caddy are needed; on Debian: apt-get install postgresql caddy"
        )
    with ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="dt-proxy-")))
        server = PostgresServer(programs)
        ending.callback(server.stop)
        server.start()
        scripted = ending.enter_context(ScriptedEngines())
        copy, shared = new_state_dir(), new_state_dir()
        ending.callback(shutil.rmtree, copy, ignore_errors=True)
        ending.callback(shutil.rmtree, shared, ignore_errors=True)
        environment = {
            "DIPTYCH_DATABASE_URL": server.url(server.new_database()), "DIPTYCH_SHARED_DIR": str(shared),
            "DIPTYCH_USERS": ":".join(OWNER), "DIPTYCH_LOG_FORMAT": "json",
        }  # fmt: skip
        root = copy_of_app(copy, {"scripted": scripted.profile()})
        apps = []
        for _ in range(2):
            app = RunningApp(new_state_dir(), "--public", "--pair", "scripted", root=root, environment=environment)
            ending.callback(app.close)
            apps.append(app.start())
        for app in apps:
            app.wait_for_page()
            app.wait_ready(*FIRST_ENGINES)
        proxy = Proxy(folder, apps)
        run = ["caddy", "run", "--config", str(proxy.file)]
        ending.enter_context(running(run, folder / "caddy.out", proxy.environment))
        wait_for("the proxy", f"{proxy.url}healthz", folder / "caddy.out")
        file, url = prometheus_settings(folder, apps, engines), ""
        if shutil.which("prometheus"):
            url = ending.enter_context(_prometheus(folder, file))
        yield Stage(folder, scripted, apps, proxy, url, file)


@contextmanager
def _prometheus(folder: Path, file: Path) -> Iterator[str]:
    url, log = f"http://127.0.0.1:{free_port()}/", folder / "prometheus.out"
    argv = [
        "prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={urlsplit(url).netloc}",
    ]  # fmt: skip
    with running(argv, log):
        wait_for("Prometheus", f"{url}-/ready", log)
        yield url


def metric(app: RunningApp, name: str) -> float:
    """The sum of a metric's samples, whatever their labels."""
    text = httpx.get(f"{app.url}metrics", auth=OWNER, timeout=30, trust_env=False).text
    lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
