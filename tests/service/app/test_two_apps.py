"""Two apps on one PostgreSQL and one shared folder: one queue of review, one of jobs, and a leader that is killed."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

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
    first.kill()
    assert second.call("job", orphan)["state"] == "RUNNING", "jobs outlive the app that started them"
    second.call("cancel", orphan)
    wait_until("the second leads now", lambda: second.call("job", orphan)["state"] == "STOPPED", 20.0)
    queue = second.call("review_export", {"batch": "first-look"})
    assert {row["item_id"] for row in queue} == set(judged), "no verdict is lost"
