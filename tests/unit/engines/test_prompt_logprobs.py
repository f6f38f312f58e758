"""What a server sends for a path: read where it is what was asked for, refused with a reason where it is not."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest

from components.compare.score_tokens import whole_path_tokens
from components.core.answers import Answer, TokenStep
from components.core.errors import InputError
from components.engines.exact_scoring import PathTokens
from components.engines.prompt_logprobs import NotOnThePathError, Row, read_rows
from components.engines.stream_errors import refusal

PATH = PathTokens((1, 2), (3, 4))


def entry(**logprobs: float) -> dict[str, Any]:
    """One place of ``prompt_logprobs``: entry(i3=-0.1) lists the id 3."""
    ordered = sorted(logprobs.items(), key=lambda pair: -pair[1])
    return {
        name[1:]: {"logprob": value, "rank": rank, "decoded_token": f"t{name[1:]}"}
        for rank, (name, value) in enumerate(ordered, start=1)
    }


def told(**changes: Any) -> dict[str, Any]:
    """A server's answer about an answer that ended by itself: id 3 in the text, the end 4 after it."""
    after = {
        "token": "token_id:4", "logprob": -0.2,
        "top_logprobs": [{"token": "token_id:9", "logprob": -0.1}, {"token": "token_id:4", "logprob": -0.2}],
    }  # fmt: skip
    good: dict[str, Any] = {
        "prompt_token_ids": [1, 2, 3],
        "prompt_logprobs": [None, entry(i2=-1.0), entry(i3=-0.1, i7=-3.0)],
        "choices": [{"logprobs": {"content": [after]}}],
    }
    return good | changes


def test_rows_of_the_text_and_of_its_end() -> None:
    first, end = read_rows("m", told(), PATH)
    assert first == Row({3: -0.1, 7: -3.0}, {3: "t3", 7: "t7"}, 1)
    assert end == Row({9: -0.1, 4: -0.2}, {}, 2)


def test_of_an_answer_that_was_cut_every_row_is_the_prompts() -> None:
    rows = read_rows(
        "m", told(prompt_token_ids=[1, 2, 3, 4], prompt_logprobs=[None, {}, entry(i3=-0.1), entry(i4=0.0)]), PATH
    )
    assert [list(row.logprobs) for row in rows] == [[3], [4]]


def test_an_end_that_is_not_listed_has_no_rank_and_no_number() -> None:
    other = {"token": "token_id:9", "logprob": -0.1, "top_logprobs": []}
    end = read_rows("m", told(choices=[{"logprobs": {"content": [other]}}]), PATH)[1]
    assert end == Row({9: -0.1}, {}, None)


def test_minus_infinity_is_not_returned() -> None:
    first = read_rows("m", told(prompt_logprobs=[None, {}, entry(i3=-0.1, i7=-9999.0)]), PATH)[0]
    assert list(first.logprobs) == [3]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt_token_ids": None}, "does not tell which tokens"),
        ({"prompt_token_ids": [1, 2, 8]}, "other tokens, from token 1 of the answer on"),
        ({"prompt_token_ids": [1, 8, 3]}, "other tokens, from the prompt on"),
        ({"prompt_token_ids": [1, 2, 3, 4, 5]}, "other tokens, from token 3 of the answer on"),
        ({"prompt_token_ids": [1]}, "other tokens, from the prompt on"),
        ({"prompt_logprobs": None}, "returned no log-probabilities of the prompt"),
        ({"prompt_logprobs": [None, entry(i2=-1.0)]}, "returned no log-probabilities of the prompt"),
        ({"prompt_logprobs": [None, {}, None]}, "of other tokens than it read"),
        ({"prompt_logprobs": [None, {}, entry(i7=-0.1)]}, "of other tokens than it read"),
        ({"prompt_logprobs": [None, {}, entry(i3=0.7)]}, "0.7 as a log-probability"),
        ({"prompt_logprobs": [None, {}, entry(i3=math.nan)]}, "nan as a log-probability"),
        ({"prompt_logprobs": [None, {}, {"3": {"logprob": None}}]}, "None as a log-probability"),
        ({"prompt_logprobs": [None, {}, {"three": {}}]}, "no list of log-probabilities"),
        ({"prompt_logprobs": [None, {}, {"3": -0.1}]}, "no list of log-probabilities"),
        ({"choices": []}, "of the answer's end"),
        ({"choices": [{"logprobs": None}]}, "of the answer's end"),
        ({"choices": [{"logprobs": {"content": [{"token": "a", "logprob": -0.1}]}}]}, "by text only"),
        ({"choices": "none"}, "no list of log-probabilities"),
    ],
)
def test_what_is_not_about_these_tokens_is_refused_with_a_reason(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(NotOnThePathError, match=words):
        read_rows("m", told(**changes), PATH)


def written(*ids: int) -> Answer:
    return Answer(tokens=tuple(TokenStep(token_id=i, text=f"t{i}", at_ms=0.0) for i in ids))


def test_bounds_ranks_and_coverage_of_the_whole_answer() -> None:
    p, q = Row({3: math.log(0.7), 7: math.log(0.2)}, {}, 1), Row({7: math.log(0.6), 3: math.log(0.3)}, {7: "seven"}, 2)
    (token,), notes = whole_path_tokens([p], [q], written(3), lambda token_id: f"id {token_id}")
    bound = 0.7 * math.log(0.7 / 0.3) + 0.2 * math.log(0.2 / 0.6) + 0.1 * math.log(0.1 / 0.1)
    assert token.kl_base_to_candidate_nats == pytest.approx(bound)
    assert token.covered_mass == pytest.approx(0.9)
    assert (token.base_rank, token.candidate_rank, token.fork) == (1, 2, True)
    assert token.delta_p == pytest.approx(-0.4)
    assert [item.text for item in token.base_top] == ["id 3", "seven"]
    assert any("few alternatives" in note for note in notes)


def test_one_id_with_two_texts_is_another_vocabulary() -> None:
    p, q = Row({3: -0.1}, {3: "cat"}, 1), Row({3: -0.1}, {3: "dog"}, 1)
    with pytest.raises(InputError, match="different vocabularies: id 3 is 'cat' for the base and 'dog'"):
        whole_path_tokens([p], [q], written(3), str)


def test_probabilities_that_add_up_to_more_than_one_are_no_distribution() -> None:
    row = Row({3: -0.1, 4: -0.1}, {}, 1)
    with pytest.raises(InputError, match="more than one"):
        whole_path_tokens([row], [row], written(3), str)


def test_a_server_that_allows_fewer_than_asked_says_how_many() -> None:
    """vLLM's own words (``sampling_params.py``, 0.32.0)."""
    words = "Requested prompt logprobs of 21, which is greater than max allowed: 20."
    refused = refusal("m", 400, orjson.dumps({"error": {"message": words}}))
    assert "21 alternatives per token were asked for, but this engine gives at most 20" in refused.message
