"""Token records from what endpoints send: a bound where one can be had, a statement where not, never a wrong number."""

from __future__ import annotations

import math

import numpy as np
import pytest

from components.compare.score_tokens import exact_tokens, top_k_tokens
from components.core.answers import Answer, TokenStep, TopLogprob
from components.core.divergence import kl_nats
from components.core.errors import InputError
from components.engines.exact_scoring import ExactResult


def step(token_id: int | None, probabilities: dict[int, float], text: str = "") -> TokenStep:
    top = tuple(
        TopLogprob(token_id=i if token_id is not None else None, text=f"t{i}", logprob=math.log(p))
        for i, p in sorted(probabilities.items(), key=lambda pair: -pair[1])
    )
    return TokenStep(token_id=token_id, text=text or f"t{token_id}", top=top, at_ms=0.0)


def test_whole_lists_give_the_exact_divergence() -> None:
    p, q = {1: 0.7, 2: 0.2, 3: 0.1}, {1: 0.5, 2: 0.3, 3: 0.2}
    tokens, _ = top_k_tokens(Answer(tokens=(step(1, p),)), Answer(tokens=(step(1, q),)), "base")
    exact = kl_nats(np.log([list(p.values())]), np.log([list(q.values())]))[0]
    assert tokens[0].kl_base_to_candidate_nats == pytest.approx(exact)
    assert tokens[0].covered_mass == pytest.approx(1.0)
    assert tokens[0].delta_p == pytest.approx(-0.2)
    assert tokens[0].fork is False


def test_ids_of_one_side_only_lower_the_bound_and_the_coverage() -> None:
    tokens, notes = top_k_tokens(
        Answer(tokens=(step(1, {1: 0.7, 2: 0.2}),)), Answer(tokens=(step(1, {1: 0.5, 9: 0.3}),)), "base"
    )
    assert tokens[0].covered_mass == pytest.approx(0.7)
    bound = 0.7 * math.log(0.7 / 0.5) + 0.3 * math.log(0.3 / 0.5)
    assert tokens[0].kl_base_to_candidate_nats == pytest.approx(bound)
    assert any("few alternatives" in note for note in notes)


def test_after_the_fork_nothing_is_claimed() -> None:
    base = Answer(tokens=(step(1, {1: 0.9, 2: 0.1}), step(1, {1: 0.6, 2: 0.4}), step(5, {5: 1.0})))
    candidate = Answer(tokens=(step(1, {1: 0.9, 2: 0.1}), step(2, {1: 0.4, 2: 0.6}), step(6, {6: 1.0})))
    tokens, notes = top_k_tokens(base, candidate, "candidate")
    assert [token.token_id for token in tokens] == [1, 2, 6]
    assert [token.fork for token in tokens] == [False, True, None]
    assert tokens[2].kl_base_to_candidate_nats is None
    assert any("parted" in note for note in notes)


def test_no_logprobs_is_said() -> None:
    silent = Answer(tokens=(TokenStep(token_id=1, text="a", at_ms=0.0),))
    with pytest.raises(InputError, match="candidate's endpoint returned no log-probabilities"):
        top_k_tokens(Answer(tokens=(step(1, {1: 1.0}),)), silent, "base")


def test_nothing_in_common_gives_no_number() -> None:
    tokens, _ = top_k_tokens(Answer(tokens=(step(1, {1: 0.9}),)), Answer(tokens=(step(2, {2: 0.9}),)), "base")
    assert tokens[0].kl_base_to_candidate_nats is None and tokens[0].covered_mass is None


def test_rows_must_fit_the_tokens() -> None:
    result = ExactResult({"kl_base_to_candidate_nats": np.zeros(2)}, {}, "bfloat16", "float64", (3,), (3,))
    with pytest.raises(InputError, match="2 rows of statistics came back for 1 tokens"):
        exact_tokens(Answer(tokens=(step(1, {1: 1.0}),)), result, str)


def texts(probabilities: dict[str, float], text: str, *, raw: bytes | None = None) -> TokenStep:
    top = tuple(TopLogprob(token_id=None, text=name, logprob=math.log(p)) for name, p in probabilities.items())
    return TokenStep(token_id=None, text=text, raw=raw, top=top, at_ms=0.0)


def test_an_id_is_compared_with_a_text_by_its_text() -> None:
    base = Answer(tokens=(step(1, {1: 0.7, 2: 0.3}), step(2, {2: 0.8, 1: 0.2})))
    candidate = Answer(tokens=(texts({"t1": 0.6, "t2": 0.4}, "t1"), texts({"t2": 0.8, "t1": 0.2}, "t2")))
    for one, other in ((base, candidate), (candidate, base)):
        tokens, notes = top_k_tokens(one, other, "base")
        assert [token.fork for token in tokens] == [False, False]
        assert tokens[1].kl_base_to_candidate_nats == pytest.approx(0.0)
        assert tokens[0].covered_mass == pytest.approx(1.0)
        assert any("by text only" in note for note in notes)


def test_without_a_list_a_fork_is_not_known() -> None:
    full, empty = step(1, {1: 0.7, 2: 0.3}), step(1, {})
    answers = Answer(tokens=(full, empty, empty)), Answer(tokens=(full, full, empty))
    for one, other in (answers, answers[::-1]):
        tokens, _ = top_k_tokens(one, other, "base")
        assert [token.fork for token in tokens] == [False, None, None]


def test_a_text_that_may_be_several_tokens_says_nothing() -> None:
    """Every token of a part of a character has the text U+FFFD."""
    listed = TokenStep(
        token_id=None,
        text="a",
        top=tuple(
            TopLogprob(token_id=None, text=text, logprob=math.log(p))
            for text, p in (("\ufffd", 0.5), ("\ufffd", 0.2), ("a", 0.1), ("b", 0.05), ("b", 0.04), ("", 0.03))
        ),
        at_ms=0.0,
    )
    other = texts({"a": 0.1, "\ufffd": 0.09, "b": 0.05, "": 0.03}, "a")
    (token,), _ = top_k_tokens(Answer(tokens=(listed,)), Answer(tokens=(other,)), "base")
    assert token.covered_mass == pytest.approx(0.1), "only 'a' is the same token for certain"
    assert token.kl_base_to_candidate_nats == pytest.approx(0.0)
    assert token.fork is None
    assert token.base_top[0].base_logprob == pytest.approx(math.log(0.5)), "shown all the same"


def test_parts_of_characters_are_the_same_token_by_their_bytes_only() -> None:
    def answer(*raws: bytes | None) -> Answer:
        return Answer(tokens=tuple(texts({"\ufffd": 0.9, "x": 0.1}, "\ufffd", raw=raw) for raw in raws))

    for one, other, scored in ((b"\xe2", b"\xe2", 2), (b"\xe2", b"\xe3", 1), (None, None, 1)):
        tokens, notes = top_k_tokens(answer(one, b"\x9c"), answer(other, b"\x9c"), "base")
        assert len(tokens) == 2
        assert any("parted" in note for note in notes) is (scored == 1)
