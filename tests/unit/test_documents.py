"""Documents that are read by nothing go stale; this reads them."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
import yaml

from components.core import alarms
from components.core.states import Outcome, Sight
from components.profiles.loader import list_pairs, load_pair
from components.settings import Settings, default_state_dir
from scripts.dockerfile_steps import read_steps

ROOT = Path(__file__).resolve().parents[2]
MANUAL = ["README.md", "docs/using.md", "docs/running.md", "docs/api.md"]
PAGES = [*MANUAL, "SECURITY.md", "CHANGELOG.md", "docs/architecture.md", "tests/README.md", "profiles/README.md"]
README, USING, RUNNING, API_PAGE = ((ROOT / page).read_text(encoding="utf-8") for page in MANUAL)
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# Read as text: importing it would import Gradio, which takes longer than all of these tests.
API = (ROOT / "components" / "compare" / "tab_api.py").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, rest)."""
    return [(step.name, step.rest) for step in read_steps(DOCKERFILE)]


# ---- manual ---------------------------------------------------------------------------------------------------------


def test_the_front_matter_is_that_of_a_docker_space() -> None:
    head = yaml.safe_load(README.split("---\n")[1])
    assert README.startswith("---\n")
    assert (head["sdk"], head["app_port"], head["license"]) == ("docker", 7860, "apache-2.0")
    assert head["title"] == "Diptych"
    assert head["pinned"] is False
    # vLLM in bfloat16 needs compute capability 8.0: not a T4.
    assert head["suggested_hardware"] in {"l4x1", "l40sx1", "a10g-small", "a10g-large", "a100-large"}
    assert head["emoji"]
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {head["colorFrom"], head["colorTo"]} <= colours
    assert len(head["short_description"]) <= 60, "the hub refuses a longer one"


def test_the_settings_table_is_the_settings() -> None:
    rows = re.findall(r"^\| `DIPTYCH_(\w+)` \| (.+?) \| (.+?) \|$", RUNNING, flags=re.MULTILINE)
    assert [name.lower() for name, _, _ in rows] == list(Settings.model_fields)
    for name, default, meaning in rows:
        field = Settings.model_fields[name.lower()]
        assert meaning == field.description
        if name != "STATE_DIR":
            written = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            assert default == (f"`{written}`" if written else "empty")


def test_the_variables_that_are_named_are_there() -> None:
    named = set(re.findall(r"\bDIPTYCH_([A-Z_]+)(?![A-Z_…])", RUNNING))
    assert {name.lower() for name in named} <= set(Settings.model_fields)
    space = RUNNING.split("### As a Hugging Face Space")[1].split("###")[0]
    assert set(re.findall(r"`([A-Z_]+)=", space)) - {f"DIPTYCH_{name}" for name in named} == {"DEVICE"}
    assert ("ARG", "DEVICE=gpu") in instructions()


def test_the_state_folder_is_where_the_manual_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert f"`~/{default_state_dir().relative_to(Path.home())}`" in RUNNING


def test_every_pair_is_named() -> None:
    pairs, _ = list_pairs(ROOT / "profiles")
    assert pairs
    for pair in pairs:
        assert re.search(rf"^\| `{re.escape(pair.id)}` \|", README, flags=re.MULTILINE), pair.id


def test_the_example_profiles_load(tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    examples = blocks(RUNNING, "yaml")
    assert len(examples) == 2
    for text in examples:
        path = text.splitlines()[0].removeprefix("# profiles/pairs/")
        (tmp_path / "pairs" / path).write_text(text, encoding="utf-8")
        pair = load_pair(tmp_path, path.removesuffix(".yaml"))
        assert pair.candidates


def test_the_client_example_is_short_and_python() -> None:
    (example,) = blocks(README, "python")
    compile(example, "README.md", "exec")
    assert len(example.splitlines()) == 5
    for name in re.findall(r'handle_file\("(.+?)"\)', example):
        assert (ROOT / name).is_file()


def test_every_option_sight_outcome_and_alarm_is_explained() -> None:
    (options,) = re.findall(r"^_OPTIONS = (\(.*\))$", API, flags=re.MULTILINE)
    for option in ast.literal_eval(options):
        assert f"`{option}`" in API_PAGE
    for sight in (Sight.SEES, Sight.UNCLEAR, Sight.BLIND, Sight.NONE):
        assert f"| {sight.value} |" in USING
    for outcome in (Outcome.FINISHED, Outcome.STOPPED, Outcome.TRUNCATED, Outcome.FAILED):
        assert f"`{outcome.value}`" in API_PAGE
    codes = re.findall(r'code="(\w+)"', inspect.getsource(alarms))
    named = re.findall(r"^\| `(\w+)` \| An|^\| `(\w+)` \|", USING.split("| alarm |")[1].split("\n\n")[0], re.MULTILINE)
    assert {first or second for first, second in named} == set(codes)


def test_every_key_of_the_page_is_listed() -> None:
    scripts = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "assets" / "js").glob("*.js")))
    table = USING.split("## Keys")[1].split("\n\n")[1]
    for key in re.findall(r'onKey\("(.+?)"', scripts):
        assert f"| {'Esc' if key == 'Escape' else key} |" in table, key


