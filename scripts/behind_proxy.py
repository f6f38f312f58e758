"""Many users at one address: the real Caddy before two apps on one PostgreSQL, watched by a real Prometheus.

    python scripts/behind_proxy.py [--visitors 20] [--engines]

Shows whether a visitor's requests all reach one app, what a browser sees, what a killed app costs, that answers
stream, that jobs are shared, and what each panel of the dashboard gets from Prometheus. The pair is a scripted one, for
what is tried here is the proxy; --engines starts the embedded base and candidate in one app for vLLM's own metrics.
Ends with 1 when something is not so. Needs caddy, PostgreSQL, a Chromium; prometheus and promtool where they are.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import httpx
from gradio_client import Client
from playwright.sync_api import Browser, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.behind_proxy_metrics import (  # noqa: E402
    check_exposition,
    check_panels,
    fail_once,
    run_engines,
)
from scripts.behind_proxy_parts import FIRST_ENGINES, OWNER, Found, Stage, stage  # noqa: E402
from scripts.behind_proxy_visitors import (  # noqa: E402
    Crowd,
    call_by_client,
    come_and_ask,
    compare_streams,
    in_background,
    kill_one,
)
from scripts.get_browser import find_browser  # noqa: E402
from tests.browser.compare_page import ComparePage  # noqa: E402
from tests.running_app import wait_until  # noqa: E402

COOKIE = "diptych_app"  # as deploy/Caddyfile calls it
CLIENTS = 8
ENGINES = ("embedded/base", "embedded/w4a16")
PATIENCE_MS = 30_000
SLOW = {"tokens": 60, "itl_s": 0.05, "ttft_s": 0.2}
UPLOAD_BYTES = 30_000_000  # more than a picture may have, less than a batch of pictures


def open_page(browser: Browser, stage: Stage, name: str, trace: str = "") -> ComparePage:
    """A page in a browser of its own."""
    context = browser.new_context(user_agent=name, viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    page = ComparePage(context.new_page(), stage.proxy.url)
    page.open(trace)
    return page


def browse(browser: Browser, stage: Stage, found: Found) -> tuple[ComparePage, str]:
    """Ask in a browser, load it anew, follow the link on the other app; the first page and its answer."""
    first = open_page(browser, stage, "browser-0")
    first.send("Tell me more")
    expect(first.turns(1)).to_have_count(1)
    lengths, deadline = [0], time.monotonic() + 30
    while not first.stats(1) and time.monotonic() < deadline:
        lengths.append(len(first.answer(1)))
        time.sleep(0.05)
    first.wait_over(1)
    answer, trace = first.answer(1), first.trace_id()
    found.say(f"browser: an answer of {len(answer)} characters was seen at {len(set(lengths))} lengths while it came")
    found.check(len(set(lengths)) > 5, "the page does not stream")
    first.reload()
    expect(first.turns(1)).to_have_count(1)
    found.check(first.answer(1) == answer, "after a reload the answer is another")
    (own,) = stage.proxy.upstreams("browser-0")
    for number in range(1, 16):
        second = open_page(browser, stage, f"browser-{number}", trace)
        if stage.proxy.upstreams(f"browser-{number}") != {own}:
            break
        second.page.context.close()
    expect(second.turns(1)).to_have_count(1)
    (other,) = stage.proxy.upstreams(f"browser-{number}")
    found.check(other != own, "no browser came to the other app")
    found.check(second.answer(1) == answer, f"on the other app the link shows {second.answer(1)!r}")
    found.say("browser: the answer is there after a reload, and on the other app by its link")
    found.check(not first.errors + second.errors, f"the page's errors: {first.errors + second.errors}")
    second.page.context.close()
    return first, answer


def upload(stage: Stage, found: Found) -> None:
    """A batch of pictures for Review is larger than any picture."""
    with httpx.Client(base_url=stage.proxy.url, auth=OWNER, trust_env=False, timeout=60) as http:
        told = http.post("review/upload", params={"name": "batch.zip"}, content=b"\0" * UPLOAD_BYTES)
        found.say(f"review: a file of {UPLOAD_BYTES / 1e6:.0f} MB for a batch: {told.status_code}")
        found.check(told.status_code == httpx.codes.OK, f"the proxy refuses what the app takes: {told.text[:200]}")
        told = [http.post("gradio_api/upload", files={"files": ("a.png", b"\0" * UPLOAD_BYTES)}) for _ in range(2)]
        refused = [answer.status_code for answer in told]
        after = [http.get("healthz").status_code for _ in range(10)]
        found.say(f"the same twice as a picture: {refused}; the page right afterwards, ten times: {sorted(set(after))}")
        found.check(min(refused) >= 400, "it was not refused")
        found.check(set(after) == {200}, "an upload that is too large takes the page from everybody")


def share_jobs(stage: Stage, crowd: Crowd, found: Found) -> None:
    """A job that a visitor of one app starts, watched and cancelled by one of the other, all through the proxy."""
    clients = []
    for group in crowd.by_app(stage).values():
        kept = {COOKIE: group[0].http.cookies[COOKIE]}
        agent = {"user-agent": f"worker-{len(clients)}"}
        given = {"auth": OWNER, "timeout": 60, "cookies": kept}
        clients.append(Client(stage.proxy.url, verbose=False, headers=agent, httpx_kwargs=given))
    first, second = clients
    job = first.predict({"model": "embedded", "recipe": "w4a16-rtn"}, api_name="/quantize")["job_id"]
    took = wait_until("it runs", lambda: second.predict(job, api_name="/job")["state"] == "RUNNING", 30)
    said = second.predict(job, api_name="/cancel")["state"]
    ended = wait_until("it has stopped", lambda: first.predict(job, api_name="/job")["state"] == "STOPPED", 30)
    found.say(
        f"jobs: started by a visitor of one app, seen running by one of the other after {took:.1f} s, cancelled there "
        f"({said}), stopped for the first after {ended:.1f} s"
    )
    reached = [stage.proxy.upstreams(f"worker-{number}") for number in range(2)]
    found.check(reached[0].isdisjoint(reached[1]), "both asked the same app")


def after_the_kill(stage: Stage, page: ComparePage, answer: str, name: str, found: Found) -> None:
    """The page of a visitor whose app was killed, loaded anew; then the app comes back."""
    page.reload()
    expect(page.turns(1)).to_have_count(1)
    found.check(page.answer(1) == answer, "after the kill the page shows another answer")
    page.ask("What colour is it?")
    found.check("RED" in page.answer(1), f"after the kill it answers {page.answer(1)!r}")
    found.say("browser: after the kill and a reload the answer is there, and the next question is answered")
    app = stage.app_at(name)
    back_s = app.start().wait_for_page()
    app.wait_ready(*FIRST_ENGINES)

    def comes_back() -> bool:
        who = f"late-{time.monotonic_ns()}"
        httpx.get(stage.proxy.url, headers={"User-Agent": who}, trust_env=False, timeout=30)
        return stage.proxy.upstreams(who) == {name}

    again_s = wait_until("a newcomer is sent to it", comes_back, 60, pause_s=0.2)
    found.say(f"the app started anew: its page after {back_s:.1f} s, newcomers through the proxy {again_s:.1f} s later")


def run(stage: Stage, browser: Browser, options: argparse.Namespace, found: Found) -> None:
    """Everything, one after the other."""
    with in_background() as do:
        crowd = do(come_and_ask(stage, options.visitors, found))
        turns = call_by_client(stage, CLIENTS, found)
        crowd.turns.extend(turns)
        stage.engines.slow_down(**SLOW)
        do(compare_streams(stage, crowd, options.rounds, found))
        page, answer = browse(browser, stage, found)
        upload(stage, found)
        share_jobs(stage, crowd, found)
        (own,) = stage.proxy.upstreams("browser-0")
        do(kill_one(stage, crowd, own, found))
        stage.engines.reset()
        after_the_kill(stage, page, answer, own, found)
        fail_once(stage, found)
        if options.engines:
            run_engines(stage, ENGINES, found)
        check_exposition(stage, ENGINES if options.engines else (), found)
        check_panels(stage, found, scored=options.engines)


def main() -> int:
    """0 when everything is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=8, help="streams that are timed each way")
    parser.add_argument("--engines", action="store_true", help="read vLLM's own metrics too: two engines of 1.5 GB")
    options = parser.parse_args()
    executable = find_browser()
    if executable is None:
        raise SystemExit("There is no Chromium; see scripts/get_browser.py.")
    expect.set_options(timeout=PATIENCE_MS)
    found = Found()
    engines = ENGINES if options.engines else ()
    with stage(engines) as ready, sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=executable, args=sandbox)
        run(ready, browser, options, found)
        browser.close()
    print("\n".join(f"NOT SO: {what}" for what in found.wrong) or "everything is as it should be")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
