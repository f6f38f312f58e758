"""A model's own tokenizer: rows to token ids and pixels, and token ids back to text.

Mistral models bring ``tekken.json`` and are coded by mistral-common, exactly as they are served; the ``tokenizer.json``
of such repositories is known to split some text otherwise. All others are coded by transformers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from components.quantize.tools.shared.rows import Row


@dataclass
class Sample:
    """Token ids, and the pictures they stand for as float arrays (3, height, width)."""

    ids: list[int]
    pictures: list[Any] = field(default_factory=list)


class Coder(Protocol):
    """What calibration needs of a tokenizer."""

    name: str
    start: list[int]  # what a chunk begins with

    def encode(self, row: Row) -> Sample:
        """Ids without a text's start, and pictures; ValueError with a short reason when a row can't be coded."""

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, special tokens by their names."""


def load_coder(folder: Path) -> Coder:
    """The coder of the model in a folder."""
    if (folder / "tekken.json").is_file():
        return TekkenCoder(folder / "tekken.json")
    return TransformersCoder(folder)


class TekkenCoder:
    """mistral-common with the model's tekken.json."""

    name = "mistral-common, tekken.json"

    def __init__(self, file: Path) -> None:
        from mistral_common.protocol.instruct.validator import ValidationMode
        from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

        # In training a chat may end with an answer; in use it must not.
        self._answered = MistralTokenizer.from_file(str(file), mode=ValidationMode.finetuning)
        self._asked = MistralTokenizer.from_file(str(file), mode=ValidationMode.test)
        self._tekken = self._answered.instruct_tokenizer.tokenizer
        self.start = [self._tekken.bos_id]

    def encode(self, row: Row) -> Sample:
        """See ``Coder``."""
        if row.input_ids is not None:
            if max(row.input_ids) >= self._tekken.n_words:
                raise ValueError("with token ids that this model does not have")
            return Sample(row.input_ids)
        if row.text is not None:
            return Sample(self._tekken.encode(row.text, bos=False, eos=True) if row.text.strip() else [])
        return self._chat(row)

    def _chat(self, row: Row) -> Sample:
        from mistral_common.exceptions import MistralCommonException
        from mistral_common.protocol.instruct.request import ChatCompletionRequest
        from pydantic import ValidationError

        messages = row.messages or []
        tokenizer = self._answered if messages[-1]["role"] == "assistant" else self._asked
        try:
            request = ChatCompletionRequest(messages=_tekken_messages(messages, row.images))
            coded = tokenizer.encode_chat_completion(request)
        except (MistralCommonException, ValidationError) as exc:
            raise ValueError(f"no chat that this tokenizer can write ({type(exc).__name__})") from exc
        except OSError as exc:
            raise ValueError("with a picture that can't be read") from exc
        if coded.images:  # a sample of its own: it keeps its start
            return Sample(coded.tokens, list(coded.images))
        return Sample(coded.tokens[len(self.start) :] if coded.tokens[:1] == self.start else coded.tokens)

    def decode(self, ids: list[int]) -> str:
        """See ``Coder``."""
        from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy

        return str(self._tekken.decode(ids, special_token_policy=SpecialTokenPolicy.KEEP))


def _tekken_messages(messages: list[dict[str, str]], images: list[Any]) -> list[Any]:
    from mistral_common.protocol.instruct.chunk import ImageChunk, TextChunk
    from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, UserMessage
    from PIL import Image

    kinds = {"system": SystemMessage, "user": UserMessage, "assistant": AssistantMessage}
    pictures = [Image.open(image) if isinstance(image, str | Path) else image for image in images]
    written: list[Any] = []
    for message in messages:
        if message["role"] not in kinds:
            raise ValueError(f"with a message of the role {message['role'][:20]!r}")
        content: Any = message["content"]
        if message["role"] == "user" and pictures:
            content = [*(ImageChunk(image=picture.convert("RGB")) for picture in pictures), TextChunk(text=content)]
            pictures = []
        written.append(kinds[message["role"]](content=content))
    return written


class TransformersCoder:
    """transformers' tokenizer, and its processor for pictures."""

    name = "transformers, AutoTokenizer"

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self._folder = folder
        self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self._processor: Any = None
        first = self._tokenizer("a")["input_ids"][:1]
        bos = self._tokenizer.bos_token_id
        self.start = [bos] if bos is not None and first == [bos] else []

    def encode(self, row: Row) -> Sample:
        """See ``Coder``."""
        if row.input_ids is not None:
            if max(row.input_ids) >= len(self._tokenizer):
                raise ValueError("with token ids that this model does not have")
            return Sample(row.input_ids)
        if row.text is not None:
            end = [self._tokenizer.eos_token_id] if self._tokenizer.eos_token_id is not None else []
            ids = self._tokenizer(row.text, add_special_tokens=False)["input_ids"]
            return Sample([*ids, *end] if ids else [])
        if row.images:
            return self._with_pictures(row)
        if self._tokenizer.chat_template is None:
            return self.encode(Row(text="\n\n".join(message["content"] for message in row.messages or [])))
        try:
            text = self._tokenizer.apply_chat_template(row.messages, tokenize=False)
        except Exception as exc:  # templates raise whatever they like
            raise ValueError(f"no chat that this model's template can write ({type(exc).__name__})") from exc
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return Sample(ids[len(self.start) :] if self.start and ids[:1] == self.start else ids)

    def _with_pictures(self, row: Row) -> Sample:
        from PIL import Image
        from transformers import AutoProcessor

        if self._processor is None:
            self._processor = AutoProcessor.from_pretrained(self._folder, trust_remote_code=False)
        pictures = [Image.open(one) if isinstance(one, str | Path) else one for one in row.images]
        messages: list[dict[str, Any]] = [dict(message) for message in row.messages or []]
        first = next(message for message in messages if message["role"] == "user")
        first["content"] = [*({"type": "image"} for _ in pictures), {"type": "text", "text": first["content"]}]
        text = self._processor.apply_chat_template(messages, tokenize=False)
        coded = self._processor(text=text, images=pictures, return_tensors="np", add_special_tokens=False)
        return Sample(coded["input_ids"][0].tolist(), list(coded["pixel_values"]))

    def decode(self, ids: list[int]) -> str:
        """See ``Coder``."""
        return str(self._tokenizer.decode(ids))