# ---- all pages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_local_links_lead_somewhere(page: str) -> None:
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)#\s]+)", prose(page)):
        if "://" not in target:
            assert (folder / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page: str) -> None:
    """Paths in backticks; they may be meant from the root, from components/ or from the page's own folder."""
    for path in re.findall(r"`([\w.-]+/[\w./-]*\w\.(?:py|js|css|md|yaml|txt))`", prose(page)):
        invented = path.startswith("profiles/pairs/my-")
        bases = (ROOT, ROOT / "components", (ROOT / page).parent)
        assert invented or any((base / path).is_file() for base in bases), f"{page}: {path}"


@pytest.mark.parametrize("page", [*PAGES, "Dockerfile"])
def test_make_targets_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, flags=re.MULTILINE))
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"(?:`|^|' )make ([a-z-]+)", text, flags=re.MULTILINE)) <= targets


def test_the_variables_of_make_are_those_of_the_manual() -> None:
    named = set(re.findall(r"\$\(if \$\((\w+)\)", MAKEFILE))
    examples = re.findall(r"^make run (PAIR=.*)$", README + RUNNING, flags=re.MULTILINE)
    assert {word.split("=")[0] for example in examples for word in example.split()} == named


def test_the_licence_is_the_whole_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert text.count("\n") > 190


def test_the_changelog_has_an_unreleased_part() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## (.+)$", text, flags=re.MULTILINE)
    assert first is not None
    assert first[1] == "Unreleased"


# ---- Dockerfile -----------------------------------------------------------------------------------------------------


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for name, rest in instructions() if name == "COPY" for source in rest.split()[:-1]}
    assert copied == kept
    assert all((ROOT / source).exists() for source in copied)


def test_the_gpu_is_the_default_and_both_devices_have_a_base() -> None:
    steps = instructions()
    assert steps[0] == ("ARG", "DEVICE=gpu")
    stages = [rest.split(" AS ")[-1] for name, rest in steps if name == "FROM"]
    assert stages == ["base-gpu", "base-cpu", "base-${DEVICE}"]
    assert all(":" in rest for name, rest in steps if name == "FROM" and " AS " in rest), "no floating base"


def test_requirements_are_installed_before_the_code_is_copied() -> None:
    steps = instructions()
    install = next(i for i, (name, rest) in enumerate(steps) if name == "RUN" and "pip install" in rest)
    code = next(i for i, (name, rest) in enumerate(steps) if name == "COPY" and rest.startswith("components"))
    assert install < code
    for file in re.findall(r"requirements[\w-]*\.txt", steps[install][1]):
        assert (ROOT / file).is_file()


def test_the_image_does_not_run_as_root() -> None:
    users = [rest for name, rest in instructions() if name == "USER"]
    assert users == ["1000"]
    last = max(i for i, (name, _) in enumerate(instructions()) if name in ("RUN", "COPY"))
    assert instructions().index(("USER", "1000")) > last


def test_the_image_starts_what_the_app_accepts() -> None:
    steps = dict(instructions())
    entry, command = yaml.safe_load(steps["ENTRYPOINT"]), yaml.safe_load(steps["CMD"])
    assert entry[-2:] == ["python", "app.py"]
    assert command == ["--host", "0.0.0.0", "--public"]
    assert Settings(host="0.0.0.0", public=True).refusal() is None
    assert "/healthz" in steps["HEALTHCHECK"]
    assert steps["EXPOSE"] == "7860"
    for name in re.findall(r"DIPTYCH_(\w+)", DOCKERFILE):
        assert name.lower() in Settings.model_fields
