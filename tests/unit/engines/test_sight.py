"""The verdict of the sight check, and its pictures."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from components.core.states import Sight
from components.engines.sight import SightCheck, verdict
from components.engines.sight_pictures import SIDE, picture


def check(answer: str, blank: str, *, right: bool) -> SightCheck:
    return SightCheck(picture="plain", question="?", expected="red", answer=answer, blank_answer=blank, right=right)


RIGHT = check("Red.", "There is no colour.", right=True)
SAME = check("A dog.", "A dog.", right=False)
WRONG = check("Green.", "A dog.", right=False)


@pytest.mark.parametrize(
    ("checks", "sight"),
    [
        ((RIGHT, RIGHT, RIGHT), Sight.SEES),
        ((RIGHT, RIGHT, SAME), Sight.SEES),
        ((RIGHT, WRONG, SAME), Sight.UNCLEAR),
        ((SAME, SAME, SAME), Sight.BLIND),
        ((WRONG, WRONG, WRONG), Sight.BLIND),
    ],
)
def test_verdict(checks: tuple[SightCheck, ...], sight: Sight) -> None:
    report = verdict(checks)
    assert report.sight is sight
    assert bool(report.causes) == (sight is not Sight.SEES)


def test_the_pictures_are_what_they_are_called() -> None:
    images = {}
    for name in ("plain", "circle", "digit", "blank"):
        data = base64.b64decode(picture(name).removeprefix("data:image/png;base64,"))
        images[name] = Image.open(io.BytesIO(data))
        images[name].load()
        assert (images[name].size, images[name].mode) == ((SIDE, SIDE), "RGB")
    assert images["plain"].getcolors() == [(SIDE * SIDE, (225, 30, 30))]
    assert images["blank"].getcolors() == [(SIDE * SIDE, (255, 255, 255))]
    assert images["circle"].getpixel((SIDE // 2, SIDE // 2)) == (30, 60, 220)
    assert images["circle"].getpixel((5, 5)) == (255, 255, 255)
    assert images["digit"].getpixel((SIDE // 2, int(0.2 * SIDE))) == (0, 0, 0)
    assert images["digit"].getpixel((int(0.3 * SIDE), int(0.7 * SIDE))) == (255, 255, 255)
