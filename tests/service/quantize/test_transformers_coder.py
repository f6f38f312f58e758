"""Models without tekken.json are coded by transformers: text, chats by the model's own template, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.quantize.service import run_preview
from components.quantize.tools.shared.calibration import build
from components.quantize.tools.shared.coders import load_coder
from components.quantize.tools.shared.rows import Row

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.service
WORDS = ["<s>", "</s>", "<unk>", "user", "assistant", ":", "The", "sea", "is", "wide", "."]
TEMPLATE = "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} </s> {% endfor %}"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a tokenizer of eleven words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(tmp_path)
    return tmp_path


def test_text_ends_and_chats_follow_the_template(model: Path) -> None:
    coder = load_coder(model)
    assert coder.start == [0]
    assert coder.encode(Row(text="The sea is wide .")).ids == [6, 7, 8, 9, 10, 1]
    chat = [{"role": "user", "content": "The sea"}, {"role": "assistant", "content": "is wide"}]
    assert coder.encode(Row(messages=chat)).ids == [3, 5, 6, 7, 1, 4, 5, 8, 9, 1]
    assert coder.decode([6, 7, 1]) == "The sea </s>"
    with pytest.raises(ValueError, match="does not have"):
        coder.encode(Row(input_ids=[99]))


def test_chunks_begin_as_the_model_wants(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "rows.jsonl").write_text("\n".join([json.dumps({"text": "The sea is wide ."})] * 30))
    settings = {
        "samples": 2, "max_seq_length": 40, "min_tokens_per_chunk": 32, "pictures": False, "seed": 0,
        "sources": [{"name": "sea", "kind": "file", "file": str(data)}],
    }  # fmt: skip
    found = build(settings, model)
    assert all(32 <= length <= 40 for length in found.lengths())
    assert all(sample.ids[0] == 0 and sample.ids.count(0) == 1 for sample in found.samples)
    assert found.tokenizer == "transformers, AutoTokenizer"


def test_the_preview_needs_no_torchvision(model: Path, tmp_path: Path) -> None:
    """A model's config makes transformers import torchvision, whose build for CUDA can't load beside CPU torch."""
    (model / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    data, spec = tmp_path / "rows.jsonl", tmp_path / "spec.json"
    data.write_text("\n".join([json.dumps({"text": "The sea is wide ."})] * 30))
    settings = {
        "samples": 2, "max_seq_length": 40, "min_tokens_per_chunk": 32, "pictures": False, "seed": 0,
        "sources": [{"name": "sea", "kind": "file", "file": str(data)}],
    }  # fmt: skip
    spec.write_text(json.dumps({"calibration": settings, "model": str(model)}))
    assert run_preview(spec, ROOT)["samples"] == 2
