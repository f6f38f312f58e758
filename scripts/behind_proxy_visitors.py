"""The visitors of scripts/behind_proxy.py: each with cookies and an address of its own, as browsers somewhere have."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from gradio_client import Client

from components.core.answers import Sampling
from scripts.behind_proxy_parts import OWNER, Found, Stage, metric
from scripts.bench_client import LIMITS, page_turn
from scripts.soak import events_of
from scripts.soak_client import fire

T = TypeVar("T")
TURNS = 3
PROBE_S = 0.5
BEFORE_S, AFTER_S = 3.0, 20.0
GIVEN_UP_S = 10.0


@dataclass
class Visitor:
    """Somebody with an open page."""

    number: int
    url: str
    http: httpx.AsyncClient = field(init=False)
    session: str = field(default_factory=lambda: secrets.token_hex(6))

    def __post_init__(self) -> None:
        transport = httpx.AsyncHTTPTransport(local_address=f"127.0.1.{self.number + 1}", limits=LIMITS)
        self.http = httpx.AsyncClient(
            base_url=self.url, transport=transport, headers={"User-Agent": self.name}, timeout=60.0
        )

    @property
    def name(self) -> str:
        """As the proxy's log has it."""
        return f"visitor-{self.number}"


@dataclass(frozen=True)
class Crowd:
    """All visitors, with the app that each belongs to and the turns that were asked."""

    visitors: list[Visitor]
    events: dict[str, Any]
    turns: list[str]

    def by_app(self, stage: Stage) -> dict[str, list[Visitor]]:
        """Visitors by the app that their requests reached last."""
        found: dict[str, list[Visitor]] = {}
        last = {one.who: one.upstream for one in stage.proxy.passed() if one.status}
        for visitor in self.visitors:
            found.setdefault(last[visitor.name], []).append(visitor)
        return found


@contextlib.contextmanager
def in_background() -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    """What runs a coroutine to its end on a loop in another thread: Playwright keeps this one's for itself."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


# ---- staying with one app -------------------------------------------------------------------------------------------


async def come_and_ask(stage: Stage, count: int, found: Found) -> Crowd:
    """Visitors load the page and use it; whether all that each one sent reached one app."""
    found.say(f"{count} visitors, each: the page, two events of it, {TURNS} questions in two columns")
    visitors = [Visitor(number, stage.proxy.url) for number in range(count)]
    config = (await visitors[0].http.get("config")).json()
    events = events_of(config, Sampling(max_tokens=128))
    before = [metric(app, "diptych_turns_total") for app in stage.apps]
    told = await asyncio.gather(*(_use(visitor, events) for visitor in visitors))
    errors = [error for one in told for error in one[1]]
    crowd = Crowd(visitors, events, [key for one in told for key in one[0]])
    found.check(not errors, f"{len(errors)} errors: {errors[:3]}")
    _check_where(stage, crowd, before, found)
    return crowd


async def _use(visitor: Visitor, events: dict[str, Any]) -> tuple[list[str], list[str]]:
    keys, errors = [], []
    page = await visitor.http.get("")
    errors += [] if page.status_code == httpx.codes.OK else [f"the page: {page.status_code}"]
    for number in range(TURNS):
        if number < 2:
            errors += [error for error in [await fire(visitor.http, visitor.session, events["tick"], None)] if error]
        key = secrets.token_hex(16)
        columns = await page_turn(visitor.http, events, visitor.session, "What colour is it?", None, key)
        errors += [str(column["error"]) for column in columns if column["error"] or not column["tokens"]]
        keys.append(key)
    return keys, errors


def _check_where(stage: Stage, crowd: Crowd, before: list[float], found: Found) -> None:
    passed = stage.proxy.passed()
    names = {visitor.name for visitor in crowd.visitors}
    reached = {name: {one.upstream for one in passed if one.who == name} for name in names}
    astray = [name for name, apps in reached.items() if len(apps) != 1]
    groups = crowd.by_app(stage)
    requests = sum(one.who in names for one in passed)
    shares = " and ".join(str(len(group)) for group in groups.values())
    found.say(f"  {requests} requests, {shares} visitors on the apps, {len(astray)} visitors reached both")
    found.check(not astray, f"more than one app: {astray}")
    found.check(len(groups) == len(stage.apps), "all visitors are on one app")
    for app, had in zip(stage.apps, before, strict=True):
        asked = TURNS * sum(len(group) for upstream, group in groups.items() if stage.app_at(upstream) is app)
        counted = metric(app, "diptych_turns_total") - had
        found.say(f"  {app.url}: {asked} turns by the proxy's log, {counted:.0f} by the app's own metrics")
        found.check(counted == asked, "the app counts other turns")


def call_by_client(stage: Stage, count: int, found: Found) -> list[str]:
    """The Python client of Gradio, which keeps no cookies, as the README shows it; the turns that were asked."""
    turns, errors = [], []
    for number in range(count):
        name = f"client-{number}"
        try:
            client = Client(
                stage.proxy.url,
                verbose=False,
                headers={"user-agent": name},
                httpx_kwargs={"auth": OWNER, "timeout": 20},
            )
            ready = [model["id"] for model in client.predict(api_name="/models") if model["ready"]]
            turns.append(client.predict("What colour is it?", api_name="/compare")["id"])
            errors += [] if ready else [f"{name}: no engine is ready"]
        except Exception as exc:  # noqa: BLE001  whatever it is, a user would see it
            errors.append(f"{name}: {type(exc).__name__}: {exc}"[:200])
    found.say(f"{count} programs with Gradio's client: {len(errors)} failed")
    found.check(not errors, f"{errors[:3]}")
    astray = [n for n in range(count) if len(stage.proxy.upstreams(f"client-{n}")) != 1]
    found.check(not astray, f"{len(astray)} programs of {count} reached both apps")
    return turns


async def whole(http: httpx.AsyncClient, turns: list[str]) -> list[str]:
    """Those of the turns that can't be read, or whose answers did not finish."""
    missing = []
    for key in turns:
        answer = await http.get(f"traces/{key}.json")
        columns = answer.json()["traces"][-1]["columns"] if answer.status_code == httpx.codes.OK else []
        if [column["answer"]["outcome"] for column in columns] != ["finished"] * 2:
            missing.append(key)
    return missing


