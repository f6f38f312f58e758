"""Publishing what a job made, from the page: dry run, second click, and what the hub then holds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from components.storage.database import Database, sqlite_url
from components.storage.jobs import JobRepository
from tests.browser.test_look import NAMELESS, open_page, overflow
from tests.data.made import JOB_ID, WEIGHTS, store_made_candidate
from tests.fakes.hub import TOKEN, Hub
from tests.running_app import RunningApp, new_state_dir

NAME = "ann/small-w4a16"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


@pytest.fixture(scope="module")
def publisher(browser: Browser, hub: Hub) -> Iterator[RunningApp]:
    """An app without engines whose history holds a finished job."""
    state = new_state_dir()
    database = Database(sqlite_url(state / "diptych.db"))
    database.open()
    store_made_candidate(state, JobRepository(database))
    database.close()
    environment = {"DIPTYCH_START_ENGINES": "false", "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
    app = RunningApp(state, environment=environment).start()
    try:
        app.wait_for_page()
        yield app
    finally:
        app.close()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (400, "dark")])
def test_a_dry_run_then_an_upload(browser: Browser, publisher: RunningApp, hub: Hub, width: int, scheme: str) -> None:
    name = f"{NAME}-{width}"
    compare = open_page(browser, publisher, width, scheme)
    page = compare.page
    page.get_by_role("tab", name="Quantize").click()
    made = page.locator(f".dt-job[data-job={JOB_ID}]")
    made.get_by_role("button", name="Publish").click()
    dialog = page.get_by_role("dialog", name="Publish at the Hugging Face hub")
    look, repository = (
        dialog.get_by_role("button", name="Show what would be uploaded"),
        dialog.get_by_label("Repository"),
    )
    expect(dialog.get_by_label("Private")).to_be_checked()
    repository.fill("no owner")
    look.click()
    expect(dialog.get_by_role("alert")).to_contain_text("repo_id: 'no owner' is no name at a hub.")
    repository.fill(name)
    expect(dialog.get_by_role("alert")).to_have_count(0)
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text(f"You are ann at {hub.url}.")
    expect(dialog).to_contain_text(f"{name} is free.")
    for file in (*WEIGHTS, "README.md", "diptych/quantize.py"):
        expect(dialog.get_by_role("region", name="Files")).to_contain_text(file)
    dialog.get_by_text("The card").last.click()
    expect(dialog.locator(".dt-card-text")).to_contain_text("A W4A16 quantization of")
    assert overflow(page) == []
    assert page.evaluate(NAMELESS) == []
    assert name not in hub.repositories
    dialog.get_by_role("button", name=f"to {name}, private").click()
    expect(dialog).to_contain_text("The upload is a job now")
    dialog.get_by_role("button", name="Close").click()
    done = page.locator(".dt-job", has_text=f"as {name}")
    expect(done).to_have_attribute("data-state", "SUCCEEDED", timeout=60_000)
    expect(done).to_contain_text(f"{hub.url}/{name}")
    expect(done.get_by_role("button", name="Publish")).to_have_count(0)
    assert hub.repositories[name].private
    assert set(WEIGHTS) < set(hub.repositories[name].files)
    assert TOKEN not in page.content()
    page.context.close()
