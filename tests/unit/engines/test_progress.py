"""What a start says about itself, from lines of real logs."""

from __future__ import annotations

import pytest

from components.engines.progress import expected_fraction, stage_in_words

REAL = [
    "(APIServer pid=8398) INFO 11-21 01:40:08 [api_utils.py:286] non-default args: {'uds': 'e.sock'}",
    "(APIServer pid=8398) INFO 11-21 01:40:21 [model.py:733] Resolved architecture: PixtralForConditionalGeneration",
    "(EngineCore pid=8446) INFO 11-21 01:40:33 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: …",
    "(Worker pid=8524) INFO 11-21 01:40:46 [cpu_model_runner.py:68] Starting to load model folder...",
    "Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:00<00:00, 42.63it/s]",
    "(Worker pid=8524) INFO 11-21 01:40:46 [default_loader.py:501] Loading weights took 0.03 seconds",
    "(EngineCore pid=8446) INFO 11-21 01:40:47 [kv_cache_utils.py:2327] CPU KV cache size: 524,288 tokens, Maximum …",
    "(EngineCore pid=8446) INFO 11-21 01:40:48 [core.py:402] init engine (profile, create kv cache) took 0.71 s",
    "(APIServer pid=8398) INFO 11-21 01:40:49 [entry.py:140] Starting vLLM server on unix:e.sock",
]
WORDS = [
    "Starting Python and vLLM",
    "Reading the model's settings",
    "Checking the model's settings",
    "Starting the engine's processes",
    "Loading weights",
    "Loading weights, file 1 of 2",
    "Weights loaded",
    "Making room for the KV cache",
    "Warming up",
    "Opening the server",
]


@pytest.mark.parametrize(("count", "words"), list(enumerate(WORDS)))
def test_every_stage_of_a_real_log_has_words(count: int, words: str) -> None:
    assert stage_in_words(REAL[:count]) == words


def test_fraction_goes_by_the_clock_and_never_says_done() -> None:
    assert [expected_fraction(elapsed, 20) for elapsed in (0, 5, 20, 60)] == [0, 0.25, 0.95, 0.95]
    assert expected_fraction(1, 0) == 0.95
