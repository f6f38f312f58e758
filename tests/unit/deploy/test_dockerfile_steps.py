"""scripts/dockerfile_steps.py reads the Dockerfile as Docker does."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.dockerfile_steps import Image, Step, read_steps, steps_of_image, substituted
from tests.unit.deploy.read import ROOT

STEPS = read_steps((ROOT / "Dockerfile").read_text(encoding="utf-8"))
SMALL = """
# a comment
ARG KIND=large
FROM big:1 AS base-large
ENV SIZE=9
FROM little:1 AS base-small
RUN echo one \\
    # in the middle
    && echo two
FROM base-${KIND}
ARG KIND
RUN echo $KIND
"""


def test_the_last_stage_is_made_of_those_it_is_built_on() -> None:
    steps = read_steps(SMALL)
    assert steps_of_image(steps, {}) == [
        Step("FROM", "big:1"), Step("ENV", "SIZE=9"), Step("ARG", "KIND=large"), Step("RUN", "echo $KIND"),
    ]  # fmt: skip
    small = steps_of_image(steps, {"KIND": "small"})
    assert small[0] == Step("FROM", "little:1")
    assert small[1].rest.split() == ["echo", "one", "&&", "echo", "two"]
    assert small[2:] == [Step("ARG", "KIND=small"), Step("RUN", "echo $KIND")]


def test_each_device_has_the_steps_that_are_its_own() -> None:
    cpu, gpu = (steps_of_image(STEPS, {"DEVICE": device}) for device in ("cpu", "gpu"))
    assert cpu[0].rest.startswith("python:")
    assert gpu[0].rest.startswith("nvidia/cuda:")
    assert any("libnuma1" in step.rest for step in cpu)
    assert not any("libnuma1" in step.rest for step in gpu)
    assert steps_of_image(STEPS, {})[0] == gpu[0]


def test_every_instruction_is_one_that_can_be_carried_out(tmp_path: Path) -> None:
    image = Image(tmp_path)
    for step in steps_of_image(STEPS, {"DEVICE": "cpu"}):
        if step.name not in ("RUN", "COPY", "FROM"):
            image.take(step)
    assert image.variables["PATH"].startswith("/opt/venv/bin:/usr/local/sbin:")
    assert image.variables["DIPTYCH_STATE_DIR"] == "/data/diptych"
    assert (image.folder, image.user) == ("/app", "1000")
    assert image.program == ["tini", "--", "python", "app.py"]
    assert image.options == ["--host", "0.0.0.0", "--public"]
    assert image.health[0] == "python"
    with pytest.raises(SystemExit, match="VOLUME is not carried out"):
        image.take(Step("VOLUME", "/data"))


def test_copies_what_the_context_has_and_nothing_else(tmp_path: Path) -> None:
    image = Image(tmp_path, folder="/app")
    image.take(Step("COPY", "LICENSE app.py ./"))
    image.take(Step("COPY", "profiles profiles"))
    assert {path.name for path in (tmp_path / "app").iterdir()} == {"LICENSE", "app.py", "profiles"}
    assert (tmp_path / "app" / "profiles" / "pairs" / "embedded.yaml").is_file()
    with pytest.raises(SystemExit, match=r"\.dockerignore leaves out tests"):
        image.take(Step("COPY", "tests tests"))


def test_an_unknown_name_is_empty() -> None:
    assert substituted("${A}-$B-$C", {"A": "1", "B": "2"}) == "1-2-"
