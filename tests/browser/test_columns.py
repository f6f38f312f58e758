"""Columns: independent, stoppable, up to four, each with an engine and parameters of its own."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Locator, expect

from tests.browser.compare_page import ComparePage
from tests.browser.scripted import MARKDOWN, ScriptedEngines
from tests.running_app import wait_until


def test_the_fast_column_never_waits_for_the_slow_one(compare: ComparePage, scripted: ScriptedEngines) -> None:
    compare.choose_scripted()
    scripted.slow_down()
    compare.send("Count up.")
    compare.wait_over(0)
    expect(compare.last(1, ".dt-answer")).to_contain_text("w2")
    assert compare.last(1, ".dt-stats").inner_text() == ""
    assert compare.last(1, ".dt-wait").inner_text() == ""
    compare.page.get_by_role("button", name="Stop", exact=True).last.click()
    compare.wait_over(1)


def test_stop_in_mid_answer_keeps_the_text(compare: ComparePage, scripted: ScriptedEngines) -> None:
    compare.choose_scripted()
    scripted.slow_down()
    compare.send("Count up.")
    expect(compare.last(1, ".dt-answer")).to_contain_text("w3")
    compare.page.locator(".dt-stop").click()
    expect(compare.last(1, ".dt-fault")).to_contain_text("Stopped. The text so far is kept.")
    kept = compare.answer(1)
    assert kept.startswith("w0 grün w2 w3")
    assert "stopped" in compare.stats(1)
    expect(compare.ask_button).to_be_visible()
    wait_for_no_stream(scripted)
    compare.reload()
    expect(compare.last(1, ".dt-answer")).to_have_text(kept)
    expect(compare.last(1, ".dt-fault")).to_contain_text("Stopped.")


def test_no_new_conversation_in_mid_answer(compare: ComparePage, scripted: ScriptedEngines) -> None:
    compare.choose_scripted()
    scripted.slow_down()
    compare.send("Count up.")
    expect(compare.last(1, ".dt-answer")).to_contain_text("w3")
    new = compare.page.get_by_role("button", name="New", exact=True)
    expect(new).to_be_disabled()
    compare.page.locator(".dt-stop").click()
    expect(new).to_be_enabled()
    compare.start_anew()
    compare.send("Count up again.")
    expect(compare.turns(1)).to_have_count(1)
    expect(compare.last(1, ".dt-answer")).to_contain_text("w1")


def wait_for_no_stream(scripted: ScriptedEngines) -> None:
    """F61: the engine was told, too."""
    wait_until("the engine's request is closed", lambda: scripted.slow.open_streams == 0, 5.0)


def test_one_column_can_be_stopped_alone(compare: ComparePage, scripted: ScriptedEngines) -> None:
    compare.choose_engine(0, "Scripted slow")
    compare.choose_engine(1, "Scripted slow")
    scripted.slow_down(itl_s=0.1, tokens=120)
    compare.send("Count up.")
    expect(compare.last(0, ".dt-answer")).to_contain_text("w2")
    compare.click(0, "Stop")
    expect(compare.last(0, ".dt-fault")).to_contain_text("Stopped.")
    compare.wait_over(1)
    assert "w119" in compare.answer(1)
    assert "w119" not in compare.answer(0)


def test_escape_stops_all_columns(compare: ComparePage, scripted: ScriptedEngines) -> None:
    compare.choose_engine(0, "Scripted slow")
    compare.choose_engine(1, "Scripted slow")
    scripted.slow_down()
    compare.send("Count up.")
    for position in (0, 1):
        expect(compare.last(position, ".dt-answer")).to_contain_text("w2")
    compare.page.keyboard.press("Escape")
    for position in (0, 1):
        expect(compare.last(position, ".dt-fault")).to_contain_text("Stopped.")


def test_f61_closing_the_page_ends_the_engines_work(compare: ComparePage, scripted: ScriptedEngines) -> None:
    compare.choose_scripted()
    scripted.slow_down()
    compare.send("Count up.")
    expect(compare.last(1, ".dt-answer")).to_contain_text("w3")
    trace = compare.trace_id()
    compare.page.goto("about:blank")
    wait_for_no_stream(scripted)
    compare.open(trace)
    expect(compare.last(1, ".dt-answer")).to_contain_text("w3")
    expect(compare.last(1, ".dt-fault")).to_contain_text("Stopped.")


def test_f01_a_broken_answer_keeps_its_text_and_says_so(compare: ComparePage, scripted: ScriptedEngines) -> None:
    compare.choose_scripted()
    scripted.slow_down(itl_s=0.05, mode="abort", abort_after=4)
    compare.ask("Count up.")
    assert compare.answer(1).startswith("w0 grün w2 w3")
    expect(compare.last(1, ".dt-fault")).to_contain_text("broke")
    assert "truncated" in compare.stats(1)
    assert "stop" in compare.stats(0)
    expect(compare.last(0, ".dt-fault")).to_be_hidden()


def click_until(button: Locator, done: Callable[[], bool]) -> None:
    """Click as a person does: once, and again when nothing came of it. Gradio drops a click that comes while the one
    before is being finished."""
    for _ in range(10):
        if done():
            return
        button.click()
        for _ in range(20):
            if done():
                return
            button.page.wait_for_timeout(100)
    raise AssertionError("ten clicks did nothing")


def test_up_to_four_columns_and_the_same_engine_twice(compare: ComparePage) -> None:
    add = compare.page.get_by_role("button", name="+ column")
    for position in (2, 3):
        click_until(add, lambda position=position: compare.column(position).is_visible())
    expect(add).to_be_disabled()
    for position in range(4):
        compare.choose_engine(position, "Scripted base")
    expect(compare.ask_button).to_have_text("Ask all 4")
    compare.ask("Count up.", columns=4)
    assert {compare.answer(position) for position in range(4)} == {compare.answer(0)}
    compare.reload()
    expect(compare.column(3)).to_be_visible()
    assert compare.answer(3) == compare.answer(0)
    remove = compare.page.get_by_role("button", name="− column")
    for position in (3, 2, 1):
        click_until(remove, lambda position=position: compare.column(position).is_hidden())
    expect(remove).to_be_disabled()
    expect(compare.ask_button).to_have_text("Ask")


def test_own_parameters_of_a_column_raise_an_alarm(compare: ComparePage) -> None:
    compare.choose_scripted()
    compare.set_own(1, Max_tokens="3", Temperature="0.7")
    compare.ask("Count up.")
    assert len(compare.answer(1).split()) == 3
    assert "temperature 0.7 · top-p 1 · at most 3 tokens" in compare.stats(1)
    expect(compare.alarms).to_contain_text(["Settings differ between the columns (temperature, max tokens)"])
    compare.reload()
    expect(compare.alarms).to_contain_text(["Settings differ between the columns (temperature, max tokens)"])


def test_a_bad_own_parameter_is_named_and_nothing_is_lost(compare: ComparePage) -> None:
    compare.set_own(1, Temperature="hot")
    compare.send("Is it hot?")
    expect(compare.trouble).to_contain_text("temperature is not acceptable")
    expect(compare.trouble).to_contain_text("Accepted: 0 to 2.")
    expect(compare.prompt).to_have_value("Is it hot?")
    assert compare.turns(0).count() == 0


def test_a_candidate_that_equals_its_base_to_the_bit_is_an_alarm(compare: ComparePage) -> None:
    compare.choose_scripted()
    compare.ask("Count up.")
    expect(compare.alarms).to_contain_text(["Scripted slow: every log-probability is bit-identical to the base's."])


def test_a_column_is_maximised_and_restored(compare: ComparePage) -> None:
    compare.column(1).get_by_role("button", name="Maximise").click()
    expect(compare.column(0)).to_be_hidden()
    wide = compare.column(1).bounding_box()
    assert wide is not None
    assert wide["width"] > 900
    compare.column(1).get_by_role("button", name="Restore").click()
    expect(compare.column(0)).to_be_visible()


def test_raw_and_rendered_view(compare: ComparePage) -> None:
    compare.choose_scripted()
    compare.ask("Be pretty")
    answer = compare.last(0, ".dt-answer")
    expect(answer.locator("strong")).to_have_text("bold")
    expect(answer.locator("li")).to_have_count(2)
    compare.column(0).get_by_role("button", name="Raw").click()
    expect(answer).to_have_text(MARKDOWN, use_inner_text=True)
    expect(answer.locator("strong")).to_have_count(0)
    expect(compare.last(1, ".dt-answer").locator("strong")).to_have_text("bold")
    compare.column(0).get_by_role("button", name="Rendered").click()
    expect(answer.locator("strong")).to_have_text("bold")


def test_the_label_tells_everything_about_the_engine(compare: ComparePage) -> None:
    compare.column(1).get_by_role("button", name="Label").click()
    sheet = compare.page.get_by_role("dialog")
    for row in ("Scheme", "Stayed unquantized", "Revision", "Engine", "KV cache", "Context", "Sight check"):
        expect(sheet.get_by_role("rowheader", name=row, exact=True)).to_be_visible()
    expect(sheet).to_contain_text(re.compile("Sight check.*sees"))
    compare.page.keyboard.press("Escape")
    expect(sheet).to_have_count(0)