# ---- streaming ------------------------------------------------------------------------------------------------------


async def compare_streams(stage: Stage, crowd: Crowd, rounds: int, found: Found) -> None:
    """The same question straight at an app and through the proxy: when the first text comes, in how many pieces."""
    app = stage.apps[0]
    at_first = Visitor(100, app.url)
    visitor = crowd.by_app(stage)[app.url.removeprefix("http://").rstrip("/")][0]
    figures: dict[str, list[tuple[float, int, float]]] = {"directly": [], "through the proxy": []}
    for _ in range(rounds):
        for name, one in (("directly", at_first), ("through the proxy", visitor)):
            figures[name].append(await _stream(one, crowd.events))
    found.say(f"An answer of 60 tokens, one every 50 ms, {rounds} times each:")
    medians = {}
    for name, rows in figures.items():
        first, pieces, last = (statistics.median(row[place] for row in rows) for place in range(3))
        medians[name] = (first, pieces, last)
        found.say(
            f"  {name:18} first text {first:6.0f} ms   {pieces:3.0f} arrivals   whole after {last:6.0f} ms (medians)"
        )
    direct, proxied = medians.values()
    found.check(proxied[0] - direct[0] < 50, "the proxy delays the first text")
    found.check(proxied[1] > 0.9 * direct[1] > 10, "the proxy holds pieces back")
    await at_first.http.aclose()


async def _stream(visitor: Visitor, events: dict[str, Any]) -> tuple[float, int, float]:
    """ms to the first text of the slow column, arrivals of bytes, ms to its end."""
    session, sent = secrets.token_hex(6), time.perf_counter()
    first, pieces, rest = 0.0, 0, b""
    data = {
        "key": secrets.token_hex(16),
        "prompt": "Tell me more",
        "images": [],
        "names": [],
        "parent": None,
        "history": {},
    }
    asked = {"data": events["inputs"], "event_data": data, "session_hash": session, "trigger_id": events["trigger"]}
    (
        await visitor.http.post("gradio_api/queue/join", json={**asked, "fn_index": events["functions"][1]})
    ).raise_for_status()
    async with visitor.http.stream("GET", "gradio_api/queue/data", params={"session_hash": session}) as stream:
        async for piece in stream.aiter_raw():
            pieces, rest = pieces + 1, rest + piece
            if not first and b"w0 " in rest:
                first = 1000 * (time.perf_counter() - sent)
    return first, pieces, 1000 * (time.perf_counter() - sent)


