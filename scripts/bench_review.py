"""How long the review queue takes with 100,000 items: ``python scripts/bench_review.py [items]``.

On SQLite, and on PostgreSQL where its server is installed, as they are in earnest: what is confirmed is on the disk.

The items' texts are made up; nothing but the time of the queue's own steps and of its filters is measured.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from components.core.reviews import Choice  # noqa: E402
from components.storage.database import Database, sqlite_url  # noqa: E402
from components.storage.review_given import Judgement, Wish  # noqa: E402
from components.storage.review_queue import ReviewQueue  # noqa: E402
from components.storage.review_rows import ItemFilter  # noqa: E402
from components.storage.reviews import ReviewRepository  # noqa: E402
from tests.data.reviews import batch, item  # noqa: E402
from tests.postgres_server import PostgresServer, binaries  # noqa: E402

ROUNDS = 30


def timed(name: str, work: Callable[[], object], rounds: int = ROUNDS) -> None:
    """Print the median and the slowest of some rounds, in ms."""
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        took.append((time.perf_counter() - begun) * 1000)
    print(f"{name}: median {statistics.median(took):.1f} ms, slowest {max(took):.1f} ms of {rounds}", flush=True)


def main() -> int:
    """Measure on every database there is."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory(prefix="dt-bench-", dir=Path.home()) as folder:
        print("SQLite")
        measure(sqlite_url(Path(folder) / "diptych.db"), count)
    programs = binaries()
    if programs is None:
        print("No PostgreSQL server on this machine: it was not measured.")
        return 0
    server = PostgresServer(programs, durable=True).start()
    try:
        print("PostgreSQL", server.execute("SHOW server_version"))
        measure(server.url(server.new_database()), count)
    finally:
        server.stop()
    return 0


def measure(url: str, count: int) -> None:
    """Fill a database and measure."""
    rng = random.Random(1)
    database = Database(url)
    database.open()
    reviews = ReviewRepository(database, random.Random(2))
    begun = time.perf_counter()
    reviews.add_answered(batch(), [item(number, divergence=rng.expovariate(1.0)) for number in range(count)])
    print(f"{count} items stored in {time.perf_counter() - begun:.0f} s")
    queue = ReviewQueue(database)

    def judge(wish: Wish) -> Callable[[], object]:
        def step() -> None:
            given = queue.next("ann", wish)
            if given is not None:
                queue.submit("ann", given.item.id, Judgement(Choice.TIE))

        return step

    for order in ("divergence", "disagreement", "random"):
        timed(f"next and submit, by {order}", judge(Wish("b1", order)))
    for words in ("candidate 77", f"{count - 7}?"):
        timed(f"next and submit, items with the words {words!r}", judge(Wish("b1", filter=ItemFilter(text=words))))
    timed("next, words that no item holds", lambda: queue.next("ben", Wish("b1", filter=ItemFilter(text="nowhere"))))
    for name, wanted in {
        "outcome": ItemFilter(outcome="same"), "unreviewed": ItemFilter(outcome="unreviewed"),
        "words": ItemFilter(text="candidate 77"), "words that all hold": ItemFilter(text="QUESTION"),
        "tag": ItemFilter(tag="even"), "divergence": ItemFilter(min_nats=2.0, max_nats=3.0),
        "only different": ItemFilter(different_only=True),
    }.items():  # fmt: skip
        timed(f"a page of items, filter {name}", lambda wanted=wanted: reviews.items("b1", wanted), 10)  # type: ignore[misc]
    timed("progress", lambda: reviews.progress("b1"))
    database.close()


if __name__ == "__main__":
    sys.exit(main())
