"""Changed pictures made by the real child process, and what is refused before an engine is asked."""

from __future__ import annotations

import asyncio
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from components.compare.case import Case, Wanted
from components.compare.changed_pictures import PictureChanger
from components.compare.eyes import read_picture, without_pictures
from components.core.answers import ImageRecord
from components.core.errors import EngineNotReadyError, InputError, RecordNotFoundError
from components.engines.exact_scoring import PathTokens
from components.engines.transport import EngineClient
from components.engines.vocabulary import load_vocabulary
from components.services import Services
from tests.data.traces import answered_turn
from tests.running_app import ROOT
from tests.unit.compare.test_eyes_view import reliance

pytestmark = pytest.mark.service
SAMPLES = ROOT / "assets" / "samples"


@pytest.fixture
def picture(services: Services) -> ImageRecord:
    return services.images.ingest(SAMPLES / "four-shapes.png", "mine.png")


def pixels(services: Services, sha256: str | None) -> Image.Image:
    assert sha256 is not None
    return Image.open(BytesIO(services.images.png(sha256))).convert("RGB")


def case_of(services: Services, *images: ImageRecord) -> Case:
    services.traces.create_turn(answered_turn("t1", texts=("yes",), images=images, parent_id=None))
    return asyncio.run(services.scoring.find("t1", Wanted()))


@pytest.mark.parametrize("how", ["blurred", "small", "swapped"])
def test_a_changed_picture_has_the_size_of_the_first_and_other_pixels(
    services: Services, picture: ImageRecord, how: str
) -> None:
    changer = PictureChanger(services.images, [SAMPLES / "four-shapes.png", SAMPLES / "bar-chart.png"])
    change = read_picture(how)
    assert change is not None
    (found,) = changer.change([picture], change)
    shown = pixels(services, found.shown_sha256)
    assert shown.size == (picture.width, picture.height)
    assert found.shown_sha256 != picture.sha256
    assert found.original_name == "mine.png"
    assert (found.shown_sha256,) == tuple(again.shown_sha256 for again in changer.change([picture], change))
    assert ("bar-chart.png" in found.words) == (how == "swapped"), "never for the same picture"


def test_removed_shows_nothing(services: Services, picture: ImageRecord) -> None:
    (found,) = PictureChanger(services.images, []).change([picture], "removed")
    assert found.shown_sha256 is None


def test_without_another_picture_nothing_is_swapped(services: Services, picture: ImageRecord) -> None:
    with pytest.raises(InputError, match="no other picture"):
        PictureChanger(services.images, [SAMPLES / "four-shapes.png"]).change([picture], "swapped")


def test_a_turn_without_a_picture_says_so(services: Services) -> None:
    case = case_of(services)
    with pytest.raises(InputError, match="This turn has no picture") as raised:
        asyncio.run(services.eyes.measure(case, "blurred"))
    assert raised.value.field == "picture"


def test_an_engine_that_does_not_run_is_named_with_what_to_do(services: Services, picture: ImageRecord) -> None:
    case = case_of(services, picture)
    with pytest.raises(EngineNotReadyError, match="embedded/base is not ready") as raised:
        asyncio.run(services.eyes.measure(case, "blurred"))
    assert "Models tab" in raised.value.hint


def test_a_record_survives_and_only_the_newest_of_a_change_is_found(services: Services, picture: ImageRecord) -> None:
    case = case_of(services, picture)
    about = {"answer_id": case.stored.slot.id, "candidate_engine": case.candidate.engine_id}
    for name in ("r1", "r2"):
        services.reliances.add(reliance(id=name, **about))
    services.reliances.add(reliance(id="r3", **{**about, "candidate_engine": "embedded/other"}))
    assert [found.id for found in services.reliances.of_turn("t1")] == ["r1", "r2", "r3"]
    assert asyncio.run(services.eyes.stored(case)) == {"blurred": reliance(id="r2", **about)}
    with pytest.raises(RecordNotFoundError):
        services.reliances.add(reliance(id="r4", trace_id="t2"))


def test_the_pictures_tokens_are_taken_out_of_the_prompt(tmp_path: Path) -> None:
    client = EngineClient("m", uds=tmp_path / "s", vocabulary=load_vocabulary(ROOT / "assets" / "embedded" / "base"))
    path = PathTokens((1, 3, 10, 10, 12, 10, 10, 13, 99, 4), (5, 2), images=("data:x",))
    assert without_pictures(path, client) == PathTokens((1, 3, 99, 4), (5, 2))
    with pytest.raises(InputError, match="not known"):
        without_pictures(path, EngineClient("m", uds=tmp_path / "s"))