# ---- an app that is killed ------------------------------------------------------------------------------------------


@dataclass
class Probe:
    """What one visitor noticed."""

    visitor: Visitor
    worked: list[float] = field(default_factory=list)
    failed: list[tuple[float, str]] = field(default_factory=list)


async def kill_one(stage: Stage, crowd: Crowd, name: str, found: Found) -> None:
    """Kill the app that the proxy calls so while all its visitors use it and one waits for an answer."""
    groups = crowd.by_app(stage)
    probes = [Probe(visitor) for visitor in crowd.visitors]
    killed = time.monotonic() + BEFORE_S
    watching = [asyncio.create_task(_watch(probe, crowd.events, killed + AFTER_S)) for probe in probes]
    waiting = groups[name][0]
    key = secrets.token_hex(16)
    open_turn = asyncio.create_task(
        page_turn(waiting.http, crowd.events, secrets.token_hex(6), "Tell me more", None, key)
    )
    await asyncio.sleep(killed - time.monotonic())
    await asyncio.to_thread(stage.app_at(name).kill)
    killed = time.monotonic()
    await asyncio.gather(*watching)
    with contextlib.suppress(httpx.HTTPError, AssertionError):
        await asyncio.wait_for(open_turn, GIVEN_UP_S)
    _tell_kill(probes, {visitor.name for visitor in groups[name]}, killed, found)
    await _check_records(crowd, key, found)


async def _watch(probe: Probe, events: dict[str, Any], until: float) -> None:
    while time.monotonic() < until:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(GIVEN_UP_S):
                (await probe.visitor.http.get("")).raise_for_status()
                error = await fire(probe.visitor.http, secrets.token_hex(6), events["tick"], None)
        except Exception as exc:  # noqa: BLE001  whatever it is, it is what is counted here
            error = f"{type(exc).__name__}: {str(exc).partition(chr(10))[0]}"[:120]
        if error:
            probe.failed.append((begun, error))
        else:
            probe.worked.append(time.monotonic())
        await asyncio.sleep(max(0.0, PROBE_S - (time.monotonic() - begun)))


def _tell_kill(probes: list[Probe], mine: set[str], killed: float, found: Found) -> None:
    hers, others = ([one for one in probes if (one.visitor.name in mine) is wanted] for wanted in (True, False))
    failed = [failure for one in hers for failure in one.failed]
    gaps = [min(at for at in one.worked if at > killed) - killed for one in hers if one.worked[-1] > killed]
    tries = sum(len(one.worked) + len(one.failed) for one in hers)
    found.say(
        f"kill -9 of an app with {len(hers)} visitors who load the page and fire an event every {PROBE_S:g} s: "
        f"{len(failed)} of {tries} tries failed"
    )
    for kind in sorted({error for _, error in failed}):
        found.say(f"    {sum(error == kind for _, error in failed)} × {kind}")
    if gaps:
        found.say(
            f"  the next try that worked ended {statistics.median(gaps):.1f} s after the kill (median), "
            f"{max(gaps):.1f} s for the last visitor"
        )
    late = [at - killed for at, _ in failed if at > killed]
    found.say(f"  the last try that failed began {max(late, default=0.0):.1f} s after the kill")
    other = sum(len(one.failed) for one in others)
    found.say(f"  the {len(others)} visitors of the other app: {other} of their tries failed")
    found.check(len(gaps) == len(hers), "not every visitor came to the other app")
    found.check(max(gaps, default=99.0) < 10 and max(late, default=0.0) < 10, "it took more than 10 s")
    found.check(other == 0, "visitors of the other app were disturbed")


async def _check_records(crowd: Crowd, key: str, found: Found) -> None:
    http = crowd.visitors[0].http
    missing = await whole(http, crowd.turns)
    found.say(
        f"  {len(crowd.turns)} turns were asked before; read through the proxy afterwards: {len(missing)} not whole"
    )
    found.check(not missing, f"lost: {missing[:3]}")
    told = await http.get(f"traces/{key}.json")
    columns = json.loads(told.text)["traces"][-1]["columns"] if told.status_code == httpx.codes.OK else []
    outcomes = [column["answer"]["outcome"] for column in columns]
    found.say(f"  the answers that were being written then: {', '.join(outcomes)}")
    found.check(bool(outcomes) and "streaming" not in outcomes, "an answer of the killed app never ended")
