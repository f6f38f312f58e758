"""The trap for real: one trained model, served right, under the wrong names, and prepared from the wrong names."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from components.core.answers import Sampling
from components.core.states import Sight
from components.engines.prepare import ModelPreparer
from components.engines.sight import SightReport, check_sight
from components.engines.sight_pictures import picture
from components.engines.stream import ChatRequest
from components.profiles.schema import PairProfile
from tests.engine.serving import BASE, Engines, client_of, launched
from tests.fakes.stream_contract import steps_and_end
from tests.unit.engines.checkpoints import pair_document

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not (BASE / "params.json").exists(), reason="the embedded pair is not built"),
]

HEADS = 4
OLD_NAMES = {
    "vision_encoder.": "vision_tower.",
    "pre_mm_projector_norm.": "multi_modal_projector.norm.",
    "patch_merger.": "multi_modal_projector.patch_merger.",
    "vision_language_adapter.w_in.": "multi_modal_projector.linear_1.",
    "vision_language_adapter.w_out.": "multi_modal_projector.linear_2.",
    ".attention.wq.": ".attention.q_proj.",
    ".attention.wk.": ".attention.k_proj.",
    ".attention.wv.": ".attention.v_proj.",
    ".attention.wo.": ".attention.o_proj.",
    ".feed_forward.w1.": ".feed_forward.gate_proj.",
    ".feed_forward.w2.": ".feed_forward.down_proj.",
    ".feed_forward.w3.": ".feed_forward.up_proj.",
}
QUESTIONS = ("What colour is this picture?", "Which shape is in this picture?", "What do you see?")

Answers = list[tuple[int | None, float]]


def under_wrong_names(folder: Path) -> Path:
    """The embedded base as a Hugging Face repository would hold it."""
    from safetensors.torch import load_file, save_file

    folder.mkdir()
    for name in ("config.json", "params.json", "tekken.json"):
        shutil.copy(BASE / name, folder / name)
    shards = {}
    for path in sorted(BASE.glob("*.safetensors")):
        tensors = {}
        for name, tensor in load_file(path).items():
            old = name
            for new_part, old_part in OLD_NAMES.items():
                old = old.replace(new_part, old_part)
            value = tensor
            if ".attention.wq." in name or ".attention.wk." in name:
                size, width = tensor.shape
                value = tensor.view(HEADS, size // HEADS // 2, 2, width).transpose(1, 2).reshape(size, width)
            tensors[old] = value.contiguous()
        save_file(tensors, folder / path.name, metadata={"format": "pt"})
        shards[path.name] = list(tensors)
    weight_map = {name: file for file, names in shards.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def look_and_answer(socket: Path) -> tuple[SightReport, list[Answers]]:
    """The sight check's report, and ids with log-probabilities of some answers."""

    async def run() -> tuple[SightReport, list[Answers]]:
        client = client_of(socket)
        report = await check_sight(client, "embedded/base", vision=True, report=lambda message, share: None)
        answers = []
        for name in ("plain", "circle", "digit"):
            for question in QUESTIONS:
                content = [
                    {"type": "image_url", "image_url": {"url": picture(name)}},
                    {"type": "text", "text": question},
                ]
                request = ChatRequest(
                    messages=({"role": "user", "content": content},), sampling=Sampling(max_tokens=16), logprobs=1
                )
                steps, _ = await steps_and_end(client, request)
                answers.append([(step.token_id, step.logprob) for step in steps])
        await client.close()
        return report, answers

    return asyncio.run(run())


@pytest.fixture(scope="module")
def direct(engines: Engines) -> tuple[SightReport, list[Answers]]:
    return look_and_answer(engines.base)


def test_the_embedded_base_sees(direct: tuple[SightReport, list[Answers]]) -> None:
    assert direct[0].sight is Sight.SEES, direct[0].checks


def test_the_wrong_names_are_caught_and_the_prepared_folder_answers_as_the_right_one(
    tmp_path: Path, direct: tuple[SightReport, list[Answers]]
) -> None:
    wrong = under_wrong_names(tmp_path / "wrong")
    limit = json.loads((BASE / "params.json").read_bytes())["vision_encoder"]["max_image_size"]
    pair = PairProfile.model_validate(pair_document("wrong") | {"max_image_size": limit})
    preparer = ModelPreparer(tmp_path / "state", tmp_path, offline=True)
    prepared = Path(preparer.prepare(pair, pair.base, lambda message, share: None))
    with launched(wrong) as blind, launched(prepared) as mended:
        for server in (blind, mended):
            asyncio.run(server.wait_healthy())
        report, answers = look_and_answer(blind.socket)
        assert report.sight is Sight.BLIND, report.checks
        assert answers != direct[1]
        report, answers = look_and_answer(mended.socket)
        assert report.sight is direct[0].sight
        assert answers == direct[1]
