"""The README's pictures: the real page with real answers, in light and dark, wide and narrow: `make screenshots`.

Starts the app on a free port with a state folder of its own, asks the base and the coarse model about one of the sample
pictures, and writes docs/screenshots/. Needs a Chromium (scripts/get_browser.py).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from get_browser import find_browser
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "screenshots"
SHOTS = (
    ("compare-light", 1440, 1040, "light"),
    ("compare-dark", 1440, 1040, "dark"),
    ("compare-phone", 400, 900, "light"),
    ("compare-phone-dark", 400, 900, "dark"),
)
READY_LIMIT_S = 900.0


def free_port() -> int:
    """A port nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(url: str, engines: int) -> None:
    """Until that many engines are ready to compare."""
    deadline = time.monotonic() + READY_LIMIT_S
    client: Client | None = None
    while time.monotonic() < deadline:
        try:
            client = client or Client(url, verbose=False)
            if sum(m["ready"] for m in client.predict(api_name="/models")) >= engines:
                return
        except (OSError, ValueError, httpx.TransportError):
            client = None
        time.sleep(1.0)
    raise SystemExit("The engines did not become ready.")


def ask(url: str) -> str:
    """Ask base and coarse about a picture, which starts the coarse one; the address of the turn."""
    picture = handle_file(ROOT / "assets" / "samples" / "four-shapes.png")
    options = {"columns": ["embedded/base", "embedded/coarse"]}
    trace = Client(url, verbose=False).predict("Describe the picture.", [picture], options, api_name="/compare")
    return f"{url}?trace={trace['id']}"


def shoot(browser: Browser, url: str, address: str, name: str, width: int, height: int, scheme: str) -> None:
    """One picture of a stored comparison."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(address)
    page.locator("#dt-divergence .dt-tok").first.wait_for(timeout=60_000)
    time.sleep(2.0)
    page.screenshot(path=TARGET / f"{name}.png")
    if name in ("compare-light", "compare-dark"):
        page.get_by_role("tab", name="Models").click()
        time.sleep(1.5)
        page.screenshot(path=TARGET / f"{name.replace('compare', 'models')}.png")
        page.get_by_role("tab", name="Quantize").click()
        page.get_by_role("button", name="Check").click()
        page.locator(".dt-preflight").wait_for(timeout=60_000)
        page.mouse.move(0, 0)
        time.sleep(1.0)
        page.screenshot(path=TARGET / f"{name.replace('compare', 'quantize')}.png")
    page.close()


@contextmanager
def ready_app() -> Iterator[tuple[Browser, str]]:
    """A browser, and the address of an app of its own that has the embedded pair ready."""
    executable = find_browser()
    if executable is None:
        raise SystemExit("There is no Chromium; see scripts/get_browser.py.")
    TARGET.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with tempfile.TemporaryDirectory(prefix="diptych-shots-", dir=Path.home()) as state:
        app = subprocess.Popen([sys.executable, str(ROOT / "app.py"), "--port", str(port), "--state-dir", state])
        try:
            wait_until_ready(url, 2)
            sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=executable, args=sandbox)
                yield browser, url
                browser.close()
        finally:
            app.terminate()
            app.wait(60)


def main() -> int:
    """Make all pictures."""
    with ready_app() as (browser, url):
        address = ask(url)
        for shot in SHOTS:
            shoot(browser, url, address, *shot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
