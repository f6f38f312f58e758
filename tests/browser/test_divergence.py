"""The divergence card: a person asks, sees where the models part, walks the forks by key, and no text fools it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.compare_page import ComparePage
from tests.browser.conftest import PAIR
from tests.browser.pictures import sample
from tests.browser.scripted import HOSTILE
from tests.running_app import ROOT

START_LIMIT_MS = 180_000
needs_embedded = pytest.mark.skipif(PAIR != "embedded", reason="scores the embedded pair")


def card(compare: ComparePage) -> Locator:
    return compare.page.locator("#dt-divergence")


@needs_embedded
def test_ask_see_the_heat_walk_the_forks_and_reload(compare: ComparePage) -> None:
    compare.choose_engine(1, "Coarse (deliberately bad)", START_LIMIT_MS)  # which starts it
    compare.attach(ROOT / "assets" / "samples" / "four-shapes.png")
    compare.ask("Describe the picture.")
    written = re.search(r"(\d+) out", compare.stats(0))
    assert written is not None
    tokens = card(compare).locator(".dt-tok")
    expect(tokens).to_have_count(int(written[1]))
    expect(card(compare)).to_contain_text("exact, full vocabulary")
    expect(card(compare)).to_contain_text(re.compile(r"mean KL [\d.]+.* nats .* noise floor"))
    fork = int(card(compare).locator(".dt-tok.dt-fork").first.get_attribute("data-i") or -1)
    assert fork > 0, "the coarse one describes it otherwise"
    assert selected(compare) == fork, "the first fork is what a person wants to see"
    tokens.first.click()
    assert selected(compare) == 0
    compare.page.keyboard.press("n")
    assert selected(compare) == fork
    expect(card(compare).locator(".dt-inspect h4")).to_have_text(f"Fork at token {fork + 1}")
    expect(card(compare).locator(".dt-inspect")).to_contain_text("the candidate would say")
    assert card(compare).locator(".dt-inspect .dt-bar-base").count() >= 6
    assert card(compare).locator(".dt-inspect .dt-bar-cand").count() >= 6
    tokens.last.click()
    compare.page.keyboard.press("p")
    assert selected(compare) >= fork
    compare.reload()
    expect(tokens).to_have_count(int(written[1]))


@needs_embedded
def test_force_the_bases_token_into_the_candidate(compare: ComparePage) -> None:
    compare.choose_engine(1, "Coarse (deliberately bad)", START_LIMIT_MS)
    compare.attach(ROOT / "assets" / "samples" / "four-shapes.png")
    compare.ask("Describe the picture.")
    fork = card(compare).locator(".dt-tok.dt-fork").first
    fork.click()
    base_token = fork.text_content() or ""
    expect(card(compare).locator(".dt-alt[aria-pressed=true]")).to_have_text(base_token)
    before = compare.answer(1)
    compare.page.keyboard.press("f")
    expect(compare.siblings(1)).to_contain_text("2 of 2")
    expect(compare.last(1, ".dt-note")).to_contain_text(re.compile(r"of the base's answer, then .*\. (It|$)"))
    expect(compare.last(1, ".dt-note")).to_contain_text(re.compile("recovers|stays apart|third answer|comes back"))
    assert compare.answer(1) != before
    expect(card(compare).locator("header")).to_be_visible()
    compare.page.reload()
    expect(compare.siblings(1)).to_contain_text("2 of 2")
    expect(compare.last(1, ".dt-note")).to_contain_text("of the base's answer, then")


@needs_embedded
def test_both_paths_and_all_modes(compare: ComparePage) -> None:
    path, question, _ = sample("number")
    compare.attach(path)
    compare.ask(question)
    expect(card(compare).locator(".dt-tok").first).to_be_visible()
    card(compare).get_by_role("button", name="Candidate's answer").click()
    chosen = card(compare).get_by_role("button", name="Candidate's answer", pressed=True)
    expect(chosen).to_be_visible()
    for mode in ("dp", "rank", "entropy", "agree", "kl"):
        card(compare).locator(".dt-mode").select_option(mode)
        expect(card(compare).locator(".dt-tok").first).to_be_visible()
    card(compare).get_by_role("button", name="Histogram").click()
    expect(compare.page.locator(".dt-sheet")).to_contain_text("nats and more")
    compare.page.keyboard.press("Escape")
    compare.page.get_by_role("button", name="New").click()
    expect(card(compare).locator("header")).to_have_count(0)


@needs_embedded
def test_a_later_turn_is_scored_with_the_picture_of_the_turn_before(compare: ComparePage) -> None:
    compare.attach(ROOT / "assets" / "samples" / "four-shapes.png")
    compare.ask("Describe the picture.")
    expect(card(compare).locator(".dt-tok").first).to_be_visible()
    compare.ask("How many shapes are there?")
    written = re.search(r"(\d+) out", compare.stats(0))
    assert written is not None
    expect(card(compare).locator(".dt-tok")).to_have_count(int(written[1]))
    expect(card(compare)).to_contain_text("exact, full vocabulary")


def selected(compare: ComparePage) -> int:
    """Index of the token that is inspected."""
    return int(card(compare).locator(".dt-tok.dt-at").get_attribute("data-i") or -1)


def value_of(tokens: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "state": "done", "turn": "t", "answer": "a", "path_of": "base", "candidate": HOSTILE, "method": "exact",
        "method_words": "exact", "precision": HOSTILE, "floor": 0.0, "floor_words": {"nats": "", "bits": ""},
        "figures": {"nats": [HOSTILE], "bits": ["in bits"]},
        "notes": [HOSTILE], "tokens": tokens,
    }  # fmt: skip


def token(text: str, *, raw: str | None = None, fork: bool = False) -> dict[str, Any]:
    return {
        "t": text, "b": raw, "kl": 0.5, "dp": -0.1, "rb": 1, "rc": 2, "hb": 0.1, "hc": 0.2, "f": fork, "m": 1.0,
        "top": [[text, 0.6, 0.2], [HOSTILE, 0.1, 0.7]],
    }  # fmt: skip


def mount(compare: ComparePage, tokens: list[dict[str, Any]], **more: Any) -> Locator:
    """A second card that draws these tokens."""
    compare.page.evaluate(
        """(value) => { const node = document.createElement('div'); node.id = 'probe'; document.body.append(node);
            window.diptych.divergence(node, { value }, () => {}, () => {}); }""",
        {**value_of(tokens), **more},
    )
    return compare.page.locator("#probe")


def test_f38_hostile_tokens_are_text(compare: ComparePage) -> None:
    texts = [
        HOSTILE,
        "<img src=x onerror=window.diptychWasFooled=1>",
        "${window.diptychWasFooled=1}",
        "`",
        "\u202e",
        "a\u200bb",
    ]
    probe = mount(compare, [*(token(text, fork=True) for text in texts), token("\ufffd", raw="E2 9C"), token("\n")])
    compare.page.wait_for_timeout(500)
    assert compare.page.evaluate("window.diptychWasFooled === undefined")
    assert probe.locator("img, script, svg, style, iframe, a").count() == 0
    shown = probe.locator(".dt-tok")
    assert shown.nth(1).inner_text() == texts[1]
    assert shown.nth(4).inner_text() == "⟨U+202E⟩"
    assert shown.nth(5).inner_text() == "a⟨U+200B⟩b"
    assert shown.nth(6).inner_text() == "⟨E2 9C⟩"
    assert "⏎" in shown.nth(7).inner_text()


def test_four_thousand_tokens_are_drawn_and_walked(compare: ComparePage) -> None:
    probe = mount(compare, [token(f"w{i} ", fork=i % 500 == 499) for i in range(4000)])
    expect(probe.locator(".dt-tok")).to_have_count(4000)
    probe.get_by_role("button", name="Next fork").click()
    expect(probe.locator(".dt-inspect h4")).to_have_text("Fork at token 1000")


def test_bits_the_candidate_and_both_answers_aligned(compare: ComparePage) -> None:
    run = {
        "fork": 0,
        "base": {"text": HOSTILE, "probability": 0.5},
        "candidate": {"text": None, "probability": None},
        "aligned": [["same "], [HOSTILE, "other"]],
    }
    probe = mount(compare, [token("a")], free_run=run, candidates=[["p/a", HOSTILE], ["p/b", "B"]])
    expect(probe.locator(".dt-inspect")).to_contain_text("KL 0.5000 nats")
    probe.get_by_role("button", name="Show bits").click()
    expect(probe.locator(".dt-inspect")).to_contain_text("KL 0.7213 bits")
    expect(probe.locator(".dt-stats")).to_contain_text("in bits")
    assert probe.get_by_label("Which candidate").locator("option").all_inner_texts() == [HOSTILE, "B"]
    probe.get_by_role("button", name="Both answers, aligned").click()
    sheet = compare.page.locator(".dt-aligned")
    expect(sheet.locator(".dt-only-cand")).to_have_text("other")
    expect(sheet.locator(".dt-only-base")).to_contain_text("<img src=x")
    assert sheet.locator("img, script, a").count() == 0
