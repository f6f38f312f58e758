"""Review by keyboard alone, in a real browser: judge, undo, reload, export; nothing of the seal reaches the page."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PAIR, REVIEW_ITEMS, SAMPLE
from tests.browser.review_page import ReviewPage
from tests.running_app import RunningApp


@pytest.fixture
def review(page: Page, app: RunningApp, request: pytest.FixtureRequest) -> Iterator[ReviewPage]:
    review = ReviewPage(page, app.url, f"r-{abs(hash(request.node.name)) % 10_000}")
    review.open()
    yield review
    assert review.errors == []


def exported(app: RunningApp, name: str) -> list[dict[str, Any]]:
    found = app.call("review_export", {"reviewer": name, "batch": "b1"})
    assert isinstance(found, list)
    return found


def test_three_items_by_keyboard_an_undo_a_reload_and_the_export(review: ReviewPage, app: RunningApp) -> None:
    page, judged = review.page, [review.judge() for _ in range(3)]
    page.keyboard.press("u")
    expect(review.prompt).to_have_text(judged[2])
    expect(page.get_by_text("2 by you")).to_be_visible()
    page.keyboard.press("4")
    page.keyboard.press("m")
    page.keyboard.type("a note <b>with</b> ${x}")
    page.wait_for_timeout(1500)  # the draft is on its way
    page.reload()
    page.get_by_role("tab", name="Review").click()
    page.locator("[data-batch=b1] button").first.click()
    expect(review.prompt).to_have_text(judged[2])
    expect(page.get_by_label("Note", exact=True)).to_have_value("a note <b>with</b> ${x}")
    expect(page.locator("[data-focus=v-both_bad]")).to_have_attribute("aria-pressed", "true")
    page.locator("body").press("Enter")
    expect(review.prompt).not_to_have_text(judged[2])
    rows = exported(app, review.name)
    assert [row["prompt"] for row in rows] == judged
    assert [row["outcome"] for row in rows] == ["regressed", "regressed", "both_wrong"]
    assert rows[2]["note"] == "a note <b>with</b> ${x}"
    history = app.call("review_export", {"reviewer": review.name, "batch": "b1", "history": True})
    assert sorted(str(row["state"]) for row in history) == ["current", "current", "current", "withdrawn"]
    with httpx.Client(trust_env=False) as http:
        told = http.get(f"{app.url}review/export/b1.jsonl", params={"reviewer": review.name}).text
    assert [json.loads(line)["verdict_id"] for line in told.splitlines()] == [row["verdict_id"] for row in rows]


def test_a_claim_by_keyboard_and_a_change_afterwards(review: ReviewPage, app: RunningApp) -> None:
    page = review.page
    first = review.prompt.inner_text()
    page.locator("[data-focus=v-tie]").click()  # by mouse, and Enter saves none the less
    review.mark("a", b=False)
    page.locator("[data-focus=v-tie]").click()
    page.keyboard.press("e")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Which answer")).to_have_value("b")  # the one that is said to be wrong
    dialog.get_by_label("Words in the answer").fill("not there at all")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("don't stand in that answer")
    dialog.get_by_label("Words in the answer").fill("from")
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(page.locator(".dt-claims")).to_contain_text("misread text, major")
    page.keyboard.press("Enter")
    expect(review.prompt).not_to_have_text(first)
    page.keyboard.press("ArrowLeft")
    expect(review.prompt).to_have_text(first)
    expect(page.locator(".dt-unsealed")).to_contain_text(re.compile("A was the (base|candidate)"))
    page.keyboard.press("4")
    page.keyboard.press("Enter")
    expect(page.locator(".dt-unsealed")).to_contain_text("Both wrong")
    (row,) = exported(app, review.name)
    assert (row["verdict"], row["outcome"]) == ("both_bad", "both_wrong")
    claims = row["claims"]
    assert isinstance(claims, list)
    assert (claims[0]["text"], claims[0]["start"]) == ("from", 0)


def test_a_sheet_that_closes_takes_no_further_key(review: ReviewPage) -> None:
    page = review.page
    for _ in range(2):  # it opens again after that, too
        page.keyboard.press("e")
        left = page.get_by_role("dialog").evaluate(
            """(sheet) => { sheet.querySelector("input").focus();
                            sheet.querySelector("form").requestSubmit();
                            return [sheet.isConnected, document.activeElement.tagName]; }"""
        )
        assert left == [False, "BODY"], "before the browser draws or says anything"


def test_nothing_of_the_seal_is_in_the_page(page: Page, app: RunningApp) -> None:
    """Nothing of the tab but the two texts, which say it in this test, and nothing in the page's memory of it."""
    review = ReviewPage(page, app.url, "sealed")
    review.open()
    assert review.leaks() == []


