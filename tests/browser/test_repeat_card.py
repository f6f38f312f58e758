"""The card "Repeat": a person repeats a question, sees how often each answer came, and can stop it."""

from __future__ import annotations

import re
from dataclasses import replace

import httpx
from playwright.sync_api import Locator, expect

from tests.browser.compare_page import ComparePage
from tests.browser.scripted import HOSTILE, HOSTILE_LINES, USUAL, ScriptedEngines

BASE = ("seven", "seven\n", "eight", " seven")
LONG = "The picture shows a red circle above a blue square, and " * 8
CANDIDATE = ("seven", "nine", "nine", LONG)


def card(compare: ComparePage) -> Locator:
    return compare.page.locator("#dt-repeat")


def said(compare: ComparePage, role: str) -> list[str]:
    """The list of one column: "6× «seven»"."""
    rows = card(compare).locator(f"section[data-role={role}] .dt-said > li").all_inner_texts()
    return [" ".join(row.split()) for row in rows]


def repeat(compare: ComparePage) -> None:
    card(compare).get_by_role("button", name=re.compile("^Repeat ×")).click()


def script(scripted: ScriptedEngines, **slow: object) -> None:
    scripted.base.options = replace(USUAL, seeded=BASE)
    scripted.slow.options = replace(USUAL, **{"seeded": CANDIDATE, **slow})  # type: ignore[arg-type]


def test_repeat_read_the_counts_and_reload(compare: ComparePage, scripted: ScriptedEngines) -> None:
    compare.choose_scripted()
    expect(card(compare).locator("header")).to_have_count(0)
    compare.ask("How many circles?")
    script(scripted)
    expect(card(compare)).to_contain_text("repeats then show rounding in other batches only")
    card(compare).get_by_role("button", name="Use 0.7").click()
    expect(card(compare).get_by_text("repeats then show rounding")).to_be_hidden()
    card(compare).get_by_label("First seed").fill("4")
    repeat(compare)
    expect(card(compare)).to_contain_text("8 × at temperature 0.7, seed 4 · answers that differ in white space")
    assert said(compare, "base") == ["6× seven", "2× eight"]
    candidate = said(compare, "candidate")
    assert [row[:7] for row in candidate] == ["4× nine", "2× seve", "2× The "]
    long = card(compare).locator("section[data-role=candidate] details")
    expect(long.locator("pre")).to_be_hidden()
    long.locator("summary").click()
    expect(long.locator("pre")).to_have_text(LONG.strip())
    expect(card(compare)).to_contain_text("Scripted slow against the base")
    expect(card(compare)).to_contain_text("6 of 8 seeds flip, 75 % (95 % interval 41 % to 93 %)")
    expect(card(compare)).to_contain_text("Scripted slow can't be told from the base's own variation: too few samples")
    sent = [hit["body"] for hit in scripted.base.hits if hit["path"].endswith("completions")][-8:]
    assert sorted(body["seed"] for body in sent) == list(range(4, 12))
    assert {body["temperature"] for body in sent} == {0.7}
    export = httpx.get(f"{compare.url}traces/{compare.trace_id()}.json").json()["traces"][0]["repeats"]
    assert [group["count"] for group in export[0]["columns"][0]["distinct"]] == [6, 2]
    assert "8 samples per column" in httpx.get(f"{compare.url}traces/{compare.trace_id()}.md").text
    compare.reload()
    expect(card(compare).get_by_label("Temperature")).to_have_value("0.7")
    expect(card(compare)).to_contain_text("6 of 8 seeds flip")
    assert said(compare, "base") == ["6× seven", "2× eight"]
    compare.start_anew()
    expect(card(compare).locator("header")).to_have_count(0)


def test_two_repeats_of_a_turn_and_a_failed_sample(compare: ComparePage, scripted: ScriptedEngines) -> None:
    compare.choose_scripted()
    compare.ask("How many circles?")
    script(scripted, failing_seeds=(2,))
    card(compare).get_by_label("Samples").fill("4")
    card(compare).get_by_label("Samples").press("Enter")
    expect(card(compare)).to_contain_text("Scripted slow: 1 failed, not counted as answers:")
    expect(card(compare)).to_contain_text("3 of 4 answers · 1 failed")
    expect(card(compare)).to_contain_text("what varies here is rounding in other batches")
    card(compare).get_by_label("Temperature").fill("1")
    card(compare).get_by_label("First seed").fill("4")
    repeat(compare)
    expect(card(compare)).to_contain_text("4 × at temperature 1, seed 4 ·")
    chosen = card(compare).get_by_label("Which repeat")
    chosen.select_option("4 × at temperature 0, seed 0")
    expect(card(compare).get_by_label("First seed")).to_have_value("0")
    expect(card(compare)).to_contain_text("3 of 4 answers · 1 failed")


def test_stop_keeps_what_has_ended(compare: ComparePage, scripted: ScriptedEngines) -> None:
    compare.choose_scripted()
    compare.ask("How many circles?")
    script(scripted, seeded=(), ttft_s=0.3, itl_s=0.25, tokens=80)
    repeat(compare)
    expect(card(compare)).to_contain_text("8 of 16 samples")
    card(compare).get_by_role("button", name="Stop").click()
    expect(card(compare)).to_contain_text("stopped before its end, 8 of 16 samples")
    assert said(compare, "base") == ["6× seven", "2× eight"]
    expect(card(compare).locator("section[data-role=candidate]")).to_contain_text("0 of 8 answers")
    expect(card(compare).get_by_role("button", name="Repeat ×8")).to_be_visible()
    compare.page.wait_for_timeout(1000)  # the server notices it when it writes the next token
    assert scripted.slow.open_streams == 0


def test_what_is_refused_is_said_and_nothing_is_lost(compare: ComparePage, scripted: ScriptedEngines) -> None:
    compare.choose_scripted()
    compare.ask("How many circles?")
    script(scripted)
    repeat(compare)
    expect(card(compare)).to_contain_text("8 × at temperature 0, seed 0")
    card(compare).get_by_label("Samples").fill("65")
    repeat(compare)
    expect(card(compare).get_by_role("alert")).to_have_text("n can't be 65. Accepted: whole numbers 2 to 64.")
    assert said(compare, "base") == ["6× seven", "2× eight"]


def test_f38_hostile_answers_are_text(compare: ComparePage, scripted: ScriptedEngines) -> None:
    compare.choose_scripted()
    compare.ask("How many circles?")
    scripted.base.options = replace(USUAL, seeded=(HOSTILE, *HOSTILE_LINES, "a\u200bb", ""))
    scripted.slow.options = replace(USUAL, seeded=("a\u202eb", *HOSTILE_LINES))
    card(compare).get_by_label("Samples").fill("13")
    repeat(compare)
    expect(card(compare)).to_contain_text("13 × at temperature 0, seed 0 ·")
    card(compare).locator("summary").evaluate_all("all => all.forEach((one) => one.click())")
    compare.page.wait_for_timeout(500)
    assert compare.page.evaluate("window.diptychWasFooled === undefined")
    assert card(compare).locator("img, script, svg, style, iframe, a, form form").count() == 0
    words = card(compare).inner_text()
    for line in HOSTILE_LINES[:4]:
        assert line in words
    assert "a⟨U+200B⟩b" in words and "a⟨U+202E⟩b" in words and "(no text)" in words
