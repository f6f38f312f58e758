"""F38: text of models and strangers is only ever text: no script runs, nothing is fetched, nothing covers the page."""

from __future__ import annotations

import json

import httpx
from playwright.sync_api import Page, expect

from tests.browser.compare_page import ComparePage
from tests.browser.pictures import file, plain
from tests.browser.scripted import HOSTILE, HOSTILE_LINES

# `compare` itself asserts, after each test, that no script failed, no dialog opened and no foreign address was asked.


def assert_not_fooled(page: Page) -> None:
    page.wait_for_timeout(500)  # an onerror needs a moment to fire
    assert page.evaluate("window.diptychWasFooled === undefined")
    found = page.evaluate("""() => [...document.querySelectorAll('.dt-turn, .dt-recent, .dt-notices, .dt-thumb')]
        .flatMap(n => [...n.querySelectorAll('script, iframe, form, style, svg, math, object, embed, link, img, a')])
        .filter(n => !n.closest('.dt-thumb') && !n.closest('.dt-turn-links')).map(n => n.outerHTML)""")
    assert found == []
    assert page.evaluate("getComputedStyle(document.body).display") != "none"


def test_f38_a_hostile_prompt_is_shown_as_it_is(compare: ComparePage) -> None:
    compare.choose_scripted()
    compare.ask(HOSTILE)
    for position in (0, 1):
        assert compare.last(position, ".dt-question").inner_text() == HOSTILE
    assert_not_fooled(compare.page)
    compare.reload()
    assert compare.last(0, ".dt-question").inner_text() == HOSTILE
    assert_not_fooled(compare.page)


def test_f38_a_hostile_answer_streams_in_as_text(compare: ComparePage) -> None:
    compare.choose_scripted()
    compare.ask("Be hostile")
    assert_not_fooled(compare.page)
    rendered = compare.answer(0)
    for harmless in ("click me", "${window.diptychWasFooled=1}", "{{constructor.constructor("):
        assert harmless in rendered
    compare.column(0).get_by_role("button", name="Raw").click()
    expect(compare.last(0, ".dt-answer")).to_have_text(HOSTILE, use_inner_text=True)
    assert_not_fooled(compare.page)


def test_f38_a_hostile_record_is_shown_as_text(compare: ComparePage) -> None:
    compare.open("hostile2")
    expect(compare.turns(0)).to_have_count(2)
    assert compare.turns(0).first.locator(".dt-question").inner_text() == HOSTILE
    assert compare.last(0, ".dt-question").inner_text() == HOSTILE_LINES[0]
    assert_not_fooled(compare.page)


def test_f38_the_history_lists_hostile_prompts_as_text(compare: ComparePage) -> None:
    item = compare.page.locator(".dt-recent button", has_text=HOSTILE_LINES[0]).first
    assert HOSTILE_LINES[0] in item.inner_text()
    assert_not_fooled(compare.page)
    compare.page.locator(".dt-recent button").filter(has_text=HOSTILE_LINES[0]).last.click()
    expect(compare.turns(0).first).to_be_visible()
    assert_not_fooled(compare.page)


def test_f38_exports_of_a_hostile_record_stay_inert(compare: ComparePage) -> None:
    answer = httpx.get(f"{compare.url}traces/hostile2.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert json.loads(answer.text)["traces"][0]["columns"][0]["answer"]["text"] == HOSTILE
    markdown = httpx.get(f"{compare.url}traces/hostile2.md")
    assert markdown.headers["content-type"].startswith("text/markdown")
    assert markdown.headers["content-disposition"].startswith("attachment")
    assert "\u202e" not in markdown.text
    assert not [line for line in outside_fences(markdown.text) if "<img" in line or "](javascript" in line]


def outside_fences(markdown: str) -> list[str]:
    """Lines that a Markdown reader would take as markup."""
    fence, lines = "", []
    for line in markdown.splitlines():
        ticks = line[: len(line) - len(line.lstrip("`"))]
        if not fence and len(ticks) >= 3:
            fence = ticks
        elif fence and line == fence:
            fence = ""
        elif not fence:
            lines.append(line)
    return lines


def test_f38_hostile_file_names_are_text(compare: ComparePage) -> None:
    name = '"><img src=x onerror=window.diptychWasFooled=1>${1}.png'
    compare.attach(file(name, plain(3)["buffer"]))
    expect(compare.facts).to_contain_text("onerror=window.diptychWasFooled=1>${1}.png")
    compare.choose_files(file(name, b"text"))
    expect(compare.trouble).to_contain_text("${1}.png")
    assert_not_fooled(compare.page)


def test_f38_a_hostile_refusal_is_text(compare: ComparePage) -> None:
    compare.set_own(0, Seed=HOSTILE_LINES[0])
    compare.send("Hello")
    expect(compare.trouble).to_contain_text("seed is not acceptable")
    assert_not_fooled(compare.page)
