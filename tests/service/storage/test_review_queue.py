"""The queue on real SQLite: no item twice, locks that run out, undo, history, repeats with flipped sides."""

from __future__ import annotations

import random
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from components.core.errors import InputError, RecordNotFoundError
from components.core.reviews import Choice, ReviewOutcome
from components.storage.database import Database
from components.storage.review_given import Judgement, Wish
from components.storage.review_queue import LOCK, ReviewQueue
from components.storage.review_rows import ItemFilter
from components.storage.reviews import ReviewRepository
from tests.data.reviews import batch, item, items

pytestmark = pytest.mark.service
WISH = Wish("b1")
TIE = Judgement(Choice.TIE)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(database: Database, clock: Clock) -> ReviewQueue:
    return ReviewQueue(database, clock, random.Random(1))


class NoSlice(random.Random):
    """Draws that put no item into the random slice and none into the overlap."""

    def random(self) -> float:
        return 0.5


def fill(database: Database, count: int, rng: random.Random | None = None, **changes: object) -> ReviewRepository:
    repository = ReviewRepository(database, rng or NoSlice())
    repository.add_answered(batch(**changes), items(count))
    return repository


def judge_all(queue: ReviewQueue, reviewer: str, wish: Wish = WISH) -> list[str]:
    seen = []
    while (given := queue.next(reviewer, wish)) is not None:
        seen.append(given.item.id)
        queue.submit(reviewer, given.item.id, TIE)
        assert len(seen) < 1000
    return seen


def test_the_most_divergent_comes_first_and_each_once(database: Database, queue: ReviewQueue) -> None:
    fill(database, 8)
    assert judge_all(queue, "ann") == [f"b1-i{number}" for number in reversed(range(8))]


def test_the_same_item_until_it_is_judged(database: Database, queue: ReviewQueue) -> None:
    fill(database, 3)
    first, again = queue.next("ann", WISH), queue.next("ann", WISH)
    assert first is not None
    assert again is not None
    assert (first.item.id, first.assignment.a_is) == (again.item.id, again.assignment.a_is)


