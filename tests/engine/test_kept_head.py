"""vLLM on a CPU empties an output projection that it takes for a linear layer; the extension keeps its weight."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.engine.serving import HOOK

pytestmark = pytest.mark.engine
SCRIPT = """
import torch
from diptych_scoring import jobs
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

jobs.keep_heads()
head = ParallelLMHead.__new__(ParallelLMHead)  # its constructor wants a distributed group
torch.nn.Module.__init__(head)
weight = torch.randn(512, 64, dtype=torch.bfloat16)
head.weight = torch.nn.Parameter(weight, requires_grad=False)
method = UnquantizedLinearMethod.__new__(UnquantizedLinearMethod)
UnquantizedLinearMethod.process_weights_after_loading(method, head)
kept = getattr(head, jobs.KEPT_HEAD, head.weight)
print("emptied" if head.weight.numel() == 0 else "whole", torch.equal(kept, weight))
"""


def test_the_weight_is_kept() -> None:
    env = {**os.environ, "PYTHONPATH": str(HOOK)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.split()[-2:] == ["emptied", "True"], done.stderr[-2000:]
