"""All suites of a benchmark from the page, as a person starts them, and pictures of every chart with what they gave.

    python scripts/benchmark_from_page.py [--candidate coarse] [--usd-per-hour 1]

Starts the app with the embedded pair in a state folder of its own, presses Start on the Benchmarks tab, cancels the job
in the middle and retries it (it goes on where it was), and prints how long the whole took (target: under 10 minutes on
two CPU cores). Then reads the model card for its sections, and writes docs/screenshots/benchmarks-*.png.
"""

from __future__ import annotations

import argparse
import io
import sys
import time

from PIL import Image
from playwright.sync_api import Browser, Page, expect
from screenshots import TARGET, ready_app

JOB_LIMIT_MS = 900_000.0
SHOTS = (("light", 1440), ("dark", 1440), ("light", 400), ("dark", 400))


def measure(page: Page, candidate: str, usd_per_hour: str) -> float:
    """Start, cancel in the middle, retry, wait for the end; minutes of measuring."""
    page.get_by_role("tab", name="Benchmarks").click()
    page.get_by_label("Candidate").select_option(f"embedded/{candidate}")
    page.get_by_text("Change what is measured").click()
    page.get_by_label("USD per hour").fill(usd_per_hour)
    started_s = time.monotonic()
    page.get_by_role("button", name="Start", exact=True).click()
    listed = page.locator("#dt-benchmarks-jobs .dt-job").first
    expect(listed).to_have_attribute("data-state", "RUNNING", timeout=120_000)
    page.wait_for_timeout(60_000)
    print(f"after a minute the page says: {' '.join(listed.inner_text().split())[:200]}")
    listed.get_by_role("button", name="Cancel").click()
    expect(listed).to_have_attribute("data-state", "STOPPED", timeout=60_000)
    listed.get_by_role("button", name="Retry").click()
    expect(page.locator("#dt-benchmarks-jobs .dt-job[data-state=SUCCEEDED]")).to_have_count(1, timeout=JOB_LIMIT_MS)
    minutes = (time.monotonic() - started_s) / 60
    expect(page.locator(".dt-result")).to_contain_text("recovery is", timeout=15_000)
    return minutes


def sections_of_card(page: Page) -> list[str]:
    """The headings of the model card that the page shows."""
    page.get_by_role("button", name="Model card").click()
    card = page.get_by_role("dialog")
    expect(card.locator(".dt-card-view h2").first).to_be_visible(timeout=60_000)
    found = card.locator(".dt-card-view :is(h1, h2)").all_inner_texts()
    page.keyboard.press("Escape")
    return found


def shoot(browser: Browser, url: str, scheme: str, width: int) -> list[str]:
    """The whole tab, everything unfolded; the names of the charts on it."""
    page = browser.new_page(viewport={"width": width, "height": 1000}, color_scheme=scheme, reduced_motion="reduce")
    page.goto(url)
    page.get_by_role("tab", name="Benchmarks").click()
    page.locator("[data-chart]").first.wait_for(timeout=60_000)
    charts = page.locator("[data-chart]").all()
    for chart in charts:  # each is drawn when it is seen
        chart.scroll_into_view_if_needed()
        expect(chart.locator(".main-svg").first).to_be_visible(timeout=60_000)
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(1000)
    target = TARGET / f"benchmarks-{scheme}{'' if width > 1000 else '-phone'}.png"
    with Image.open(io.BytesIO(page.screenshot(full_page=True))) as picture:
        # A third of the bytes: the pictures are in the repository.
        picture.convert("RGB").quantize(256).save(target, optimize=True)
    names = [str(chart.get_attribute("data-chart")) for chart in charts]
    page.close()
    return names


def main(options: argparse.Namespace) -> int:
    """Measure and take the pictures; 1 where it took ten minutes or more."""
    with ready_app() as (browser, url):
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.goto(url)
        minutes = measure(page, options.candidate, options.usd_per_hour)
        print(f"all suites from the page, cancelled once and retried: {minutes:.1f} minutes (target 10)")
        print(f"sections of the card: {', '.join(sections_of_card(page))}")
        for scheme, width in SHOTS:
            print(f"{scheme}, {width}: {', '.join(shoot(browser, url, scheme, width))}")
    return int(minutes >= 10)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidate", default="coarse", help="a candidate of the embedded pair")
    parser.add_argument("--usd-per-hour", default="1", help="price of this machine, for the cost charts")
    sys.exit(main(parser.parse_args()))
