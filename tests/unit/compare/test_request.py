"""What a person asks: refused clearly, or turned into messages."""

from __future__ import annotations

import pytest

from components.compare.request import (
    Ask,
    ColumnRequest,
    check_ask,
    chosen_answers,
    messages_for,
    parse_sampling,
    parse_stop,
    parse_tools,
)
from components.core.answers import ImageRecord, Sampling
from components.core.errors import InputError
from tests.data.traces import answered_turn, image

KEY = "a" * 32


def ask(**changes: object) -> Ask:
    values = {"key": KEY, "prompt": "What is it?", "columns": (ColumnRequest(position=0, engine_id="p/base"),)}
    return Ask.model_validate({**values, **changes})


def check(question: Ask, *, vision: bool = True, before: int = 0) -> None:
    check_ask(question, vision=vision, max_images=4, images_before=before)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt": "  \n"}, "prompt"),
        ({"prompt": "x" * 400_001}, "prompt"),
        ({"prompt": "a\x00b"}, "prompt"),
        ({"prompt": "a\ud800b"}, "prompt"),
        ({"system": "\x00"}, "system"),
        ({"key": "not hex"}, "key"),
        ({"columns": ()}, "columns"),
    ],
)
def test_f37_what_no_engine_should_see_is_refused_with_its_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(InputError) as caught:
        check(ask(**changes))
    assert caught.value.field == field
    assert caught.value.hint


@pytest.mark.parametrize("prompt", ["\u202eright to left", "a\u200bb", "\x1b[31m", "日本語", "`${x}` <img onerror>"])
def test_f37_odd_but_valid_text_passes_unchanged(prompt: str) -> None:
    check(ask(prompt=prompt))
    assert messages_for(ask(prompt=prompt), (), (), lambda _: "")[0]["content"] == prompt


def test_six_images_where_four_are_allowed_are_refused_with_both_numbers() -> None:
    with pytest.raises(InputError, match="6 images") as caught:
        check(ask(images=tuple(image(name=str(i)) for i in range(6))))
    assert "4" in caught.value.hint


def test_images_of_earlier_turns_count_since_the_engine_sees_them_again() -> None:
    with pytest.raises(InputError, match="would hold 5 images"):
        check(ask(images=(image(name="a"), image(name="b"))), before=3)
    check(ask(), before=4)


def test_a_text_pair_refuses_images() -> None:
    with pytest.raises(InputError, match="text only"):
        check(ask(images=(image(name="a"),)), vision=False)


def test_tools_take_bare_functions_and_openai_tools_alike() -> None:
    bare = parse_tools('[{"name": "zoom", "parameters": {}}]')
    whole = parse_tools('{"type": "function", "function": {"name": "zoom", "parameters": {}}}')
    assert bare == whole == ({"type": "function", "function": {"name": "zoom", "parameters": {}}},)
    assert parse_tools("  ") == ()


@pytest.mark.parametrize("text", ["{", "[1]", '[{"description": "no name"}]', '[{"name": ""}]'])
def test_wrong_tools_are_refused_by_number_or_place(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_tools(text)
    assert caught.value.field == "tools"


def test_empty_controls_mean_the_default_and_zero_does_not() -> None:
    defaults = Sampling(temperature=0.7, max_tokens=50)
    assert parse_sampling({"temperature": None, "max_tokens": ""}, defaults) == defaults
    assert parse_sampling({"temperature": 0}, defaults).temperature == 0


@pytest.mark.parametrize(
    ("name", "value"), [("temperature", 3), ("top_p", 0), ("max_tokens", 0), ("seed", -1), ("tempreature", 1)]
)
def test_a_wrong_parameter_names_itself_and_what_is_accepted(name: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        parse_sampling({name: value}, Sampling())
    assert caught.value.field == name
    assert "Accepted" in caught.value.hint


def test_stop_strings_are_one_a_line() -> None:
    assert parse_stop("END\n\\n\n") == ("END", "\n")


def test_a_conversation_becomes_messages_with_images_before_their_text() -> None:
    first = answered_turn("one", prompt="First?", texts=("base says", "candidate says"), images=(image(name="x"),))
    chosen = chosen_answers((first,), 1, ())
    messages = messages_for(ask(system="Be brief."), (first,), chosen, lambda image: f"data:{image.name}")
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
    assert messages[1]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:x"}},
        {"type": "text", "text": "First?"},
    ]
    assert messages[2]["content"] == "candidate says"


def test_a_conversation_rests_on_the_answer_that_was_looked_at() -> None:
    turn = answered_turn("one", texts=("old", "other"), retry="new")
    old, new = (a.slot.id for a in turn.answers if a.slot.position == 0)
    assert chosen_answers((turn,), 0, ())[0].answer.text == "new"
    assert chosen_answers((turn,), 0, (old,))[0].answer.text == "old"
    assert chosen_answers((turn,), 0, (new,))[0].answer.text == "new"


def test_a_column_added_later_goes_on_from_the_base() -> None:
    turn = answered_turn("one", texts=("base says", "candidate says"))
    assert chosen_answers((turn,), 3, ())[0].answer.text == "base says"


def test_an_answer_without_text_is_no_basis() -> None:
    turn = answered_turn("one", texts=("", ""))
    assert chosen_answers((turn,), 0, ()) == [None]


def test_image_records_are_not_changed_by_asking() -> None:
    record: ImageRecord = image(name="a")
    assert ask(images=(record,)).images == (record,)
