"""F39 to F41: what is not strict YAML is refused with its place, and no scalar becomes something else in silence."""

from __future__ import annotations

import pytest

from components.core.errors import ProfileSyntaxError
from components.profiles.strict_yaml import MAX_BYTES, parse


def value_of(text: str) -> object:
    return parse(f"key: {text}\n".encode(), "x.yaml").plain()["key"]


@pytest.mark.parametrize(
    ("data", "place", "words"),
    [
        (b"a: [1, 2\nb: 3\n", "x.yaml:2:", "not valid YAML"),
        (b"a: 1\n\tb: 2\n", "x.yaml:2:1:", "not valid YAML"),
        (b"\xef\xbb\xbfa: 1\n", "x.yaml:1:1:", "U+FEFF"),
        (b"a: 1\nb: x\x00y\n", "x.yaml:2:5:", "U+0000"),
        (b"a: \xff\n", "x.yaml:1:4:", "UTF-8"),
        (b"a: 1\n---\nb: 2\n", "x.yaml:2:1:", "second document"),
        (b"- a\n- b\n", "x.yaml:1:1:", "not 'key: value'"),
        (b"just text\n", "x.yaml:1:1:", "not 'key: value'"),
        (b"", "x.yaml:1:1:", "empty"),
        (b"# only a comment\n", "x.yaml:1:1:", "empty"),
        (b"a: 'open\n", "x.yaml:", "not valid YAML"),
        (b"%YAML 9.9\n---\na: 1\n", "x.yaml:1:", "not valid YAML"),
        (b"? [a, b]\n: 1\n", "x.yaml:1:3:", "plain name"),
    ],
)
def test_f39_malformed_yaml_is_refused_with_line_and_column(data: bytes, place: str, words: str) -> None:
    with pytest.raises(ProfileSyntaxError) as caught:
        parse(data, "x.yaml")
    assert caught.value.message.startswith(place)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a: 1\nb: 2\na: 3\n", "already on line 1"),
        (b"a: {b: 1, b: 2}\n", "already on line 1"),
        (b"a: &x 1\nb: *x\n", "anchors"),
        (b"a: *x\n", "aliases"),
        (b"a: &x {b: 1}\n", "anchors"),
        (b"a: &x [1]\n", "anchors"),
        (b"&x a: 1\n", "plain name"),
        (b"a: !!python/object/apply:os.system ['true']\n", "tags"),
        (b"a: !!str 1\n", "tags"),
        (b"a: ! 1\n", "tags"),
        (b"!!int a: 1\n", "plain name"),
        (b"a: " + b"[" * 21 + b"]" * 21 + b"\n", "deeper than 20"),
        (b"a: " + b"[" * 5000, "deeper than 20"),
        (b"a: " + b"{b: " * 5000, "deeper than 20"),
        (b"a: '" + b"x" * MAX_BYTES + b"'\n", "larger than 256 KiB"),
    ],
)
def test_f40_duplicates_aliases_tags_depth_and_size_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(ProfileSyntaxError, match=words):
        parse(data, "x.yaml")


def test_f40_an_alias_bomb_is_refused_at_its_first_anchor() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
    )
    with pytest.raises(ProfileSyntaxError, match=r"x\.yaml:1:4: anchors"):
        parse(bomb.encode(), "x.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-5", 1e-5),
        ("1E+3", 1000.0),
        ("-.5", -0.5),
        ("0.150", 0.15),
        ("12", 12),
        ("-7", -7),
        ("0", 0),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'010'", "010"),
        ("'no'", "no"),
        ("'true'", "true"),
        ('"1e-5"', "1e-5"),
        ("0.1.2", "0.1.2"),
        ("2025-02-18", "2025-02-18"),
        ("none", "none"),
        ("<<", "<<"),
        ("=", "="),
    ],
)
def test_f41_scalars_have_the_value_of_yaml_1_2(text: str, expected: object) -> None:
    value = value_of(text)
    assert value == expected
    assert type(value) is type(expected)


AMBIGUOUS = ["no", "No", "yes", "on", "OFF", "y", "N", "010", "-012", "0777", "0x1F", "0o17", "0b11", "1_000"]
SEXAGESIMAL_OR_NOT_FINITE = ["12:30:45", "12:30", "190:20:30.15", ".inf", "-.INF", ".nan", "1e999"]


@pytest.mark.parametrize("text", [*AMBIGUOUS, *SEXAGESIMAL_OR_NOT_FINITE])
def test_f41_scalars_with_two_meanings_are_refused_with_advice(text: str) -> None:
    with pytest.raises(ProfileSyntaxError) as caught:
        value_of(text)
    assert caught.value.message.startswith("x.yaml:1:6: ")
    assert text in caught.value.message


def test_a_merge_key_is_a_key_like_any_other() -> None:
    assert parse(b"<<: {a: 1}\n", "x.yaml").plain() == {"<<": {"a": 1}}


def test_places_are_those_of_the_keys() -> None:
    root = parse(b"a: 1\nb:\n  c: 2\n", "x.yaml")
    assert root.key_places == {"a": (1, 1), "b": (2, 1)}
