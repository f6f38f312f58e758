"""Finds a Chromium for the browser tests, or gets one: Debian's package as root, else Playwright's own build.

Prints the path of the browser, or why there is none; always ends with 0, for a missing browser is a skip that the
tests explain, not a failure of the set-up.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> str | None:
    """Path of an installed Chromium: the one named in DIPTYCH_BROWSER, the system's, or Playwright's."""
    named = os.environ.get("DIPTYCH_BROWSER")
    if named:
        return named
    for name in NAMES:
        path = shutil.which(name)
        if path:
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install_browser() -> str:
    """Try to get one; what went wrong, in words, or an empty string."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                return f"{' '.join(command)}: {done.stderr.strip()[-300:]}"
        return ""
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{' '.join(command[2:])}: {done.stderr.strip()[-300:]}" if done.returncode else ""


def main() -> int:
    """Find or get a browser and say which."""
    path = find_browser()
    if path is None:
        trouble = install_browser()
        path = find_browser()
        if path is None:
            print(f"No Chromium: the browser tests will be skipped. {trouble}")
            return 0
    print(f"Browser: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
