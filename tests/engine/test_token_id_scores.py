"""The method stock against vLLM's own schema and encoder, as far as a CPU can show it: its V2 runner needs a GPU.

That its V1 runner refuses the request is seen in ``test_app_api.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.engines import token_id_scores
from components.engines.exact_scoring import PathTokens
from components.engines.token_id_scores import read_scores, stock_rows
from components.engines.transport import EngineClient
from tests.engine.serving import HOOK
from tests.unit.engines.test_token_id_scores import npy

SCORES = [[-0.5, -1.5], [-0.25, -2.5]]
PARSE = """
import json, sys
import numpy as np
from vllm.entrypoints.scale_out.token_in_token_out.protocol import GenerateRequest, GenerateTokensResponse
from vllm.utils.serial_utils import numpy2base64

given = json.load(sys.stdin)
found = []
for body in given["bodies"]:
    request = GenerateRequest.model_validate(body)
    parameters = request.sampling_params
    ids = parameters.prompt_logprob_token_ids
    found.append({
        "token_ids": list(request.token_ids), "max_tokens": parameters.max_tokens, "k": parameters.prompt_logprobs,
        "start": parameters.prompt_logprob_start, "ids": None if ids is None else np.array(ids).tolist(),
    })
scores = numpy2base64(np.array(given["scores"], dtype=np.float32))
answer = GenerateTokensResponse(choices=[{"index": 0, "token_ids": [5]}], prompt_token_id_logprobs=scores)
print("PARSED", json.dumps([found, answer.model_dump(mode="json")]))
"""


async def test_the_requests_are_what_vllm_takes_and_its_answer_is_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, bodies = PathTokens((1, 2), (3, 4), salt="s"), []

    async def answer(_client: object, _route: str, body: dict[str, Any]) -> dict[str, Any]:
        bodies.append(body)
        rows = [{str(t): {"logprob": -1.0, "rank": 1}, "90": {"logprob": -2.0, "rank": 2}} for t in (2, 3, 4)]
        return {"prompt_token_ids": body["token_ids"], "prompt_logprobs": [None, *rows], **npy(SCORES)}

    monkeypatch.setattr(token_id_scores, "post_json", answer)
    client = EngineClient("m", uds=tmp_path / "s")
    await stock_rows(client, client, path)
    done = subprocess.run(
        [sys.executable, "-c", PARSE], input=json.dumps({"bodies": bodies, "scores": SCORES}), capture_output=True,
        text=True, timeout=300, check=False, env={**os.environ, "PYTHONPATH": str(HOOK)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (listing, scoring), told = json.loads(done.stdout.split("PARSED ")[1])
    assert listing == {"token_ids": [1, 2, 3, 4], "max_tokens": 1, "k": 255, "start": None, "ids": None}
    # Row i is about prompt token start + i + 1, so there must be prompt_len - 1 - start of them (input_processor.py).
    assert scoring == {
        "token_ids": [1, 2, 3, 4], "max_tokens": 1, "k": None, "start": 1, "ids": [[3, 90], [4, 90]],
    }  # fmt: skip
    np.testing.assert_array_equal(read_scores("m", told, (2, 2)), np.array(SCORES, dtype=np.float32))
