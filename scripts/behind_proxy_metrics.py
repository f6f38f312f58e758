"""What a real Prometheus gets in scripts/behind_proxy.py: promtool's opinion, and every panel's queries."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from typing import Any

import httpx

from scripts.behind_proxy_parts import OWNER, ROOT, SCRAPE_S, Found, Stage
from tests.browser.scripted import USUAL
from tests.running_app import wait_until

DASHBOARD = ROOT / "deploy" / "grafana" / "diptych.json"
SCORING = "Scoring an answer"


def account() -> dict[str, str]:
    """The header that signs the owner in."""
    request = next(httpx.BasicAuth(*OWNER).auth_flow(httpx.Request("GET", "http://app/")))
    return {"Authorization": request.headers["Authorization"]}


def fail_once(stage: Stage, found: Found) -> None:
    """One answer that fails, as in a night without other trouble: the dashboard must show it."""
    stage.engines.base.options = replace(USUAL, mode="http_400")
    told = stage.apps[0].call("compare", "What colour is it?", [], {}, headers=account())
    outcomes = [column["answer"]["outcome"] for column in told["columns"]]
    stage.engines.reset()
    found.check("failed" in outcomes, f"an answer that should fail: {outcomes}")


def run_engines(stage: Stage, engines: tuple[str, ...], found: Found) -> None:
    """Real engines in the first app: a question, scored by the exact method."""
    options = {"pair": "embedded", "columns": list(engines)}
    told = stage.apps[0].call("compare", "What can you do?", [], options, timeout_s=600, headers=account())
    for _ in range(2):
        score = stage.apps[0].call("score", told["id"], {"method": "exact"}, timeout_s=300, headers=account())
    answers = [column["answer"]["text"][:40] for column in told["columns"]]
    found.say(f"real engines in one app: {answers}, mean KL {score['mean_kl_base_to_candidate_nats']:.4f} nats")


def check_exposition(stage: Stage, engines: tuple[str, ...], found: Found) -> None:
    """promtool reads the metrics and the settings."""
    if shutil.which("promtool") is None:
        found.say("promtool is not here: metrics and settings were not checked")
        return
    for file in (ROOT / "deploy" / "prometheus.yaml", stage.prometheus_file):
        done = subprocess.run(["promtool", "check", "config", file], capture_output=True, text=True, check=False)
        found.say(f"promtool check config {file.name}: {done.returncode}")
        found.check(done.returncode == 0 or "password" in done.stderr, done.stdout + done.stderr)
    addresses = [f"{app.url}metrics" for app in stage.apps]
    addresses += [f"{stage.apps[0].url}engines/{engine}/metrics" for engine in engines]
    for address in addresses:
        told = httpx.get(address, auth=OWNER, timeout=30, trust_env=False)
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=told.text, capture_output=True, text=True, check=False
        )
        remarks = Counter(line.partition(" ")[2] for line in (done.stdout + done.stderr).strip().splitlines())
        samples = sum(not line.startswith("#") for line in told.text.splitlines())
        ours = "/engines/" not in address
        found.say(f"promtool check metrics {address}: {done.returncode}, {samples} samples, {dict(remarks)}")
        found.check(done.returncode == 0 or not ours, f"promtool finds fault with {address}")
        found.check(samples > 20, f"{address} says {told.status_code} {told.text[:200]}")


def check_panels(stage: Stage, found: Found, *, scored: bool) -> None:
    """Every query of every panel, as Grafana would send it."""
    if not stage.prometheus_url:
        found.say("prometheus is not here: the dashboard's queries were not sent")
        return
    with httpx.Client(base_url=stage.prometheus_url, timeout=30, trust_env=False) as http:
        wait_until("Prometheus reads all", lambda: not _down(http), 30.0, lambda: str(_down(http)))
        _wait_for_newest(http)
        targets = http.get("api/v1/targets").json()["data"]["activeTargets"]
        found.say(f"Prometheus reads {len(targets)} targets: {', '.join(one['scrapeUrl'] for one in targets)}")
        dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                _check_query(http, panel["title"], target["expr"], found, scored=scored)


def _down(http: httpx.Client) -> list[str]:
    targets = http.get("api/v1/targets").json()["data"]["activeTargets"]
    return [f"{one['scrapeUrl']}: {one['lastError']}" for one in targets if one["health"] != "up"]


def _wait_for_newest(http: httpx.Client) -> None:
    """Until what happened last was read."""
    before = http.get("api/v1/query", params={"query": "time()"}).json()["data"]["result"][0]

    def read() -> bool:
        told = http.get("api/v1/query", params={"query": "min(timestamp(up))"}).json()["data"]["result"]
        return bool(told) and float(told[0]["value"][1]) > float(before) + SCRAPE_S

    wait_until("Prometheus has read again", read, 30.0)


def _check_query(http: httpx.Client, title: str, query: str, found: Found, *, scored: bool) -> None:
    now = http.get("api/v1/query", params={"query": "time()"}).json()["data"]["result"][0]
    window = {"query": query, "start": float(now) - 600, "end": now, "step": SCRAPE_S}
    told = http.get("api/v1/query_range", params=window).json()
    if told["status"] != "success":
        found.check(False, f"{title}: {query}: {told}")
        return
    series: list[dict[str, Any]] = told["data"]["result"]
    values = [float(value) for one in series for _, value in one["values"]]
    real = [value for value in values if math.isfinite(value)]
    spread = f"{min(real):.4g} to {max(real):.4g}" if real else "no number"
    found.say(f"  {title}: {len(series)} series, {len(real)} points, {spread}   {query}")
    names = [tuple(sorted(one["metric"].items())) for one in series]
    found.check(len(set(names)) == len(names), f"{title}: series that can't be told apart")
    if title == SCORING and not scored:
        found.say("    nothing was scored in this run: that takes real engines (--engines)")
        return
    found.check(bool(real), f"{title} is empty")
    if title.startswith("Answers that did not finish"):
        found.check(any(value > 0 for value in real), f"{title}: the one that failed is not there")
