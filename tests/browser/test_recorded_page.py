"""Recorded mode in the browser: every view of a turn works, and nothing offers what is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.running_app import RunningApp, new_state_dir


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    app = RunningApp(new_state_dir(), "--recorded").start()
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    try:
        app.wait_for_page()
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(app.url)
        yield page
        assert errors == []
    finally:
        context.close()
        app.close()


def test_a_recorded_turn_is_shown_with_all_its_views(page: Page) -> None:
    card = page.locator("#dt-divergence")
    expect(page.locator(".dt-answer").first).not_to_be_empty()
    expect(card).to_contain_text("exact, full vocabulary")
    expect(page.locator("#dt-viewer")).to_contain_text("same bytes to every column")
    token = card.locator(".dt-mirror")
    expect(token).to_be_visible()
    card.get_by_role("button", name="Histogram").click()
    expect(page.get_by_role("dialog")).to_contain_text("Tokens by divergence")
    page.keyboard.press("Escape")
    card.get_by_role("button", name="Show bits").click()
    expect(card).to_contain_text(re.compile(r"mean KL .* bits"))
    page.locator(".dt-col-0").get_by_role("button", name="Label").click()
    expect(page.get_by_role("dialog")).to_contain_text("Label of this column")
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.get_by_role("link", name="JSON").click()
    assert download.value.suggested_filename.endswith(".json")


def test_forks_and_other_turns_are_a_key_and_a_click_away(page: Page) -> None:
    items = page.locator("#dt-recent button")
    count = items.count()
    assert count >= 5
    before = page.locator(".dt-question").first.inner_text()
    items.nth(count - 1).click()
    expect(page.locator(".dt-question").first).not_to_have_text(before)
    expect(page.locator("#dt-divergence")).to_contain_text("exact, full vocabulary")
    page.locator("#dt-divergence").click(position={"x": 5, "y": 5})
    page.keyboard.press("n")
    expect(page.locator("#dt-divergence .dt-mirror")).to_be_visible()


def test_nothing_promises_what_is_not_there(page: Page) -> None:
    expect(page.locator("#dt-composer")).to_contain_text("This page replays recorded turns")
    for name in (
        "Ask",
        "Ask both",
        "Retry",
        "Edit",
        "Stop",
        "Start",
        "+ column",
        "Score again",
        "Re-quantize with these",
    ):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
    expect(page.locator("textarea:visible")).to_have_count(0)
    for words in ("Force", "Is it the eyes or the words?", "Settings", "Own parameters"):
        expect(page.get_by_text(words).locator("visible=true")).to_have_count(0)


def test_the_other_tabs_show_what_there_is(page: Page) -> None:
    page.get_by_role("tab", name="Quantize").click()
    expect(page.locator("#dt-quantize-recorded")).to_contain_text("nothing can be asked, started or changed")
    page.get_by_role("tab", name="Benchmarks").click()
    expect(page.locator("#dt-results")).to_contain_text("Published figures")
    expect(page.locator("#dt-benchmarks-form")).to_contain_text("Nothing is measured here")
    expect(page.get_by_role("button", name="Start", exact=True)).to_have_count(0)
    page.get_by_role("tab", name="Models").click()
    expect(page.locator(".dt-engine-row").first).to_be_visible()
    expect(page.locator(".dt-engine-row").get_by_role("button")).to_have_count(0)
    page.get_by_role("tab", name="Review").click()
    expect(page.get_by_role("button", name="New batch")).to_have_count(0)
    page.get_by_label("Your name").fill("ann")
    page.get_by_role("button", name="Begin").click()
    desk = page.locator("#dt-review")
    expect(desk).to_contain_text("0 by you")
    desk.get_by_role("button", name=re.compile("^Tie")).click()
    desk.get_by_role("button", name="Save and next").click()
    expect(desk).to_contain_text("1 by you")
