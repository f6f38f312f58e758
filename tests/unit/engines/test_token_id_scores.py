"""The method stock, without a server: which ids are asked about, and what is made of the scores that come back."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.compare.score_tokens import whole_path_tokens
from components.core.answers import Answer, TokenStep
from components.core.errors import RequestRefusedError
from components.engines import token_id_scores
from components.engines.exact_scoring import PathTokens
from components.engines.prompt_logprobs import NotOnThePathError, Row
from components.engines.token_id_scores import ids_of, read_scores, rows_of_scores, stock_rows
from components.engines.transport import EngineClient

LISTED = [Row({7: -0.2, 3: -2.0, 8: -3.0}, {}, 2), Row({4: -0.1, 9: -4.0}, {}, 1)]


def npy(values: Any, dtype: Any = np.float32) -> dict[str, str]:
    buffer = io.BytesIO()
    np.save(buffer, np.array(values, dtype=dtype))
    return {"prompt_token_id_logprobs": base64.b64encode(buffer.getvalue()).decode()}


def test_the_written_token_comes_first_and_none_twice() -> None:
    assert ids_of(LISTED, (3, 4), 20) == [[3, 7, 8], [4, 9]]
    assert ids_of(LISTED, (3, 4), 2) == [[3, 7], [4, 9]]


def test_both_rows_are_over_the_ids_that_were_scored() -> None:
    told = npy([[-1.0, -0.6, -9.0], [-0.3, -2.0, -np.inf]])
    base, candidate = rows_of_scores("m", told, LISTED, [[3, 7, 8], [4, 9]])
    assert [list(row.logprobs) for row in base] == [[7, 3, 8], [4, 9]]
    assert candidate[0].logprobs == pytest.approx({7: -0.6, 3: -1.0, 8: -9.0})
    assert candidate[0].target_rank is None and base[0].target_rank == 2
    none = rows_of_scores("m", npy([[-1.0, -np.inf, -9.0], [-0.3, -2.0, 0.0]]), LISTED, [[3, 7, 8], [4, 9]])
    assert [list(row.logprobs) for row in (none[0][0], none[1][0])] == [[3, 8], [3, 8]]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, "returned no scores"),
        ({"prompt_token_id_logprobs": "%%%"}, "can't be read"),
        ({"prompt_token_id_logprobs": 7}, "can't be read"),
        ({"prompt_token_id_logprobs": base64.b64encode(b"\x93NUMPY junk").decode()}, "can't be read"),
        (npy([[-1.0, -1.0]]), r"float32 \(1, 2\), not float32 \(2, 2\)"),
        (npy([[-1.0, -1.0], [-1.0, -1.0]], np.float64), "scores of float64"),
        (npy([[{}, -1.0], [-1.0, -1.0]], object), "can't be read"),
    ],
)
def test_scores_that_are_not_what_was_asked_for_are_refused(told: dict[str, Any], words: str) -> None:
    with pytest.raises(NotOnThePathError, match=words):
        read_scores("m", told, (2, 2))


def test_a_number_that_is_no_log_probability_is_refused() -> None:
    with pytest.raises(NotOnThePathError, match="as a log-probability"):
        rows_of_scores("m", npy([[5.0, -1.0, -1.0], [-1.0, -1.0, 0.0]]), LISTED, [[3, 7, 8], [4, 9]])


def scored(q: dict[int, float]) -> Any:
    p = Row({3: math.log(0.6), 7: math.log(0.3)}, {}, 1)
    candidate = Row({i: math.log(v) for i, v in sorted(q.items(), key=lambda pair: -pair[1])}, {}, None)
    written = Answer(tokens=(TokenStep(token_id=3, text="t", at_ms=0.0),))
    (token,), notes = whole_path_tokens([p], [candidate], written, str, of_base_only=True)
    assert "the base's likeliest ids" in notes[0]
    return token


def test_a_fork_is_only_said_where_it_is_certain() -> None:
    assert scored({3: 0.2, 7: 0.5}).fork is True
    assert scored({3: 0.5, 7: 0.4}).fork is False, "0.1 is left for all others"
    assert scored({3: 0.3, 7: 0.2}).fork is None, "another id may have 0.5"
    token = scored({3: 0.3, 7: 0.2})
    assert token.kl_base_to_candidate_nats == pytest.approx(
        0.6 * math.log(0.6 / 0.3) + 0.3 * math.log(0.3 / 0.2) + 0.1 * math.log(0.1 / 0.5)
    )
    assert token.candidate_top == (), "its own likeliest are not known"


async def test_a_server_that_allows_fewer_ids_is_asked_for_as_many_as_it_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = PathTokens((1, 2), (3, 4)), []

    async def answer(_client: object, _route: str, body: dict[str, Any]) -> dict[str, Any]:
        wanted = body["sampling_params"]
        k, ids = wanted.get("prompt_logprobs"), wanted.get("prompt_logprob_token_ids")
        asked.append(k if ids is None else [len(row) for row in ids])
        if k is not None and k > 3:
            raise RequestRefusedError("Too many.", detail="which is greater than max allowed: 3. Set max_logprobs")
        if ids is not None:
            assert wanted["prompt_logprob_start"] == 1 and body["token_ids"] == [1, 2, 3, 4]
            return {"prompt_token_ids": body["token_ids"], **npy([[-1.0] * len(row) for row in ids])}
        rows = [{str(t): {"logprob": -1.0, "rank": 1}, "90": {"logprob": -2.0, "rank": 2}} for t in (2, 3, 4)]
        return {"prompt_token_ids": body["token_ids"], "prompt_logprobs": [None, *rows]}

    monkeypatch.setattr(token_id_scores, "post_json", answer)
    client = EngineClient("m", uds=tmp_path / "s")
    base, candidate = await stock_rows(client, client, path)
    assert asked == [255, 2, [2, 2]]
    assert [list(row.logprobs) for row in (*base, *candidate)] == [[3, 90], [4, 90], [3, 90], [4, 90]]
