"""Two apps on one PostgreSQL and one shared folder: one queue of review, one of jobs, and a leader that is killed."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from components.storage.blobs import BlobStore
from components.storage.database import Database
from components.storage.traces import TraceRepository
from tests.data.traces import turn
from tests.postgres_server import PostgresServer, binaries
from tests.running_app import EMBEDDED, RefusedError, RunningApp, new_state_dir, wait_until
from tests.service.app.conftest import NO_ENGINES

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    programs = binaries()
    if programs is None:
        pytest.skip("no PostgreSQL server on this machine (initdb and postgres)")
    started = PostgresServer(programs).start()
    yield started
    started.stop()


@pytest.fixture
def two(server: PostgresServer) -> Iterator[tuple[RunningApp, RunningApp]]:
    shared = new_state_dir()
    environment = {
        **NO_ENGINES, "DIPTYCH_DATABASE_URL": server.url(server.new_database()), "DIPTYCH_SHARED_DIR": str(shared),
    }  # fmt: skip
    apps = [RunningApp(new_state_dir(), environment=environment) for _ in range(2)]
    with ExitStack() as ending:  # each is ended, whatever another one's end says
        ending.callback(shutil.rmtree, shared, ignore_errors=True)
        for app in apps:  # the first one leads
            app.start()
            ending.callback(app.close)
            app.wait_for_page()
        yield apps[0], apps[1]


def leave_open(database_url: str, shared: Path) -> None:
    """In each app's name an answer that is being written; they wrote it, as far as the records can tell."""
    for number, place in enumerate(sorted((shared / "apps").glob("*.lock"))):
        database = Database(database_url, app_id=place.stem)
        database.open()
        TraceRepository(database, BlobStore(shared / "blobs")).create_turn(turn(f"open-{number}"))
        database.close()


def outcomes(app: RunningApp) -> dict[int, str]:
    found = {}
    for number in range(2):
        stored = httpx.get(f"{app.url}traces/open-{number}.json", trust_env=False).json()["traces"][0]
        (found[number],) = {column["answer"]["outcome"] for column in stored["columns"]}
    return found


def bundled_is_there(app: RunningApp) -> bool:
    try:
        return app.call("review_export", {"batch": "first-look"}) == []
    except RefusedError:
        return False


@pytest.mark.skipif(not EMBEDDED.exists(), reason="the embedded pair is not built; see scripts/embedded")
def test_reviews_and_jobs_are_shared_and_the_second_takes_over(two: tuple[RunningApp, RunningApp]) -> None:
    first, second = two
    wait_until("the first has stored the bundled batch", lambda: bundled_is_there(second), 30.0)
    judged: list[str] = []

    def work(app: RunningApp, name: str) -> None:
        for _ in range(6):
            item_id = app.call("review_next", name)["item_id"]
            app.call("review_submit", name, {"item_id": item_id, "verdict": "tie"})
            judged.append(item_id)

    threads = [threading.Thread(target=work, args=(two[n % 2], f"r{n}")) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(Counter(judged).values()) == {1}
    assert len(judged) == 24
    for app in two:
        assert {row["item_id"] for row in app.call("review_export", {})} == set(judged)

    started = second.call("quantize", {"recipe": "w4a16-rtn"})["job_id"]
    wait_until("the first runs it", lambda: first.call("job", started)["state"] == "RUNNING", 20.0)
    wait_until("the second watches it", lambda: second.call("job", started)["message"] not in ("", "Starting."), 15.0)
    assert second.call("cancel", started)["state"] in ("STOPPING", "STOPPED")
    wait_until("it has stopped", lambda: second.call("job", started)["state"] == "STOPPED", 15.0)

    orphan = first.call("quantize", {"recipe": "w4a16-rtn"})["job_id"]
    wait_until("it runs", lambda: first.call("job", orphan)["state"] == "RUNNING", 20.0)
    database_url, shared = second.environment["DIPTYCH_DATABASE_URL"], Path(second.environment["DIPTYCH_SHARED_DIR"])
    leave_open(database_url, shared)
    assert outcomes(second) == dict.fromkeys(range(2), "streaming")
    first.kill()
    assert second.call("job", orphan)["state"] == "RUNNING", "jobs outlive the app that started them"
    wait_until("what it was writing has ended", lambda: sorted(outcomes(second).values()) != ["streaming"] * 2, 20.0)
    assert sorted(outcomes(second).values()) == ["streaming", "truncated"], "the other one writes on"
    second.call("cancel", orphan)
    wait_until("the second leads now", lambda: second.call("job", orphan)["state"] == "STOPPED", 20.0)
    queue = second.call("review_export", {"batch": "first-look"})
    assert {row["item_id"] for row in queue} == set(judged), "no verdict is lost"
