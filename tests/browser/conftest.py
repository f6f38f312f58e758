"""One real app with the embedded pair, one Chromium, and scripted remote engines for what real ones can't do on demand.

The scripted pair is a pair of remote endpoints like any other: a column may choose it, so that a test can have a slow
answer, a hostile one or a failure at a known moment. ``DIPTYCH_BROWSER_PAIR=scripted`` opens the page on it and starts
no vLLM at all: quick, for work on the page itself; tests of the embedded pair's answers are then skipped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from components.core.reviews import Choice, ItemState
from components.storage.blobs import BlobStore
from components.storage.database import Database, sqlite_url
from components.storage.images import ImageStore
from components.storage.review_given import Judgement, Wish
from components.storage.review_queue import ReviewQueue
from components.storage.reviews import ReviewRepository
from components.storage.traces import TraceRepository
from scripts.get_browser import find_browser
from tests.browser.compare_page import ComparePage
from tests.browser.scripted import ScriptedEngines, hostile_traces
from tests.data.reviews import batch, items
from tests.data.reviews import item as review_item
from tests.running_app import EMBEDDED, ROOT, RunningApp, copy_of_app, new_state_dir

SAMPLE = ROOT / "assets" / "samples" / "four-shapes.png"
REVIEW_ITEMS = 40
PATIENCE_MS = 30_000  # the page shares two cores with two engines

PAIR = os.environ.get("DIPTYCH_BROWSER_PAIR", "embedded")
FIRST_ENGINES = {"embedded": ("embedded/base", "embedded/w4a16"), "scripted": ("scripted/base", "scripted/slow")}[PAIR]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests are marked, and come last: Playwright's event loop would hinder asyncio tests after them."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.browser)
    items.sort(key=lambda item: item.path.is_relative_to(here))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = find_browser()
    if executable is None:
        pytest.skip("there is no Chromium: run scripts/get_browser.py")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def scripted() -> Iterator[ScriptedEngines]:
    with ScriptedEngines() as engines:
        yield engines


@pytest.fixture(autouse=True)
def scripted_engines_are_quick_again(scripted: ScriptedEngines) -> Iterator[None]:
    yield
    scripted.reset()


@pytest.fixture(scope="session")
def app(browser: Browser, scripted: ScriptedEngines) -> Iterator[RunningApp]:
    """The app, ready; its history holds a conversation whose every text is hostile."""
    if PAIR == "embedded" and not EMBEDDED.exists():
        pytest.skip("the embedded pair is not built (assets/embedded); see scripts/embedded")
    copy, state = new_state_dir(), new_state_dir()
    store_hostile_traces(state)
    store_review_batch(state)
    root = copy_of_app(copy, {"scripted": scripted.profile()})
    app = RunningApp(state, "--pair", PAIR, root=root).start()
    try:
        print(f"page after {app.wait_for_page():.1f} s, engines after {app.wait_ready(*FIRST_ENGINES):.1f} s more")
        yield app
    finally:
        app.close()
        shutil.rmtree(copy, ignore_errors=True)


def store_hostile_traces(state: Path) -> None:
    database = Database(sqlite_url(state / "diptych.db"))
    database.open()
    traces = TraceRepository(database, BlobStore(state / "blobs"))
    for trace in hostile_traces():
        traces.create_turn(trace)
    database.close()


def store_review_batch(state: Path) -> None:
    """Items to judge without any engine; their texts say which side wrote them."""
    database = Database(sqlite_url(state / "diptych.db"))
    database.open()
    images = ImageStore(BlobStore(state / "blobs"), database=database)
    picture = images.ingest(SAMPLE, "four-shapes.png")
    shown = [
        found.model_copy(update={"question": found.question.model_copy(update={"images": (picture,)})})
        for found in items(REVIEW_ITEMS)
    ]
    repository, queue = ReviewRepository(database), ReviewQueue(database)
    repository.add_answered(batch(), shown)
    store_conflict(repository, queue)
    database.close()


def store_conflict(repository: ReviewRepository, queue: ReviewQueue) -> None:
    """A batch with an item that two reviewers judged differently, and one that failed."""
    refused = review_item(1, "b2", state=ItemState.FAILED, failure="refused: 5000 tokens")
    both = [review_item(0, "b2"), refused.model_copy(update={"answered": None})]
    repository.add_answered(batch("b2", name="Judged by two", overlap=1.0), both)
    for name, choice in (("one", Choice.TIE), ("two", Choice.BOTH_BAD)):
        given = queue.next(name, Wish("b2"))
        assert given is not None
        queue.submit(name, given.item.id, Judgement(choice))


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    # Without animations, which cost a software renderer the time that the engines need.
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failed test says what the page showed: on another machine nobody can look."""
    report = yield
    compare = getattr(item, "funcargs", {}).get("compare")
    if report.when == "call" and report.failed and isinstance(compare, ComparePage):
        report.sections.append(("What the page showed", compare.describe()))
    return report


@pytest.fixture
def compare(page: Page, app: RunningApp) -> Iterator[ComparePage]:
    """An open, empty page. Whatever the test did, the page met no error and asked no other machine for anything."""
    compare = ComparePage(page, app.url)
    compare.open()
    yield compare
    assert compare.errors == []
    assert compare.foreign_requests() == []
