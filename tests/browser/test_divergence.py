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
from tests.browser.test_look import CONTRAST
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
    expect(card(compare).locator(".dt-inspect")).to_contain_text("likeliest, the candidate")
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
    compare.start_anew()
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


def token(text: str, *, raw: str | None = None, fork: bool | None = False, **more: Any) -> dict[str, Any]:
    return {
        "t": text, "b": raw, "kl": 0.5, "dp": -0.1, "rb": 1, "rc": 2, "hb": 0.1, "hc": 0.2, "f": fork, "m": 1.0,
        "tie": False, "low": False, "top": [[text, 0.6, 0.2, 5], [HOSTILE, 0.1, 0.7, 6]], **more,
    }  # fmt: skip


def mount(compare: ComparePage, tokens: list[dict[str, Any]], **more: Any) -> Locator:
    """A second card that draws these tokens."""
    compare.page.evaluate(
        """(value) => { const node = document.createElement('div'); node.id = 'probe'; document.body.append(node);
            const props = { value }, watchers = []; window.probeAsked = [];
            window.diptych.divergence(node, props, (...asked) => window.probeAsked.push(asked),
              (_, draw) => watchers.push(draw));
            window.probeSet = (next) => { props.value = next; watchers.forEach((draw) => draw()); }; }""",
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


def test_a_tie_within_the_noise_is_grey_and_no_fork_in_any_mode(compare: ComparePage) -> None:
    tie = token("a", tie=True, low=True, kl=0.001, f=False)
    probe = mount(compare, [tie, token("b", f=None), token("c")], floor=0.01)
    expect(probe.locator(".dt-forks")).to_have_text(
        "Same path: no fork found. At 1 token the likeliest differ within the noise: no fork. "
        "At 1 of 3 tokens it is not known whether both would choose the same."
    )
    for mode in ("kl", "dp", "rank", "entropy", "agree"):
        probe.locator(".dt-mode").select_option(mode)
        expect(probe.locator(".dt-tok").first).to_have_class(re.compile(r"\bdt-l0\b"))
        assert mode == "agree" or "dt-l0" not in (probe.locator(".dt-tok").last.get_attribute("class") or "")
    probe.locator(".dt-tok").first.click()
    expect(probe.locator(".dt-inspect p").first).to_have_text(
        re.compile(r"^The base finds a likeliest, the candidate .*noise\.$")
    )
    expect(probe.locator(".dt-inspect h4")).to_have_text("Token 1 of 3")


def test_each_side_names_its_own_likeliest_token(compare: ComparePage) -> None:
    """In top_k a list may not hold the other side's choice."""
    top = [["ours", 0.6, None, 5], ["both", 0.2, 0.3, 6], ["theirs", None, 0.5, 7]]
    probe = mount(compare, [token("ours", fork=True, top=top)], method="top_k", floor=None)
    expect(probe.locator(".dt-forks")).to_contain_text("base ours 0.60 → candidate theirs 0.50")
    expect(probe.locator(".dt-inspect")).to_contain_text("The base finds ours likeliest, the candidate theirs.")
    expect(probe.locator(".dt-inspect")).to_contain_text("not listed")
    compare.page.keyboard.press("f")
    expect(compare.page.locator(".dt-toast")).to_have_count(0)


def test_keys_and_the_minimap_move_and_leave_the_focus_where_it_was(compare: ComparePage) -> None:
    probe = mount(compare, [token(f"w{i} ", fork=i in (2, 7)) for i in range(10)])
    title = probe.locator(".dt-inspect h4")
    expect(title).to_have_text("Fork at token 3")
    box = probe.locator(".dt-minimap").bounding_box()
    assert box is not None
    probe.locator(".dt-minimap").click(position={"x": box["width"] * 0.55, "y": 10})
    expect(title).to_have_text("Token 6 of 10")
    probe.locator(".dt-heat").focus()
    compare.page.keyboard.press("ArrowRight")
    expect(title).to_have_text("Token 7 of 10")
    compare.page.keyboard.press("ArrowLeft")
    expect(title).to_have_text("Token 6 of 10")
    assert probe.locator("[aria-live] .dt-bars").count() == 0, "a screen reader is told the title, not the whole panel"
    probe.locator(".dt-alt").nth(1).click()
    expect(probe.locator(".dt-alt").nth(1)).to_be_focused()
    probe.get_by_role("button", name="Show bits").click()
    expect(probe.get_by_role("button", name="Show nats")).to_be_focused()
    probe.get_by_role("button", name="Histogram").click()
    compare.page.keyboard.press("n")
    compare.page.keyboard.press("Escape")
    expect(title).to_have_text("Token 6 of 10")
    compare.page.keyboard.press("n")
    expect(title).to_have_text("Fork at token 8")


def test_what_is_no_longer_asked_for_is_not_drawn(compare: ComparePage) -> None:
    """Picture reliance takes minutes; meanwhile another path or turn may be looked at."""
    probe = mount(compare, [token("first")])
    if PAIR == "scripted":
        compare.choose_scripted()
    compare.ask("Hello")
    compare.page.wait_for_function("window.probeAsked.some(([event]) => event === 'score')")
    turn = compare.page.evaluate("window.probeAsked.find(([event]) => event === 'score')[1].turn")

    def send(text: str, **more: Any) -> None:
        compare.page.evaluate("(value) => window.probeSet(value)", {**value_of([token(text)]), "turn": turn, **more})

    send("mine")
    expect(probe.locator(".dt-tok")).to_have_text("mine")
    send("of another turn", turn="other")
    send("of the other path", path_of="candidate")
    expect(probe.locator(".dt-tok")).to_have_text("mine")
    probe.get_by_role("button", name="Candidate's answer").click()
    send("late", path_of="base")
    expect(probe.locator(".dt-tok")).to_have_text("mine")
    send("of the candidate", path_of="candidate")
    expect(probe.locator(".dt-tok")).to_have_text("of the candidate")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_tokens_can_be_read_on_every_colour(compare: ComparePage, scheme: str) -> None:
    compare.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    compare.reload()
    values = (0.001, 0.02, 0.1, 0.5, 2.0)
    hidden = [token("a\u200bb", kl=value) for value in values] + [
        token("\ufffd", raw="E2", kl=value) for value in values
    ]
    mount(compare, hidden)
    names = [f"#probe .dt-l{level} .{name}" for level in range(1, 5) for name in ("dt-unseen", "dt-bytes")]
    found = dict(compare.page.evaluate(CONTRAST, names))
    print(scheme, found)
    assert {name: value for name, value in found.items() if value is None or value < 4.5} == {}


def test_marks_without_a_shape_are_shown(compare: ComparePage) -> None:
    texts = ["\ufe0f", "\u034f", "\u3164", "\u115f", "\u2800", "\U000e0041"]
    probe = mount(compare, [token(text) for text in texts])
    assert probe.locator(".dt-tok").all_inner_texts() == [f"⟨U+{ord(text):04X}⟩" for text in texts]
