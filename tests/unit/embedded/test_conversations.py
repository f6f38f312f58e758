"""Training ids are the served ids, and every target is an answer's token."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("cv2")
pytest.importorskip("torch")
pytest.importorskip("mistral_common")

import torch
from conversations import collate, draw_conversation, targets_of
from model import EOS, HEADS, IMAGE_TOKEN
from naming import from_mistral, to_mistral
from tokenizer import encode, load_tokenizer, write_tokenizer


@pytest.fixture(scope="module")
def tekken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tekken.json"
    write_tokenizer(path)
    return path


def test_a_served_prompt_is_the_beginning_of_the_training_row(tekken: Path) -> None:
    training, serving = load_tokenizer(tekken, training=True), load_tokenizer(tekken)
    for seed in range(5):
        drawn = draw_conversation(random.Random(f"prefix:{seed}"), 140)
        turns, system = drawn.turns, drawn.system
        whole, _ = encode(training, turns, system)
        for count in range(1, len(turns) + 1):
            part, _ = encode(serving, [*turns[: count - 1], replace(turns[count - 1], answer=None)], system)
            assert whole[: len(part)] == part


def test_targets_are_the_answers_and_their_ends(tekken: Path) -> None:
    tokenizer = load_tokenizer(tekken, training=True)
    drawn = draw_conversation(random.Random("targets"), 140)
    turns = drawn.turns
    ids, _ = encode(tokenizer, turns, drawn.system)
    targets = [token for token in targets_of(ids) if token >= 0]
    assert targets.count(EOS) == len(turns)
    answers = "".join(turn.answer or "" for turn in turns)
    assert tokenizer.decode([token for token in targets if token != EOS]) == answers


def test_image_places_match_the_pictures(tekken: Path) -> None:
    tokenizer = load_tokenizer(tekken, training=True)
    rows = []
    for seed in range(6):
        drawn = draw_conversation(random.Random(f"places:{seed}"), 100)
        rows.append(encode(tokenizer, drawn.turns, drawn.system))
    ids, targets, pictures = collate(rows, last_only=True)
    flat = ids.flatten()
    assert all(bool((flat[places] == IMAGE_TOKEN).all()) for _, places in pictures)
    assert sum(places.numel() for _, places in pictures) == int((flat == IMAGE_TOKEN).sum())
    assert ((targets == EOS).sum(1) == 1).all()


def test_the_two_vision_namings_are_inverse() -> None:
    for name in (
        "vision_tower.transformer.layers.0.attention.q_proj.weight",
        "vision_tower.transformer.layers.1.feed_forward.up_proj.weight",
        "multi_modal_projector.patch_merger.merging_layer.weight",
        "multi_modal_projector.linear_1.weight",
    ):
        tensor = torch.arange(HEADS * 8 * 6, dtype=torch.float32).view(HEADS * 8, 6)
        there, moved = to_mistral(name, tensor)
        back, returned = from_mistral(there, moved)
        assert there != name
        assert back == name
        assert torch.equal(returned, tensor)
