"""F42, F45 and the rules of a profile: file, line and what is accepted; one bad file never hides the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import ProfileError, ProfileNotFoundError, ProfileSyntaxError, ProfileValidationError
from components.profiles.loader import list_pairs, load_hardware, load_pair

PAIR = """\
schema_version: 1
kind: pair
id: p
title: A pair
description: Two models.
vision: true
max_image_size: 112
max_images: 4
serve:
  max_model_len: 2048
  dtype: bfloat16
sampling:
  temperature: 0.15
models:
- id: base
  role: base
  label: Base
  scheme: BF16
  source:
    kind: local
    folder: assets/p/base
  description: The base.
- id: small
  role: candidate
  label: Small
  scheme: W4A16
  source: {kind: local, folder: assets/p/small, extends: base}
  serve:
    max_num_seqs: 2
  description: The small one.
default_candidate: small
examples:
- prompt: What is it?
"""


def write(root: Path, text: str, name: str = "p") -> Path:
    (root / "pairs").mkdir(exist_ok=True)
    (root / "pairs" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return root


def refused(root: Path, old: str, new: str) -> ProfileValidationError:
    assert old in PAIR
    with pytest.raises(ProfileValidationError) as caught:
        load_pair(write(root, PAIR.replace(old, new, 1)), "p")
    return caught.value


def test_a_model_has_the_pairs_settings_under_its_own(tmp_path: Path) -> None:
    pair = load_pair(write(tmp_path, PAIR), "p")
    small = pair.model("small")
    assert pair.serve_of(small).max_num_seqs == 2
    assert pair.serve_of(small).max_model_len == 2048
    assert pair.serve_of(pair.base) == pair.serve
    assert (pair.base.id, [model.id for model in pair.candidates]) == ("base", ["small"])
    with pytest.raises(ProfileNotFoundError, match="base, small"):
        pair.model("large")


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "words"),
    [
        ("  temperature:", "  tempreture:", 13, "sampling.tempreture", "Did you mean 'temperature'?"),
        ("  max_model_len:", "  max_modellen:", 10, "serve.max_modellen", "Did you mean 'max_model_len'?"),
        ("max_images:", "max_image:", 8, "max_image", "Keys accepted here: default_candidate, description"),
        ("    folder: assets/p/base", "    foldr: x", 21, "models[0].source.foldr", "Did you mean 'folder'?"),
        ("    max_num_seqs: 2", "    max_nums_seq: 2", 29, "models[1].serve.max_nums_seq", "max_num_seqs"),
        ("extends: base", "extend: base", 27, "models[1].source.extend", "Did you mean 'extends'?"),
        ("- prompt:", "- promt:", 33, "examples[0].promt", "Did you mean 'prompt'?"),
    ],
)
def test_f42_an_unknown_key_is_named_with_its_line_and_the_nearest(
    tmp_path: Path, old: str, new: str, line: int, field: str, words: str
) -> None:
    error = refused(tmp_path, old, new)
    assert f"pairs/p.yaml:{line}: unknown key" in error.message
    assert error.field == field
    assert words in error.hint


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("temperature: 0.15", "temperature: '0.15'", 13, "sampling.temperature: '0.15' is not accepted"),
        ("temperature: 0.15", "temperature: 3.5", 13, "less than or equal to 2"),
        ("max_model_len: 2048", "max_model_len: 2048.5", 10, "valid integer"),
        ("max_model_len: 2048", "max_model_len: '2048'", 10, "valid integer"),
        ("max_model_len: 2048", "max_model_len: true", 10, "serve.max_model_len: true"),
        ("max_model_len: 2048", "max_model_len:", 10, "serve.max_model_len: null"),
        ("vision: true", "vision: 1", 6, "valid boolean"),
        ("title: A pair", "title: 12", 4, "in quotes"),
        ("title: A pair", "title: [a]", 4, "valid string"),
        ("dtype: bfloat16", "dtype: bfloat17", 11, "Did you mean 'bfloat16'? Accepted: auto, bfloat16, float16."),
        ("role: candidate", "role: canddate", 24, "Did you mean 'candidate'? Accepted: base, candidate."),
        ("scheme: W4A16", "scheme: W4A17", 26, "Accepted: BF16, W8A8"),
        ("source: {kind: local,", "source: {kind: locale,", 27, "Accepted: hub, local, pypi-gguf, remote, folder."),
        ("source: {kind: local,", "source: {", 27, "the key 'kind' is missing"),
        ("    kind: local\n    folder: assets/p/base", "    kind: hub", 19, "'repo_id' is missing"),
        ("title: A pair\n", "", 1, "'title' is missing"),
        ("serve:\n  max_model_len: 2048\n  dtype: bfloat16", "serve: fast", 9, "serve: 'fast' is not accepted"),
        ("kind: pair", "kind: hardware", 2, "Accepted: pair."),
        ("schema_version: 1", "schema_version: 2", 1, "newer Diptych (schema_version 2)"),
        ("schema_version: 1", "schema_version: 0", 1, "greater than or equal to 1"),
        ("schema_version: 1", "schema_version: true", 1, "schema_version"),
        ("folder: assets/p/base", "folder: ../../etc", 21, "models[0].source.folder"),
        ("folder: assets/p/base", "folder: /etc", 21, "models[0].source.folder"),
        ("folder: assets/p/base", "folder: assets/../../etc", 21, "models[0].source.folder"),
    ],
)
def test_f42_a_wrong_value_is_named_with_its_line_and_what_is_accepted(
    tmp_path: Path, old: str, new: str, line: int, words: str
) -> None:
    error = refused(tmp_path, old, new)
    assert error.message.split(": ")[0].endswith(f"pairs/p.yaml:{line}"), error.message
    assert words in str(error)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("- id: small", "- id: base", 23, "two models are called 'base'"),
        ("role: candidate", "role: base", 24, "exactly one model with role: base; this one has 2"),
        ("role: base", "role: candidate", 14, "this one has 0"),
        ("default_candidate: small", "default_candidate: base", 31, "accepted: small"),
        ("default_candidate: small", "default_candidate: x", 31, "accepted: small"),
        ("max_image_size: 112\n", "", 6, "needs max_image_size"),
        ("max_images: 4\n", "", 6, "needs max_images"),
        ("vision: true", "vision: false", 6, "a text pair has neither"),
        ("extends: base", "extends: small", 27, "'small' is not the id of another local model"),
        ("extends: base", "extends: other", 27, "'other' is not the id of another local model"),
        ("    max_num_seqs: 2", "    trust_remote_code: true", 27, "a revision of 40 hex digits"),
        ("id: p\n", "id: q\n", 3, "the file is called p.yaml"),
    ],
)
def test_f42_rules_over_several_fields_name_a_line(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    error = refused(tmp_path, old, new)
    assert error.message.split(": ")[0].endswith(f"pairs/p.yaml:{line}"), error.message
    assert words in str(error)


def test_remote_code_needs_a_pinned_commit(tmp_path: Path) -> None:
    hub = "source: {kind: hub, repo_id: o/n, revision: %s}\n  serve: {trust_remote_code: true}"
    old = "source: {kind: local, folder: assets/p/small, extends: base}\n  serve:\n    max_num_seqs: 2"
    assert "40 hex digits" in str(refused(tmp_path, old, hub % "main"))
    load_pair(write(tmp_path, PAIR.replace(old, hub % ("a1" * 20))), "p")


def test_all_lines_to_mend_are_told(tmp_path: Path) -> None:
    error = refused(tmp_path, "  temperature: 0.15\nmodels:", "  temprature: 0.15\n  top_q: 1\nmodels:")
    assert "p.yaml:13:" in error.message
    assert "More to mend on line 14." in error.hint


def test_f39_the_other_profiles_still_load(tmp_path: Path) -> None:
    write(tmp_path, PAIR)
    write(tmp_path, "a: [\n", "broken")
    write(tmp_path, PAIR.replace("id: p", "id: typo").replace("vision:", "vison:"), "typo")
    (tmp_path / "pairs" / "p2.yml").write_text(PAIR)
    pairs, errors = list_pairs(tmp_path)
    assert [pair.id for pair in pairs] == ["p"]
    assert [type(error) for error in errors] == [ProfileSyntaxError, ProfileSyntaxError, ProfileValidationError]


def test_an_absent_folder_holds_nothing(tmp_path: Path) -> None:
    assert list_pairs(tmp_path) == ((), ())
    assert load_hardware(tmp_path) == ((), ())


@pytest.mark.parametrize("name", ["../p", "/etc/passwd", "P", "p.yaml/../p", "p%2e", "", ".", "..", "p\n", "ｐ", "x"])
def test_f45_names_that_are_no_profile_are_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProfileNotFoundError, match="Pairs there are: p"):
        load_pair(write(tmp_path, PAIR), name)


def test_f45_a_link_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text(PAIR)
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "p.yaml").symlink_to(secret)
    with pytest.raises(ProfileError, match="not a link"):
        load_pair(tmp_path, "p")


def test_a_price_is_dated_and_has_a_source(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "profiles" / "hardware" / "a100-80gb.yaml").read_text()
    folder = tmp_path / "hardware"
    folder.mkdir()
    cases = {
        "price_date: 2025-02-18": "price_date: null",
        "price_source: ": "price_source: not priced ",
        "price_date: 2025": "price_date: 18.2.2025 #",
    }
    for old, new in cases.items():
        (folder / "a100-80gb.yaml").write_text(text.replace(old, new))
        profiles, errors = load_hardware(tmp_path)
        assert not profiles, new
        assert "price" in str(errors[0])
