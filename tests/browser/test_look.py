"""Equal in light and dark, usable at 400 px, understood by keyboard."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.compare_page import ComparePage
from tests.browser.pictures import plain
from tests.running_app import RunningApp

# Colour of the text against the first painted background below it, as WCAG counts.
CONTRAST = """selectors => selectors.map(selector => {
  const node = [...document.querySelectorAll(selector)].find(n => n.offsetParent !== null || n.getClientRects().length);
  if (!node) return [selector, null];
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number)
    .map((v, i) => text.startsWith("color(srgb") && i < 3 ? v * 255 : v);  // what color-mix() computes to
  const over = ([r, g, b, a = 1], below) => [r, g, b].map((c, i) => c * a + below[i] * (1 - a));
  const layers = [];
  for (let n = node; n; n = n.parentElement) {
    const colour = parse(getComputedStyle(n).backgroundColor);
    if (colour.length) layers.push(colour);
    if ((colour[3] ?? 1) === 1 && colour.length) break;
  }
  let ground = [255, 255, 255];
  for (const layer of layers.reverse()) ground = over(layer, ground);
  const text = over(parse(getComputedStyle(node).color), ground);
  const light = c => { const v = c / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const luminance = c => 0.2126 * light(c[0]) + 0.7152 * light(c[1]) + 0.0722 * light(c[2]);
  const [high, low] = [luminance(text), luminance(ground)].sort((a, b) => b - a);
  return [selector, (high + 0.05) / (low + 0.05)];
})"""

MAIN_TEXTS = [
    ".dt-question", ".dt-answer", ".dt-stats", ".dt-title b", ".dt-title .dt-soft", ".dt-chip", ".dt-prompt", ".dt-go",
    ".dt-btn", ".dt-link", ".dt-alarm", ".dt-facts", ".dt-fault span", ".dt-recent button", ".dt-recent time",
    "#dt-tabs button[role=tab]", "#dt-settings button", "#dt-count button", ".dt-engine input", ".dt-turn-links a",
]  # fmt: skip


def open_page(browser: Browser, app: RunningApp, width: int, scheme: str, trace: str = "") -> ComparePage:
    context = browser.new_context(viewport={"width": width, "height": 850}, color_scheme=scheme)  # type: ignore[arg-type]
    context.set_default_timeout(30_000)
    compare = ComparePage(context.new_page(), app.url)
    compare.open(trace)
    return compare


# Controls in sight that a screen reader could only call "button".
NAMELESS = """() => [...document.querySelectorAll('button, input, textarea, select, a[href]')]
        .filter(n => n.checkVisibility() && !n.closest('[aria-hidden=true]') &&
          !(n.innerText || n.getAttribute('aria-label') || n.title || n.placeholder || n.labels?.length ||
            n.getAttribute('aria-labelledby')))
        .map(n => n.outerHTML.slice(0, 160))"""


def overflow(page: Page) -> Any:
    """How far the page can be scrolled sideways, and what sticks out."""
    return page.evaluate("""() => {
        const wide = document.documentElement.clientWidth;
        const out = [...document.querySelectorAll('body *')].filter(n => n.checkVisibility() &&
          n.getBoundingClientRect().right > wide + 1 && !n.closest('.dt-examples, .dt-strip, pre, .cm-editor'));
        window.scrollTo(500, 0);
        const scrolled = window.scrollX; window.scrollTo(0, 0);
        return scrolled ? [scrolled, ...out.slice(0, 5).map(n => n.tagName + '.' + n.className)] : [];
    }""")


@pytest.fixture(scope="module")
def conversation(browser: Browser, app: RunningApp) -> str:
    """A stored turn with an alarm, a stopped-looking answer and everything else that is coloured."""
    compare = open_page(browser, app, 1440, "light")
    compare.choose_scripted()
    compare.ask("Count up with a long question, " + "so that lines must break somewhere " * 4 + "x" * 90)
    trace = compare.trace_id()
    compare.page.context.close()
    return trace


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_main_text_has_contrast(browser: Browser, app: RunningApp, conversation: str, scheme: str) -> None:
    compare = open_page(browser, app, 1440, scheme, conversation)
    expect(compare.alarms.first).to_be_visible()
    found = dict(compare.page.evaluate(CONTRAST, MAIN_TEXTS))
    paper = compare.page.evaluate("getComputedStyle(document.body).backgroundColor")
    print(scheme, paper, {name: value and round(value, 2) for name, value in found.items()})
    missing = {name for name, value in found.items() if value is None} - {".dt-fault span"}
    assert not missing
    assert {name: value for name, value in found.items() if value is not None and value < 4.5} == {}
    red = int(paper.removeprefix("rgb(").split(",")[0])
    assert red > 200 if scheme == "light" else red < 60
    compare.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 320, 1440])
def test_no_sideways_scrolling(browser: Browser, app: RunningApp, conversation: str, width: int, scheme: str) -> None:
    compare = open_page(browser, app, width, scheme, conversation)
    assert overflow(compare.page) == []
    compare.open_settings()
    assert overflow(compare.page) == []
    compare.page.get_by_role("tab", name="Models").click()
    expect(compare.page.locator(".dt-engine-row").first).to_be_visible()
    assert overflow(compare.page) == []
    assert compare.errors == []
    compare.page.context.close()


def test_a_phone_can_do_the_main_job(browser: Browser, app: RunningApp) -> None:
    compare = open_page(browser, app, 400, "dark")
    compare.choose_scripted()
    compare.attach(plain(1))
    for part in (compare.prompt, compare.ask_button, compare.page.get_by_role("button", name="+ image")):
        box = part.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 400
        assert box["y"] + box["height"] <= 850
        assert box["height"] >= 34
    compare.prompt.fill("What colour?")
    compare.ask_button.click()
    compare.wait_over(0)
    compare.wait_over(1)
    assert compare.answer(1) == "The picture is RED."
    assert overflow(compare.page) == []
    compare.page.context.close()


def test_keys(compare: ComparePage) -> None:
    page = compare.page
    page.locator("body").click(position={"x": 700, "y": 5})
    page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keys")
    expect(sheet).to_contain_text("Stop all columns")
    page.keyboard.press("Escape")
    expect(sheet).to_have_count(0)
    page.keyboard.press("/")
    expect(compare.prompt).to_be_focused()
    expect(compare.prompt).to_have_value("")
    page.keyboard.type("a/b?")
    expect(compare.prompt).to_have_value("a/b?")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    expect(compare.prompt).to_have_value("a/b?\nsecond line")
    assert compare.turns(0).count() == 0


def test_a_draft_survives_a_reload(compare: ComparePage) -> None:
    compare.prompt.press_sequentially("What I was about to ask")
    compare.reload()
    expect(compare.prompt).to_have_value("What I was about to ask")


def test_every_control_has_a_name(compare: ComparePage) -> None:
    assert compare.page.evaluate(NAMELESS) == []
