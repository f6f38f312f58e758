"""Seconds until the page is served, with engines loading behind it and in recorded mode, in turns.

python scripts/bench_start.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.running_app import RunningApp, new_state_dir  # noqa: E402

WAYS = {"with engines": (), "recorded": ("--recorded",)}


def seconds_to_page(*arguments: str) -> float:
    """Start an app with an empty state folder and end it again."""
    app = RunningApp(new_state_dir(), *arguments).start()
    try:
        return app.wait_for_page()
    finally:
        app.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = range(parser.parse_args().rounds)
    taken = {name: [] for name in WAYS}
    for _ in rounds:
        for name, arguments in WAYS.items():
            taken[name].append(seconds_to_page(*arguments))
    for name, values in taken.items():
        print(f"{name:13} median {statistics.median(values):.1f} s of {', '.join(f'{v:.1f}' for v in values)}")
