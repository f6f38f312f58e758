"""What a starting server is doing, from its log (vLLM 0.32), and how far it is, from the clock. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ALMOST = 0.95  # an estimate never says "done"

# Later stages stand later; the last stage that the log has reached is shown.
_STAGES = (
    (r"vLLM API server version|version \d+\.\d+|non-default args", "Reading the model's settings"),
    (r"Downloading|Fetching \d+ files", "Downloading the model"),
    (r"Resolved architecture", "Checking the model's settings"),
    (r"Initializing a V1 LLM engine", "Starting the engine's processes"),
    (r"Starting to load model", "Loading weights"),
    (r"Loading weights took|Model loading took", "Weights loaded"),
    (r"torch\.compile takes|Compiling a graph|Dynamo bytecode transform", "Compiling"),
    (r"KV cache size|Available KV cache memory", "Making room for the KV cache"),
    (r"Capturing CUDA graph|Graph capturing", "Recording CUDA graphs"),
    (r"init engine .* took", "Warming up"),
    (r"Starting vLLM (?:API )?server", "Opening the server"),
)
_SHARDS = re.compile(r"Loading (?:safetensors|pt) checkpoint shards:.*\| (\d+)/(\d+)")


def stage_in_words(lines: Sequence[str]) -> str:
    """The latest stage that the log shows; the first words when it shows none."""
    text = "\n".join(lines)
    reached = "Starting Python and vLLM"
    for pattern, words in _STAGES:
        if re.search(pattern, text):
            reached = words
    if reached == "Loading weights" and (shards := _SHARDS.findall(text)):
        return f"Loading weights, file {shards[-1][0]} of {shards[-1][1]}"
    return reached


def expected_fraction(elapsed_s: float, expected_s: float) -> float:
    """How much of a start is over, 0..1, going by how long it usually takes (both in s)."""
    return round(min(elapsed_s / max(expected_s, 0.1), _ALMOST), 2)
