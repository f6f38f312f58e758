"""The main job, as a person does it: a picture, a question, two answers side by side, kept, reopened, taken away."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Download, Route, expect

from tests.browser.compare_page import ComparePage
from tests.browser.conftest import PAIR
from tests.browser.pictures import plain, sample
from tests.noise import NOISE

STATS = re.compile(r"TTFT \d+ ms · (TPOT [\d.]+ ms · \d+ tok/s · )?[\d+]+ in · \d+ out · (stop|length)")


def exported(compare: ComparePage, kind: str) -> Path:
    """The file behind an export link."""
    with compare.page.expect_download() as waiting:
        compare.page.locator(".dt-turn-links").get_by_role("link", name=kind, exact=True).click()
    download: Download = waiting.value
    assert download.suggested_filename.startswith(compare.trace_id())
    return Path(download.path())


def exported_turns(compare: ComparePage) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = json.loads(exported(compare, "JSON").read_text(encoding="utf-8"))["traces"]
    return turns


@pytest.mark.skipif(PAIR != "embedded", reason="asks the embedded pair")
@pytest.mark.parametrize("kind", ["number", "place", "tallest"])
def test_both_models_answer_about_an_uploaded_picture(compare: ComparePage, kind: str) -> None:
    path, question, expected = sample(kind)
    compare.attach(path)
    compare.ask(question)
    assert compare.answer(0) == expected
    assert compare.answer(1)
    for position in (0, 1):
        assert STATS.search(compare.stats(position)), compare.stats(position)
    facts = compare.facts
    expect(facts).to_contain_text(path.name)
    expect(facts).to_contain_text("same bytes to every column")
    expect(facts).to_contain_text(re.compile(r"\d+ image tokens in every column"))
    expect(compare.alarms).to_have_count(0)


@pytest.mark.skipif(PAIR != "embedded", reason="asks the embedded pair")
def test_an_example_answers_with_two_clicks(compare: ComparePage) -> None:
    compare.page.locator(".dt-example").first.click()
    expect(compare.thumbs).to_have_count(1)
    compare.page.get_by_role("button", name="Ask both").click()
    for position in (0, 1):
        compare.wait_over(position)
        assert compare.answer(position).startswith("The purple star is")


@pytest.mark.skipif(PAIR != "embedded", reason="asks the embedded pair")
def test_a_prompt_longer_than_the_context_is_told_in_both_columns(compare: ComparePage) -> None:
    prompt = "How many red shapes are there? " * 800
    compare.ask(prompt)
    for position in (0, 1):
        expect(compare.last(position, ".dt-fault")).to_contain_text(re.compile(r"the model's context (holds|of) 2048"))
        expect(compare.last(position, ".dt-fault")).to_contain_text("Shorten the prompt")
    expect(compare.last(0, ".dt-question")).to_contain_text("How many red shapes")
    compare.ask("What can you answer questions about?")  # the page goes on
    assert compare.answer(0)


def test_the_picture_is_shown_with_its_hash_and_zooms(compare: ComparePage) -> None:
    compare.choose_scripted()
    compare.attach(plain(1), plain(2))
    expect(compare.facts).to_contain_text("plain-1.png · 41 × 40 · 1 of 2")
    compare.ask("Which?")
    expect(compare.facts).to_contain_text("same bytes to every column")
    expect(compare.last(0, ".dt-question")).to_contain_text("Which? · 2 images")
    picture = compare.page.locator(".dt-picture")
    assert picture.evaluate("image => image.complete && image.naturalWidth") == 41
    assert picture.bounding_box() == compare.page.locator(".dt-stage").bounding_box()
    sha256 = compare.facts.locator("[title]").first.get_attribute("title")
    assert sha256 is not None
    assert re.fullmatch("[0-9a-f]{64}", sha256)
    compare.page.get_by_role("button", name="Picture 2: plain-2.png").click()
    expect(compare.facts).to_contain_text("plain-2.png · 42 × 40 · 2 of 2")
    compare.page.get_by_role("button", name="Zoom in").click()
    assert "scale(1.5)" in str(picture.get_attribute("style"))
    assert compare.page.locator(".dt-stage").evaluate("stage => getComputedStyle(stage).overflow") == "hidden"
    compare.page.get_by_role("button", name="Fit (0)").click()
    assert "scale(1)" in str(picture.get_attribute("style"))
    assert exported_turns(compare)[0]["images"][0]["sha256"] == sha256


def test_pictures_come_by_paste_and_by_drop(compare: ComparePage) -> None:
    for number, event in ((1, "paste"), (2, "drop")):
        data = base64.b64encode(plain(number)["buffer"]).decode()
        compare.page.evaluate(
            """([event, data, name]) => {
                const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
                const carried = new DataTransfer();
                carried.items.add(new File([bytes], name, {type: 'image/png'}));
                const made = event === 'paste' ? new ClipboardEvent(event, {clipboardData: carried, bubbles: true})
                  : new DragEvent(event, {dataTransfer: carried, bubbles: true, cancelable: true});
                document.querySelector('.dt-prompt').dispatchEvent(made);
            }""",
            [event, data, f"{event}.png"],
        )
        expect(compare.thumbs).to_have_count(number)
    expect(compare.facts).to_contain_text("paste.png · 41 × 40")


def test_a_turn_has_an_address_that_reopens_it(compare: ComparePage) -> None:
    compare.choose_scripted()
    compare.attach(plain(3))
    compare.ask("What colour is it, and will you remember?")
    trace = compare.trace_id()
    assert re.fullmatch("[0-9a-f]{32}", trace)
    before = [compare.answer(0), compare.answer(1), compare.stats(0)]
    compare.reload()
    assert [compare.answer(0), compare.answer(1), compare.stats(0)] == before
    expect(compare.facts).to_contain_text("plain-3.png")
    assert compare.trace_id() == trace
    expect(compare.page.get_by_role("link", name="Markdown")).to_be_visible()
    compare.start_anew()
    expect(compare.page.get_by_role("link", name="Markdown")).to_have_count(0)
    compare.page.locator(".dt-recent button", has_text="will you remember?").first.click()
    expect(compare.turns(0)).to_have_count(1)
    assert [compare.answer(0), compare.answer(1), compare.stats(0)] == before
    assert compare.trace_id() == trace
    expect(compare.column(1).locator(".dt-engine input")).to_have_value(re.compile("Scripted slow"))


def test_a_turn_that_is_not_stored_says_so_or_opens_an_empty_page(compare: ComparePage) -> None:
    compare.open("00000000000000000000000000000000")
    expect(compare.turns(0)).to_have_count(0)
    compare.choose_scripted()
    compare.ask("Does it still work?")
    assert compare.answer(0)


def test_exports_hold_what_was_asked_and_answered(compare: ComparePage) -> None:
    compare.choose_scripted()
    compare.attach(plain(4))
    compare.ask("What colour is it? `code` 我")
    (turn,) = exported_turns(compare)
    assert turn["prompt"] == "What colour is it? `code` 我"
    assert turn["images"][0]["name"] == "plain-4.png"
    assert [c["engine_id"] for c in turn["columns"]] == ["scripted/base", "scripted/slow"]
    for position, column in enumerate(turn["columns"]):
        answer = column["answer"]
        assert answer["text"].strip() == compare.answer(position)
        assert len(answer["token_ids"]) == len(answer["tokens"]) == answer["usage"]["output_tokens"]
        assert len(answer["tokens"][0]["top"]) == 20
        assert column["timing"]["ttft_ms"] > 0
    markdown = exported(compare, "Markdown").read_text(encoding="utf-8")
    for part in ("What colour is it? `code` 我", "The picture is RED.", "TTFT", "Scripted slow", "plain-4"):
        assert part in markdown


def test_a_follow_up_knows_what_was_said(compare: ComparePage) -> None:
    compare.choose_scripted()
    compare.attach(plain(5))
    compare.ask("What colour is it?")
    compare.ask("And now?")
    assert compare.turns(0).count() == compare.turns(1).count() == 2
    first, second = exported_turns(compare)
    assert second["parent_id"] == first["id"]
    assert second["conversation_id"] == first["conversation_id"]
    for column in (0, 1):
        assert second["columns"][column]["history"] == [first["columns"][column]["id"]]
    compare.reload()
    assert compare.turns(0).count() == 2
    expect(compare.facts).to_contain_text("plain-5.png")


def test_retry_makes_a_sibling_and_overwrites_nothing(compare: ComparePage) -> None:
    compare.choose_scripted()
    compare.ask("What colour is it?")
    other = compare.stats(1)
    compare.click(0, "Retry")
    expect(compare.siblings(0)).to_contain_text("2 of 2")
    compare.wait_over(0)
    expect(compare.last(1, ".dt-siblings")).to_have_count(0)
    assert compare.stats(1) == other
    compare.siblings(0).get_by_role("button", name="‹").click()
    expect(compare.siblings(0)).to_contain_text("1 of 2")
    assert compare.answer(0) == "The picture is RED."
    compare.reload()
    expect(compare.siblings(0)).to_contain_text("of 2")
    attempts = [(c["position"], c["attempt"], c["answer"]["text"]) for c in exported_turns(compare)[0]["columns"]]
    assert attempts == [(0, 1, "The picture is RED."), (0, 2, "The picture is RED."), (1, 1, "The picture is RED.")]


def test_the_sibling_that_is_looked_at_is_what_a_follow_up_rests_on(compare: ComparePage) -> None:
    compare.choose_scripted()
    for prompt in ("What colour is it?", "And which shape?"):
        compare.ask(prompt)
        compare.click(0, "Retry")
        expect(compare.siblings(0)).to_contain_text("2 of 2")
        compare.wait_over(0)
        compare.siblings(0).get_by_role("button", name="‹").click()
        expect(compare.siblings(0)).to_contain_text("1 of 2")
    expect(compare.turns(0).first.locator(".dt-siblings")).to_contain_text("1 of 2")
    compare.ask("And now?")
    first, second, third = exported_turns(compare)
    chosen = [turn["columns"][0]["id"] for turn in (first, second)]
    assert [turn["columns"][0]["attempt"] for turn in (first, second)] == [1, 1]
    assert next(c for c in third["columns"] if c["position"] == 0)["history"] == chosen


def test_edit_and_resend_keeps_the_old_turn(compare: ComparePage) -> None:
    compare.choose_scripted()
    compare.attach(plain(6))
    compare.ask("What colour was it before?")
    old = compare.trace_id()
    compare.turns(0).last.hover()
    compare.turns(0).last.get_by_role("button", name="Edit").click()
    expect(compare.prompt).to_have_value("What colour was it before?")
    expect(compare.thumbs).to_have_count(1)
    expect(compare.page.locator(".dt-editing")).to_contain_text("stays in the history")
    compare.send("What colour is it after?")
    expect(compare.last(0, ".dt-question")).to_contain_text("after?")
    compare.wait_over(0)
    compare.wait_over(1)
    assert compare.turns(0).count() == 1
    assert compare.trace_id() not in ("", old)
    compare.open(old)
    expect(compare.last(0, ".dt-question")).to_contain_text("before?")


def test_an_edit_can_be_cancelled(compare: ComparePage) -> None:
    compare.choose_scripted()
    compare.ask("Count up.")
    compare.turns(1).last.hover()
    compare.turns(1).last.get_by_role("button", name="Edit").click()
    compare.page.locator(".dt-editing").get_by_role("button", name="Cancel").click()
    expect(compare.prompt).to_have_value("")
    compare.ask("Go on.")
    assert compare.turns(0).count() == 2


def test_the_system_prompt_and_stop_strings_reach_the_engine(compare: ComparePage, scripted: Any) -> None:
    compare.choose_scripted()
    settings = compare.open_settings()
    compare.type_in(settings.get_by_label("System prompt"), "Be brief.")
    compare.type_in(settings.get_by_label("Stop strings"), "END")
    compare.type_in(settings.get_by_label("Seed"), "7")
    compare.ask("Count up.")
    # Scoring asks too, but for no stream.
    asked = [hit["body"] for hit in scripted.base.hits if hit["path"].endswith("chat/completions")]
    body = [found for found in asked if found.get("stream")][-1]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["stop"], body["seed"], body["temperature"]) == (["END"], 7, 0.0)
    assert "seed 7 · 1 stop string" in compare.stats(0)


@pytest.mark.skipif(PAIR != "embedded", reason="asks the embedded pair")
def test_real_engines_are_stopped_in_mid_answer(compare: ComparePage) -> None:
    # As hot as it goes and asked noise, a model that learned short answers rambles on; after some seeds at the latest.
    for position in (0, 1):
        compare.set_own(position, Temperature="2", Max_tokens="1800")
    for seed in range(8):
        for position in (0, 1):
            compare.type_in(compare.column(position).locator(".dt-own").get_by_label("Seed"), str(seed))
        turns = compare.turns(0).count()
        compare.send(NOISE)
        expect(compare.turns(0)).to_have_count(turns + 1)
        compare.page.keyboard.press("Escape")
        for position in (0, 1):
            compare.wait_over(position)
        if all("stopped" in compare.stats(position) for position in (0, 1)):
            break
    for position in (0, 1):
        expect(compare.last(position, ".dt-fault")).to_contain_text("Stopped. The text so far is kept.")
    kept = [compare.answer(position) for position in (0, 1)]
    compare.reload()
    assert [compare.answer(position) for position in (0, 1)] == kept


def test_a_question_asked_before_the_columns_are_there_is_sent_when_they_are(compare: ComparePage) -> None:
    held: list[Route] = []
    holding = True
    compare.page.route("**/queue/data*", lambda route: held.append(route) if holding else route.continue_())
    compare.page.reload()
    expect(compare.prompt).to_be_visible()
    compare.send("What can you answer questions about?")
    expect(compare.trouble).to_contain_text("still loading")
    expect(compare.prompt).to_have_value("What can you answer questions about?")
    holding = False
    for route in held:
        route.continue_()
    for position in range(2):
        expect(compare.turns(position)).to_have_count(1)
        compare.wait_over(position)
    expect(compare.prompt).to_have_value("")
    expect(compare.trouble).to_be_empty()
