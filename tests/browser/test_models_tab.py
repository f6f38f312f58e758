"""The Models tab: both engines with their state, a live log, and what a stop and a start do."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.compare_page import ComparePage
from tests.browser.conftest import FIRST_ENGINES, PAIR


def row(compare: ComparePage, engine_id: str) -> Locator:
    return compare.page.locator(f".dt-engine-row[data-engine='{engine_id}']")


@pytest.fixture
def models(compare: ComparePage) -> ComparePage:
    compare.page.get_by_role("tab", name="Models").click()
    return compare


def test_both_engines_are_shown_ready(models: ComparePage) -> None:
    for engine_id in FIRST_ENGINES:
        chips = row(models, engine_id).locator(".dt-chips")
        expect(chips).to_contain_text("RUNNING")
        expect(chips).to_contain_text("ready")
        expect(chips).to_contain_text("sight: sees")
    expect(row(models, "mistral-small-3.2-24b/base").locator(".dt-chips")).to_contain_text("STOPPED")


@pytest.mark.skipif(PAIR != "embedded", reason="a remote engine has no log here")
def test_the_log_is_the_engines_own(models: ComparePage) -> None:
    row(models, "embedded/base").get_by_role("button", name="Log").click()
    log = models.page.get_by_role("dialog").locator(".dt-log")
    expect(log).to_contain_text("vllm")
    expect(log).not_to_contain_text("Reading the log")
    assert len(log.inner_text().splitlines()) > 10
    models.page.keyboard.press("Escape")
    expect(models.page.get_by_role("dialog")).to_have_count(0)


def test_an_engine_stops_and_starts_and_the_column_says_so(models: ComparePage) -> None:
    slow = row(models, "scripted/slow")
    if not slow.locator(".dt-chips").get_by_text("RUNNING").is_visible():
        slow.get_by_role("button", name="Start", exact=True).click()
    expect(slow.locator(".dt-chips")).to_contain_text("ready")
    slow.get_by_role("button", name="Stop").click()
    expect(slow.locator(".dt-chips")).to_contain_text("STOPPED")
    models.page.get_by_role("tab", name="Compare").click()
    models.choose_engine(0, "Scripted base")
    models.choose_engine(1, "Scripted slow")  # choosing a stopped engine starts it
    models.ask("Count up.")
    assert models.answer(1).startswith("w0 grün")


def test_the_memory_plan_says_what_fits_where(models: ComparePage) -> None:
    page = models.page
    page.locator(".dt-memory > summary").click()
    result = page.locator("#dt-memory-result")
    page.locator(".dt-memory select").first.select_option("pixtral-large-2411/w8a8")
    expect(result.get_by_role("region", name="pixtral-large-2411/base")).to_be_visible()
    expect(result).to_contain_text("231.0 GiB of weights, by formula from published figures")
    cell = result.locator("tr", has=page.locator("th", has_text="80 GB")).locator("td").nth(3)
    expect(cell).to_contain_text("Together, apart")
    cell.get_by_role("button").click()
    expect(cell.get_by_role("button")).to_have_attribute("aria-pressed", "true")
    expect(result.locator(".dt-flags").first).to_contain_text("--tensor-parallel-size=4")
    expect(result.locator(".dt-seat").last).to_contain_text("on GPU 4, 5")
    expect(result.locator(".dt-command")).to_have_text("python app.py --pair pixtral-large-2411 --placement planned")
    expect(result.locator(".dt-seat").first.get_by_role("button", name="Copy as a command")).to_be_visible()
    page.get_by_label("Over several GPUs").select_option("2")
    expect(cell).to_contain_text("tensor parallel 2, pipeline 2")
    page.get_by_label("Over several GPUs").select_option("")
    expect(cell).to_contain_text("tensor parallel 4")
    users = page.get_by_label("Users at a time")
    users.fill("0")
    users.press("Enter")
    expect(result.get_by_role("alert")).to_contain_text("users is a whole number")
    users.fill("4")
    users.press("Enter")
    expect(result).to_contain_text("For 4 users at 25,000 tokens each")
    small = result.locator("tr", has=page.locator("th", has_text="24 GB")).locator("td").first
    expect(small).to_contain_text("Does not fit")