def test_four_reviewers_at_once_never_share_an_item(database: Database) -> None:
    fill(database, 120, random.Random(3))
    queue = ReviewQueue(database)
    judged: dict[str, list[str]] = {}
    threads = [
        threading.Thread(target=lambda name=name: judged.update({name: judge_all(queue, name)}))
        for name in ("ann", "ben", "cem", "dia")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = Counter(item_id for ids in judged.values() for item_id in set(ids))
    assert len(counts) == 120
    assert set(counts.values()) == {1}


def test_a_lock_that_ran_out_frees_the_item_and_keeps_the_draft(
    database: Database, queue: ReviewQueue, clock: Clock
) -> None:
    fill(database, 1)
    given = queue.next("ann", WISH)
    assert given is not None
    queue.save_draft("ann", given.item.id, '{"note": "half"}')
    assert queue.next("ben", WISH) is None
    clock.now += LOCK + timedelta(seconds=1)
    taken = queue.next("ben", WISH)
    assert taken is not None
    assert taken.item.id == given.item.id
    assert taken.assignment.draft == "", "what another reviewer noted is not shown"
    with pytest.raises(InputError, match="another reviewer has it") as caught:
        queue.submit("ann", given.item.id, TIE)
    assert caught.value.field == "item_id"
    queue.submit("ben", given.item.id, TIE)
    assert queue.open("ann", given.item.id).assignment.draft == '{"note": "half"}'


def test_a_reviewer_who_comes_back_in_time_still_has_the_item(
    database: Database, queue: ReviewQueue, clock: Clock
) -> None:
    fill(database, 1)
    queue.next("ann", WISH)
    clock.now += LOCK + timedelta(hours=9)  # over night, and nobody else took it
    given = queue.next("ann", WISH)
    assert given is not None
    queue.submit("ann", given.item.id, TIE)


def test_skipped_items_come_again_last(database: Database, queue: ReviewQueue) -> None:
    fill(database, 3)
    first = queue.next("ann", WISH)
    assert first is not None
    queue.skip("ann", first.item.id)
    assert judge_all(queue, "ann")[-1] == first.item.id


def test_a_change_keeps_the_earlier_verdict_and_undo_brings_it_back(database: Database, queue: ReviewQueue) -> None:
    repository = fill(database, 2)
    given = queue.next("ann", WISH)
    assert given is not None
    queue.submit("ann", given.item.id, Judgement(Choice.A, note="first"))
    queue.submit("ann", given.item.id, Judgement(Choice.BOTH_BAD, note="second"))
    assert [v.state for v in repository.verdicts_of(given.item.id, "ann")] == ["replaced", "current"]
    assert repository.item(given.item.id).outcome == ReviewOutcome.BOTH_WRONG
    undone = queue.undo("ann", "b1")
    assert undone is not None
    assert undone.verdict is not None
    assert undone.verdict.note == "first"
    undone = queue.undo("ann", "b1")
    assert undone is not None
    assert undone.verdict is None
    assert undone.assignment.a_is == given.assignment.a_is, "the sides stay as they were"
    assert repository.item(given.item.id).outcome is None
    assert [v.state for v in repository.verdicts_of(given.item.id, "ann")] == ["withdrawn", "withdrawn"]
    again = queue.next("ann", WISH)
    assert again is not None
    assert again.item.id == given.item.id
    assert queue.undo("ben", "b1") is None


def test_a_verdict_about_an_item_that_was_not_given_is_refused(database: Database, queue: ReviewQueue) -> None:
    fill(database, 1)
    with pytest.raises(RecordNotFoundError, match="not given to this reviewer"):
        queue.submit("ann", "b1-i0", TIE)
    for strange in ("nothing", "nul\x00", "half \ud800"):
        with pytest.raises(RecordNotFoundError, match="There is no item"):
            queue.submit("ann", strange, TIE)
        with pytest.raises(RecordNotFoundError, match="There is no batch"):
            queue.next("ann", Wish(strange))


def test_five_percent_come_again_with_sides_flipped(database: Database, queue: ReviewQueue) -> None:
    repository = fill(database, 60, random.Random(2))
    seen = judge_all(queue, "ann")
    verdicts = repository.verdicts("b1", reviewer="ann")
    twice = [v for v in verdicts if v.round == 2]
    assert len(twice) == 60 // 20
    assert len(seen) == 63
    first = {v.item_id: v for v in verdicts if v.round == 1}
    assert all(v.a_is != first[v.item_id].a_is for v in twice)
    assert repository.item(twice[0].item_id).verdicts == 1, "a repeat is no second opinion"


def test_the_random_slice_is_mixed_in_and_has_its_own_order(database: Database, queue: ReviewQueue) -> None:
    repository = ReviewRepository(database, random.Random(5))
    repository.add_answered(batch(), items(200))
    inside = [found for found in repository.every_item("b1") if found.in_slice]
    assert 4 <= len(inside) <= 18
    names = {found.id for found in inside}
    seen = judge_all(queue, "ann")
    assert sum(item_id in names for item_id in seen[:25]) >= min(4, len(inside))
    divergences = [int(item_id.removeprefix("b1-i")) for item_id in seen if item_id in names]
    assert divergences != sorted(divergences, reverse=True)


def test_overlap_gives_some_items_to_two_reviewers(database: Database, queue: ReviewQueue) -> None:
    class Overlapping(random.Random):
        def random(self) -> float:
            return 0.4

    repository = fill(database, 4, Overlapping(), overlap=0.5)
    assert len(judge_all(queue, "ann")) == 4
    assert len(judge_all(queue, "ben")) == 4
    assert judge_all(queue, "cem") == []
    assert {found.verdicts for found in repository.every_item("b1")} == {2}


def test_a_conflict_is_settled_by_a_third(database: Database, queue: ReviewQueue) -> None:
    class Overlapping(random.Random):
        def random(self) -> float:
            return 0.4

    repository = fill(database, 1, Overlapping(), overlap=0.5)
    for reviewer, choice in (("ann", Choice.TIE), ("ben", Choice.BOTH_BAD)):
        given = queue.next(reviewer, WISH)
        assert given is not None
        queue.submit(reviewer, given.item.id, Judgement(choice))
    assert repository.item("b1-i0").outcome == "conflict"
    assert repository.progress("b1").conflicts == 1
    conflicts = Wish("b1", "conflicts")
    assert queue.next("ann", conflicts) is None, "nobody settles their own conflict"
    assert (queue.own_conflicts("ann", "b1"), queue.own_conflicts("dia", "b1")) == (1, 0)
    given = queue.next("dia", conflicts)
    assert given is not None
    queue.submit("dia", given.item.id, Judgement(Choice.BOTH_BAD))
    settled = repository.item("b1-i0")
    assert (settled.outcome, settled.verdicts) == ("both_wrong", 2)
    assert repository.progress("b1").conflicts == 0


def test_filters(database: Database, queue: ReviewQueue) -> None:
    repository = ReviewRepository(database, NoSlice())
    same = item(9, base="alike", candidate="alike", divergence=0.25)
    repository.add_answered(batch(), [*items(4), same])
    given = queue.next("ann", WISH)
    assert given is not None
    queue.submit("ann", given.item.id, TIE)

    def ids(**wanted: object) -> list[str]:
        found, total = repository.items("b1", ItemFilter(**wanted))  # type: ignore[arg-type]
        assert total == len(found)
        return [each.id.removeprefix("b1-i") for each in found]

    assert ids() == ["3", "2", "1", "9", "0"]
    assert ids(different_only=True) == ["3", "2", "1", "0"]
    assert ids(text="CANDIDATE 2") == ["2"]
    assert ids(text="100%_") == []
    assert ids(tag="even") == ["2", "0"]
    assert ids(tag='ev" OR 1=1') == []
    assert ids(min_nats=0.2, max_nats=1.0) == ["1", "9"]
    assert ids(outcome="unreviewed") == ["2", "1", "9", "0"]
    assert ids(outcome="same") == ["3"]
    repository.set_failed("b1", 0, "refused", ("embedded/coarse",))
    assert ids(outcome="failed") == [], "what has its answers does not fail"
    repository.add_batch(batch("b2"), [item(0).question])
    repository.set_failed("b2", 0, "refused", ("embedded/coarse",))
    (failed,), _ = repository.items("b2", ItemFilter(outcome="failed"))
    assert failed.failure == "refused"
    with pytest.raises(InputError, match="no outcome"):
        ids(outcome="lost")


def test_verdicts_survive_a_restart(database: Database, queue: ReviewQueue, database_url: str) -> None:
    fill(database, 5)
    for _ in range(2):
        given = queue.next("ann", WISH)
        assert given is not None
        queue.submit("ann", given.item.id, TIE)
    held = queue.next("ann", WISH)
    database.close()
    again = Database(database_url)
    again.open()
    try:
        assert len(ReviewRepository(again).verdicts("b1")) == 2
        back = ReviewQueue(again).next("ann", WISH)
        assert held is not None
        assert back is not None
        assert (back.item.id, back.assignment.a_is) == (held.item.id, held.assignment.a_is)
    finally:
        again.close()
