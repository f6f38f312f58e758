"""The Quantize tab: a job from the first look at its plan to an answer of what it made, in a new column."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.compare_page import ComparePage
from tests.browser.test_look import NAMELESS, open_page, overflow
from tests.running_app import RunningApp

JOB_LIMIT_MS = 600_000
ENGINE_LIMIT_MS = 300_000
BUNDLED_BATCH = "A first look"


@pytest.fixture
def quantize(compare: ComparePage) -> ComparePage:
    compare.page.get_by_role("tab", name="Quantize").click()
    expect(compare.page.get_by_role("heading", name="New job")).to_be_visible()
    return compare


def choose(quantize: ComparePage, recipe: str, model: str = "embedded/base") -> None:
    quantize.page.get_by_label("Model", exact=True).select_option(model)
    quantize.page.get_by_label("Recipe", exact=True).select_option(recipe)


def check(quantize: ComparePage) -> Locator:
    quantize.page.get_by_role("button", name="Check").click()
    plan = quantize.page.locator("#dt-quantize-plan")
    expect(plan.locator(".dt-pulse")).to_have_count(0, timeout=120_000)
    return plan


def test_a_plan_says_what_it_needs_and_starts_nothing(quantize: ComparePage) -> None:
    choose(quantize, "w4a16-gptq")
    plan = check(quantize)
    for words in ("Stays in 16 bits", "vision tower", "Disk", "Memory", "Time", "The complete script"):
        expect(plan).to_contain_text(words)
    expect(plan.get_by_role("button", name="Start")).to_be_enabled()
    expect(quantize.page.locator(".dt-job[data-state=RUNNING]")).to_have_count(0)
    choose(quantize, "w8a8-gptq")  # what is shown is no longer what is asked for
    expect(plan.get_by_role("button", name="Start")).to_be_disabled()


def test_a_recipe_that_wants_a_gpu_shows_its_script_and_can_not_start(quantize: ComparePage) -> None:
    choose(quantize, "w4a16-awq")
    plan = check(quantize)
    expect(plan).to_contain_text("Not yet run here: this machine can't run it.")
    expect(plan).to_contain_text("The complete script")
    expect(plan.get_by_role("button", name="Start")).to_be_disabled()


def test_a_group_size_that_does_not_divide_is_refused_by_name(quantize: ComparePage) -> None:
    choose(quantize, "w4a16-gptq")
    quantize.page.get_by_text("Change the recipe").click()
    quantize.page.get_by_label("Group size").fill("96")
    plan = check(quantize)
    expect(plan.get_by_role("alert")).to_contain_text("group_size")
    expect(plan.get_by_role("button", name="Start")).to_have_count(0)
    quantize.page.get_by_label("Further settings").fill("no: [yaml")
    expect(check(quantize).get_by_role("alert")).to_contain_text("overrides")


def test_the_form_survives_a_reload(quantize: ComparePage) -> None:
    choose(quantize, "w8a8-gptq", "smollm2-135m/base")
    quantize.page.get_by_text("Change the recipe").click()
    quantize.page.get_by_label("Samples").fill("12")
    quantize.reload()
    quantize.page.get_by_role("tab", name="Quantize").click()
    expect(quantize.page.get_by_label("Model", exact=True)).to_have_value("smollm2-135m/base")
    expect(quantize.page.get_by_label("Recipe", exact=True)).to_have_value("w8a8-gptq")
    quantize.page.get_by_text("Change the recipe").click()
    expect(quantize.page.get_by_label("Samples")).to_have_value("12")


def test_another_model_is_named_by_hand_and_refused_by_field(quantize: ComparePage) -> None:
    quantize.page.get_by_label("Model", exact=True).select_option("other")
    quantize.page.get_by_label("Repository or folder").fill("owner/$(touch x)")
    expect(check(quantize).get_by_role("alert")).to_contain_text("model")


@pytest.mark.parametrize("width", [400, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_tab_fits_and_every_control_has_a_name(browser: Browser, app: RunningApp, width: int, scheme: str) -> None:
    compare = open_page(browser, app, width, scheme)
    compare.page.get_by_role("tab", name="Quantize").click()
    compare.page.get_by_text("Change the recipe").click()
    choose(compare, "w4a16-gptq")
    expect(check(compare)).to_contain_text("The complete script")
    compare.page.get_by_text("The complete script").click()
    assert overflow(compare.page) == []
    assert compare.page.evaluate(NAMELESS) == []
    compare.page.context.close()


def test_the_form_is_filled_by_keyboard(quantize: ComparePage) -> None:
    page = quantize.page
    page.get_by_label("Model", exact=True).focus()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Recipe", exact=True)).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Seed")).to_be_visible()
    page.keyboard.press("?")  # no key of the page is taken for a setting, nor the other way round
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")


def test_a_conversation_becomes_calibration_data(compare: ComparePage) -> None:
    page = compare.page
    compare.choose_scripted()
    page.get_by_role("button", name="Describe the picture.", exact=True).click()
    expect(compare.thumbs).to_have_count(1)
    compare.ask("Describe the picture.")
    page.get_by_role("button", name="Re-quantize with these").click()
    expect(page.get_by_role("heading", name="New job")).to_be_visible()
    expect(page.get_by_label("Calibration data")).to_have_value("traces")
    choose(compare, "w4a16-gptq")
    plan = check(compare)
    expect(plan).to_contain_text("Differs from the recipe")
    expect(plan).to_contain_text("calibration.sources")
    plan.get_by_role("button", name="Look at the calibration data").click()
    expect(page.get_by_role("dialog", name="Calibration data")).to_contain_text("Describe the picture.")
    page.keyboard.press("Escape")


def test_items_of_a_review_batch_are_picked_as_calibration_data(quantize: ComparePage) -> None:
    page = quantize.page
    choose(quantize, "w4a16-gptq")
    page.get_by_text("Change the recipe").click()
    page.get_by_label("Calibration data").select_option("review")
    which = page.get_by_label("Which items")
    which.select_option(label=which.locator("option", has_text=BUNDLED_BATCH).first.inner_text())
    plan = check(quantize)
    expect(plan).to_contain_text("calibration.sources")
    plan.get_by_role("button", name="Look at the calibration data").click()
    expect(page.get_by_role("dialog", name="Calibration data")).to_contain_text("review items: all")
    page.keyboard.press("Escape")


def test_a_job_from_the_page_to_an_answer_in_a_new_column(quantize: ComparePage) -> None:
    page = quantize.page
    choose(quantize, "w4a16-gptq")
    page.get_by_text("Change the recipe").click()
    page.get_by_label("Samples").fill("16")
    plan = check(quantize)
    measure = plan.get_by_role("button", name="Measure the time")
    if "The environment of llmcompressor is there" in plan.inner_text():  # else the job makes it first
        measure.click()
        expect(plan).to_contain_text("From a dry run of the tool on the first layer", timeout=180_000)
    else:
        expect(measure).to_have_count(0)
    plan.get_by_role("button", name="Start").click()
    job = page.locator(".dt-job").first
    expect(job).to_contain_text("W4A16 (GPTQ)")
    expect(job).to_have_attribute("data-state", "RUNNING", timeout=60_000)
    quantize.reload()  # the page forgets nothing, and the job does not notice
    page.get_by_role("tab", name="Quantize").click()
    expect(job).to_have_attribute("data-state", "RUNNING")
    expect(job.locator("progress")).to_be_visible()
    job.get_by_role("button", name="Log").click()
    log = page.get_by_role("dialog")
    expect(log.locator(".dt-log")).not_to_have_text("")
    log.get_by_label("Search the log").fill("nothing holds these words")
    expect(log).to_contain_text("No line holds that.")
    log.get_by_role("button", name="Close").click()
    expect(job).to_have_attribute("data-state", "SUCCEEDED", timeout=JOB_LIMIT_MS)
    for words in ("Bits per weight", "Mean KL from the base", "noise floor", "It answered"):
        expect(job).to_contain_text(words)
    job.get_by_role("button", name="Compare").click()
    column = page.locator(".dt-col:visible").last
    expect(column.locator(".dt-engine input")).to_have_value(re.compile(r"W4A16 \(GPTQ\), made here"))
    expect(column.locator(".dt-chips")).to_contain_text("sees", timeout=ENGINE_LIMIT_MS)
    position = page.locator(".dt-col:visible").count() - 1
    quantize.page.get_by_role("button", name="Describe the picture.", exact=True).click()
    expect(quantize.thumbs).to_have_count(1)
    quantize.ask("Describe the picture.", columns=position + 1)
    assert len(quantize.answer(position)) > 10


def test_a_job_is_cancelled_and_duplicated(quantize: ComparePage) -> None:
    page = quantize.page
    choose(quantize, "w8a8-gptq")
    check(quantize).get_by_role("button", name="Start").click()
    job = page.locator(".dt-job").first
    expect(job).to_have_attribute("data-state", "RUNNING", timeout=60_000)
    job.get_by_role("button", name="Cancel").click()
    stopped = page.locator(".dt-job[data-state=STOPPED]").first
    expect(stopped).to_contain_text("Cancelled.", timeout=15_000)
    choose(quantize, "w4a16-gptq")
    stopped.get_by_role("button", name="Duplicate").click()
    expect(page.get_by_label("Recipe", exact=True)).to_have_value("w8a8-gptq")
    stopped.get_by_role("button", name="Retry").click()
    again = page.locator(".dt-job").first
    expect(again).to_contain_text("attempt 2", timeout=60_000)
    again.get_by_role("button", name="Cancel").click()
    expect(page.locator(".dt-job[data-state=STOPPED]")).to_have_count(2, timeout=30_000)