def test_keys_do_nothing_on_other_tabs_or_while_typing(review: ReviewPage, app: RunningApp) -> None:
    page = review.page
    page.keyboard.press("m")
    page.keyboard.type("1 2 3 u e")
    expect(page.get_by_label("Note", exact=True)).to_have_value("1 2 3 u e")
    expect(page.locator("[data-focus^=v-][aria-pressed=true]")).to_have_count(0)
    page.get_by_role("tab", name="Models").click()
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.get_by_role("tab", name="Review").click()
    expect(page.locator("[data-focus^=v-][aria-pressed=true]")).to_have_count(0)
    assert exported(app, review.name) == []
    page.locator("h2").first.click()
    page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keys")
    expect(sheet.locator("h3").first).to_have_text("Review")  # those of the tab at hand come first
    expect(sheet).to_contain_text("Both bad")


def test_four_reviewers_at_once_judge_no_item_twice(browser: Browser, app: RunningApp) -> None:
    contexts = [browser.new_context(viewport={"width": 400, "height": 900}, reduced_motion="reduce") for _ in range(4)]
    try:
        pages = [ReviewPage(context.new_page(), app.url, f"four-{n}") for n, context in enumerate(contexts)]
        for each in pages:
            each.open()
        assert len({each.prompt.inner_text() for each in pages}) == 4, "each holds an item of their own"
        judged = {each.name: [each.judge()] for each in pages}
        for each in reversed(pages):
            each.page.get_by_role("button", name="Save and next").scroll_into_view_if_needed()
            judged[each.name].append(each.judge())
            expect(each.prompt).to_be_in_viewport()
            expect(each.page.locator(".dt-review-picture")).to_be_in_viewport()
        assert len({prompt for prompts in judged.values() for prompt in prompts}) == 8
        for each in pages:
            assert [row["prompt"] for row in exported(app, each.name)] == judged[each.name]
            wide = each.page.evaluate(
                "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wide <= 0, "nothing sticks out at 400 pixels"
            assert each.errors == []
    finally:
        for context in contexts:
            context.close()


def test_a_conflict_is_offered_to_a_third_and_what_failed_is_shown(page: Page, app: RunningApp) -> None:
    third = ReviewPage(page, app.url, "three")
    desk, line = page.locator("#dt-review-desk"), third.batch("b2")
    offered = desk.get_by_role("button", name="Settle the conflicts of others")
    for name, times in (("one", 0), (third.name, 1)):
        page.goto(app.url)
        page.evaluate("localStorage.clear()")
        page.reload()
        page.get_by_role("tab", name="Review").click()
        third.choose("b2")
        page.get_by_label("Your name").fill(name)
        page.keyboard.press("Enter")
        expect(desk).to_contain_text("what two reviewers judged differently; a third decides")
        expect(offered).to_have_count(times)
    expect(line).to_contain_text("2 items, 0 left, 1 in conflict, 1 failed")
    offered.click()
    third.mark("both_bad")
    third.save()
    expect(desk).to_contain_text("There is no conflict to settle.")
    page.get_by_role("button", name="Report", exact=True).click()
    report = page.locator("#dt-review-report")
    expect(report).to_contain_text("1 of 1 items judged, 1 without answers")
    expect(report).to_contain_text("They differ on 1 of these: 1 settled by a third reviewer.")
    line.get_by_role("button", name="Show them").click()
    expect(report).to_contain_text("1 item")
    expect(report.locator("tbody tr")).to_contain_text("refused: 5000 tokens")
    assert third.errors == []


def test_the_report_and_the_items(review: ReviewPage) -> None:
    page = review.page
    review.judge()
    page.get_by_role("button", name="Report", exact=True).click()
    report = page.locator("#dt-review-report")
    expect(report).to_contain_text("sign test")
    expect(report).to_contain_text("Regressed, most divergent first")
    page.get_by_role("button", name="Items", exact=True).click()
    expect(report).to_contain_text(f"{REVIEW_ITEMS} items")
    report.get_by_label("Outcome").select_option("regressed")
    expect(report.locator("tbody tr").first).to_contain_text("Regressed")
    report.get_by_label("Outcome").select_option("")
    expect(report).to_contain_text(f"{REVIEW_ITEMS} items")
    report.get_by_label("Tag").press_sequentially("even")
    page.keyboard.press("Enter")
    expect(report).to_contain_text(f"{REVIEW_ITEMS // 2} items")
    report.get_by_label("Nats from").press_sequentially("10")
    page.keyboard.press("Enter")
    expect(report).to_contain_text(f"{REVIEW_ITEMS // 2 - 5} items")
    page.get_by_role("button", name="Report", exact=True).click()
    report.get_by_role("button", name="Re-quantize with these").click()
    expect(page.get_by_role("tab", name="Quantize")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_label("Turns")).to_have_value(re.compile(r"^b1-t\d+"))
    page.get_by_role("tab", name="Review").click()
    page.get_by_role("button", name="Judge", exact=True).click()
    expect(report).to_be_empty()
    expect(review.prompt).to_be_visible()


def test_rows_that_cannot_be_used_are_named_before_anything_starts(review: ReviewPage) -> None:
    page = review.page
    page.get_by_role("button", name="New batch").click()
    dialog = page.get_by_role("dialog")
    table = b"id,image,prompt\n1,missing.png,What?\n2,,Only words?\n2,,Twice?\n"
    dialog.get_by_label("Files").set_input_files({"name": "items.csv", "mimeType": "text/csv", "buffer": table})
    expect(dialog.get_by_role("status")).to_contain_text("items.csv is loaded")
    dialog.get_by_role("button", name="Check the rows").click()
    said = dialog.get_by_role("status")
    expect(said).to_contain_text("1 question, 1 item can be used")
    expect(said).to_contain_text("row 2 image: There is no picture 'missing.png'")
    expect(said).to_contain_text("row 4 id: '2' stands there twice")
    dialog.get_by_role("button", name="Close").click()


def test_a_batch_from_a_zip_to_a_verdict(review: ReviewPage, app: RunningApp) -> None:
    """The engines answer it; with the embedded pair these are real ones."""
    page, data = review.page, io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.write(SAMPLE, "one.png")
        archive.write(SAMPLE.with_name("number.png"), "two.png")
        archive.write(SAMPLE, "../outside.png")
    page.get_by_role("button", name="New batch").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("From a zip")
    packed = {"name": "all.zip", "mimeType": "application/zip", "buffer": data.getvalue()}
    dialog.get_by_label("Files").set_input_files(packed)
    expect(dialog.get_by_role("status")).to_contain_text("all.zip is loaded")
    dialog.get_by_label("Prompts").fill("Which shape is in this picture?\nWhat colour is it?")
    dialog.get_by_role("button", name="Start").click()
    said = dialog.get_by_role("status")
    expect(said).to_contain_text("4 questions, 4 items: the engines are at work.", timeout=60_000)
    expect(said).to_contain_text("../outside.png file: Its path leads out of the zip")
    dialog.get_by_role("button", name="Close").click()
    mine = page.locator(".dt-batch", has_text="From a zip")
    expect(mine).to_have_attribute("data-state", "SUCCEEDED", timeout=300_000)
    expect(mine).to_contain_text("4 items, 4 left")
    expect(review.prompt).to_have_text(re.compile("Which shape|What colour"))  # it came by itself
    page.locator("h2").first.click()
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 by you")).to_be_visible()
    batch_id = mine.get_attribute("data-batch")
    (row,) = app.call("review_export", {"reviewer": review.name, "batch": batch_id})
    stored = httpx.get(f"{app.url}traces/{row['trace_id']}.json", trust_env=False).json()["traces"][0]
    assert row["prompt"] == stored["prompt"]
    assert row["base_text"] in [column["answer"]["text"] for column in stored["columns"]]
    if PAIR == "embedded":  # engines of our own: exact, over the whole vocabulary
        assert row["divergence_method"] == "exact"
        assert row["divergence_base_to_candidate_nats"] >= 0
    report = httpx.get(f"{app.url}review/export/{batch_id}.markdown", trust_env=False).text
    assert "Human review of 1 of 4 items, blind, by 1 reviewer." in report
