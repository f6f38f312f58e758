"""The embedded model's scripts are no package: their folder joins the import path for these tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts" / "embedded"))
