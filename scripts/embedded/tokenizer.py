"""The embedded model's tokenizer: the beginning of Mistral's own Tekken vocabulary, and its chat encoding.

mistral-common ships the real Tekken file. Its entries are in merge order, so any prefix of them is a working BPE
vocabulary; special tokens keep their usual ids. Training encodes through mistral-common exactly as
`vllm serve --tokenizer-mode mistral` does, so the ids a model was trained on are the ids it is served.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mistral_common
import numpy as np
from mistral_common.protocol.instruct.chunk import ImageChunk, TextChunk
from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.validator import ValidationMode
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from model import MAX_IMAGE_SIZE, MERGE, PATCH, VOCABULARY
from PIL import Image

SPECIAL_TOKENS = 1000
SOURCE = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"


@dataclass(frozen=True)
class Turn:
    """What a user sends (pictures first, then text) and, in training, the answer."""

    text: str
    pictures: tuple[Image.Image, ...] = ()
    answer: str | None = None


def write_tokenizer(path: Path) -> None:
    """Write the truncated tekken.json."""
    data = json.loads(SOURCE.read_text(encoding="utf-8"))
    data["vocab"] = data["vocab"][: VOCABULARY - SPECIAL_TOKENS]
    # v7, as Mistral Small 3 has it: the system prompt stands once at the start, so that later turns only append.
    data["config"] = {
        **data["config"],
        "num_vocab_tokens": len(data["vocab"]),
        "default_vocab_size": VOCABULARY,
        "default_num_special_tokens": SPECIAL_TOKENS,
        "version": "v7",
    }
    data["image"] = {"image_patch_size": PATCH, "max_image_size": MAX_IMAGE_SIZE, "spatial_merge_size": MERGE}
    data["special_tokens"] = [dict(token) for token in Tekkenizer.DEPRECATED_SPECIAL_TOKENS]
    path.write_text(json.dumps(data, ensure_ascii=True, separators=(",", ":")), encoding="utf-8")


def load_tokenizer(path: Path, training: bool = False) -> MistralTokenizer:
    """mistral-common's tokenizer; in training mode a conversation may end with an answer."""
    mode = ValidationMode.finetuning if training else ValidationMode.test
    return MistralTokenizer.from_file(str(path), mode=mode)


def pieces_of(tokenizer: MistralTokenizer) -> list[str]:
    """The text of every token id, empty for special ones; right for ASCII, which is all that answers hold."""
    tekken = tokenizer.instruct_tokenizer.tokenizer
    return [
        "" if token < SPECIAL_TOKENS else tekken.id_to_byte_piece(token).decode("latin-1")
        for token in range(tekken.n_words)
    ]


def encode(
    tokenizer: MistralTokenizer, turns: Sequence[Turn], system: str | None = None
) -> tuple[list[int], list[np.ndarray]]:
    """Token ids and preprocessed pictures of a conversation."""
    messages: list[SystemMessage | UserMessage | AssistantMessage] = []
    if system:
        messages.append(SystemMessage(content=system))
    for turn in turns:
        chunks = [*(ImageChunk(image=picture) for picture in turn.pictures), TextChunk(text=turn.text)]
        messages.append(UserMessage(content=chunks if turn.pictures else turn.text))
        if turn.answer is not None:
            messages.append(AssistantMessage(content=turn.answer))
    encoded = tokenizer.encode_chat_completion(ChatCompletionRequest(messages=messages))
    return encoded.tokens, encoded.images
