"""Is it the eyes or the words? One click in the divergence card scores the answer again with the picture changed."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.compare_page import ComparePage
from tests.browser.conftest import PAIR
from tests.browser.scripted import HOSTILE
from tests.browser.test_divergence import card, mount, token
from tests.running_app import ROOT

needs_embedded = pytest.mark.skipif(PAIR != "embedded", reason="scores the embedded pair")
START_LIMIT_MS = 180_000


def change(compare: ComparePage, label: str) -> Locator:
    return card(compare).get_by_role("button", name=label, exact=True)


@needs_embedded
def test_one_click_shows_what_was_taken_from_the_picture_and_a_reload_keeps_it(compare: ComparePage) -> None:
    compare.choose_engine(1, "Coarse (deliberately bad)", START_LIMIT_MS)
    compare.attach(ROOT / "assets" / "samples" / "four-shapes.png")
    compare.ask("Describe the picture.")
    tokens = card(compare).locator(".dt-tok")
    expect(tokens.first).to_be_visible()
    change(compare, "Swap").click()
    eyes = card(compare).locator(".dt-eyes")
    expect(eyes).to_contain_text(re.compile(r"\d+ of \d+ tokens are taken from the picture"))
    expect(eyes).to_contain_text("tokens the answer took from the picture")
    expect(eyes).to_contain_text(re.compile(r"mean reliance base [\d.]+ nats · candidate [\d.]+ · change [+-]?[\d.]+"))
    expect(eyes).to_contain_text("swapped for “bar-chart.png” at 336 × 336 pixels")
    expect(card(compare).locator(".dt-mode")).to_have_value("picture")
    assert card(compare).locator(".dt-tok.dt-l4").count() > 0, "colours and places come from the picture"
    assert card(compare).locator(".dt-tok.dt-l0").count() > 0, "other words do not"
    shown = eyes.locator("img").first
    assert shown.evaluate("(image) => image.complete && image.naturalWidth") == 336
    eyes.locator(".dt-most button").first.click()
    expect(card(compare).locator(".dt-eyes-token")).to_contain_text("change")
    card(compare).locator(".dt-mode").select_option("eyes")
    expect(tokens.first).to_be_visible()
    change(compare, "Remove").click()
    expect(eyes).to_contain_text("the same text asked without a picture")
    expect(card(compare).locator(".dt-eyes-token")).to_contain_text("nats")
    compare.reload()
    expect(eyes).to_contain_text("tokens are taken from the picture")
    change(compare, "Swap").click()
    expect(eyes).to_contain_text("bar-chart.png")
    expect(eyes.locator(".dt-pulse")).to_have_count(0)


@needs_embedded
def test_a_turn_without_a_picture_says_so(compare: ComparePage) -> None:
    compare.ask("What can you answer questions about?")
    expect(card(compare).locator(".dt-tok").first).to_be_visible()
    change(compare, "Blur").click()
    expect(card(compare).locator(".dt-eyes")).to_contain_text("This turn has no picture")


def test_tokens_without_a_measurement_are_not_coloured(compare: ComparePage) -> None:
    probe = mount(compare, [token("a "), token("b ", fork=True)])
    probe.locator(".dt-mode").select_option("picture")
    expect(probe.locator(".dt-tok.dt-lx")).to_have_count(2)


def test_f38_hostile_names_and_alternatives_are_text(compare: ComparePage) -> None:
    result = {
        "pictures": [[HOSTILE, HOSTILE, None]], "floors": [0.0, 0.0, 0.0], "figures": [HOSTILE], "share": HOSTILE,
        "leaning": [0], "at_least": 0.69, "most": [0], "base": [3.0], "candidate": [1.0],
        "instead": [[[HOSTILE, 0.5], [HOSTILE, 0.4]]],
    }  # fmt: skip
    eyes = {"asked": "blurred", "busy": False, "refused": None, "results": {"blurred": result}}
    probe = mount(compare, [token(HOSTILE)], eyes=eyes)
    expect(probe.locator(".dt-eyes")).to_contain_text("<script>")
    compare.page.wait_for_timeout(300)
    assert compare.page.evaluate("window.diptychWasFooled === undefined")
    assert probe.locator("img, script, svg, style, iframe, a").count() == 0
    probe.locator(".dt-mode").select_option("picture")
    expect(probe.locator(".dt-tok.dt-l3")).to_have_count(1)
    expect(probe.locator(".dt-eyes-token")).to_contain_text("base +3.00, candidate +1.00 nats; change -2.00")
