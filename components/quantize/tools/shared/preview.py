"""What a calibration set will hold: ``python -m components.quantize.tools.shared.preview spec.json``, JSON on stdout.

A process of its own, because it opens pictures and text of strangers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from components.jobs.tool_reporting import ScriptError
from components.quantize.tools.shared.calibration import build
from components.quantize.tools.shared.coders import load_coder

_SHOWN = 5
_SHOWN_CHARACTERS = 2000


def preview(settings: dict[str, Any], model_folder: Path) -> dict[str, Any]:
    """Counts, lengths, and the first samples as text."""
    found = build(settings, model_folder)
    coder = load_coder(model_folder)
    shown = [
        {
            "tokens": len(sample.ids),
            "pictures": [[int(side) for side in picture.shape[1:]] for picture in sample.pictures],
            "text": coder.decode(sample.ids)[:_SHOWN_CHARACTERS],
        }
        for sample in found.samples[:_SHOWN]
    ]
    return {**found.record(), "lengths": found.lengths(), "shown": shown}


def main() -> int:
    """Prints the preview, or the reason why there is none."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        answer = preview(spec["calibration"], Path(spec["model"]))
    except ScriptError as exc:
        answer = {"failure": str(exc), "field": exc.field}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
