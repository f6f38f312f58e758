"""The Benchmarks tab: from the form to figures with a verdict, a chart and the card, without leaving the page."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import expect

from components.benchmark.tables import COLUMNS, examples, kl_histogram
from tests.browser.compare_page import ComparePage
from tests.browser.conftest import PAIR

JOB_LIMIT_MS = 600_000
FLIPPED = re.compile("items? that flipped")


@pytest.fixture
def benchmarks(compare: ComparePage) -> ComparePage:
    compare.page.get_by_role("tab", name="Benchmarks").click()
    expect(compare.page.get_by_role("heading", name="New benchmark")).to_be_visible()
    return compare


def test_published_figures_stand_there_before_anything_was_measured(benchmarks: ComparePage) -> None:
    page = benchmarks.page
    expect(page.locator("#dt-results")).to_contain_text("Published figures")
    card = page.locator("details", has_text="neuralmagic/Pixtral-Large-Instruct-2411-hf-quantized.w4a16").last
    card.locator("summary").click()
    expect(card.locator(".dt-wrong", has_text="requests/s give 621")).to_be_visible()
    expect(page.locator("[data-chart=recovery] .main-svg").first).to_be_visible()
    expect(page.locator("[data-chart=pareto]")).to_contain_text("Quality against cost")
    page.get_by_text("charts wait for figures").click()
    expect(page.locator(".dt-waiting")).to_contain_text("Size against quality needs a quality suite.")


def test_a_bad_field_is_refused_by_name(benchmarks: ComparePage) -> None:
    page = benchmarks.page
    page.get_by_label("Candidate").select_option("embedded/coarse")
    page.get_by_text("Change what is measured").click()
    page.get_by_label("Text of your own").fill("/no/such/file.txt")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#dt-benchmarks-form").get_by_role("alert")).to_contain_text("overrides.text_file")


def test_a_click_on_a_bar_of_kl_shows_its_tokens(benchmarks: ComparePage) -> None:
    draw = np.random.default_rng(4)
    table = np.abs(draw.normal(size=(60, len(COLUMNS))))
    table[:, COLUMNS.index("kl_base_to_candidate_nats")] = 10.0 ** draw.uniform(-5, 0, size=60)
    table[:, COLUMNS.index("target_id")] = 65 + np.arange(60) % 26
    curve = {"task": "a text", "curve": kl_histogram(table), "examples": examples([table], ["word"] * 60, chr)}
    tallest = int(np.argmax(curve["curve"]["tokens"]))
    page = benchmarks.page
    page.evaluate(
        """(curve) => document.querySelector("#dt-results").prepend(
            window.diptych.benchmarkCharts({}, { curves: { kl_histogram: [curve] }, load: [] }, () => {}))""",
        curve,
    )
    bar = page.locator("[data-chart=kl-histogram] .bars .point").nth(tallest)
    expect(bar).to_be_attached()
    bar.scroll_into_view_if_needed()
    box = bar.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    sheet = page.get_by_role("dialog")
    expect(sheet).to_contain_text("a text")
    expect(sheet.locator("tbody tr")).to_have_count(sum(one["bin"] == tallest for one in curve["examples"]))
    expect(sheet.locator("mark").first).to_have_text(
        next(one["token"] for one in curve["examples"] if one["bin"] == tallest)
    )


@pytest.mark.skipif(PAIR != "embedded", reason="needs real engines")
def test_a_benchmark_from_the_form_to_the_card(benchmarks: ComparePage) -> None:
    page = benchmarks.page
    page.get_by_label("Candidate").select_option("embedded/coarse")
    page.get_by_label("Suite").select_option("accuracy")
    page.get_by_text("Change what is measured").click()
    page.get_by_label("Items", exact=True).fill("12")
    page.get_by_role("button", name="Start").click()
    listed = page.locator("#dt-benchmarks-jobs .dt-job").first
    expect(listed).to_have_attribute("data-state", "RUNNING", timeout=120_000)
    benchmarks.reload()  # the page forgets nothing, and the job does not notice
    page.get_by_role("tab", name="Benchmarks").click()
    expect(listed).to_have_attribute("data-state", "SUCCEEDED", timeout=JOB_LIMIT_MS)
    result = page.locator(".dt-result")
    expect(result).to_contain_text("recovery is", timeout=15_000)
    expect(result.locator("[data-outcome]")).to_be_visible()
    page.get_by_role("button", name=FLIPPED).first.click()
    sheet = page.get_by_role("dialog")
    first = sheet.locator(".dt-flip").first
    question = first.locator("b").inner_text()
    expect(first.locator("img")).to_have_js_property("complete", value=True)
    first.get_by_role("button", name="Compare").click()
    expect(sheet).to_have_count(0)
    expect(benchmarks.prompt).to_have_value(question)
    expect(benchmarks.thumbs).to_have_count(1)
    expect(page.get_by_role("tab", name="Compare")).to_have_attribute("aria-selected", "true")

    page.get_by_role("tab", name="Benchmarks").click()
    page.get_by_role("button", name=FLIPPED).first.click()
    page.get_by_role("dialog").get_by_role("button", name="Review these blind").click()
    expect(page.get_by_role("tab", name="Review")).to_have_attribute("aria-selected", "true", timeout=15_000)
    expect(page.locator("#dt-review-side")).to_contain_text("Flipped: embedded-questions")

    page.get_by_role("tab", name="Benchmarks").click()
    page.get_by_role("button", name="Model card").click()
    card = page.get_by_role("dialog")
    expect(card.locator(".dt-card-view")).to_contain_text("Accuracy")
    expect(card).to_contain_text("Listed as missing: ")
    card.get_by_role("button", name="Edit the text").click()
    card.get_by_label("Intended use and limitations").fill("For **tests** of <b>this page</b>.")
    card.get_by_role("button", name="Save").click()
    expect(card.locator(".dt-card-view strong", has_text="tests")).to_be_visible()
    expect(card.locator(".dt-card-view")).to_contain_text("Written by hand, not measured: intended use and limitations")
    expect(card.locator(".dt-card-view b")).to_have_count(0)
    expect(card.get_by_role("link", name="Download")).to_have_attribute("download", "README.md")
