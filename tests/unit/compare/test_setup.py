"""The page's controls become columns; a control left empty is shared."""

from __future__ import annotations

import pytest

from components.compare.tab_handlers import flush_interval_s, read_setup
from components.core.errors import InputError

SHARED = ["Be brief.", 0.5, 0.9, 64, "", "END", ""]
EMPTY = ["", "", "", ""]


def controls(count: int = 2, shared: list[object] | None = None, **own: list[object]) -> list[object]:
    columns = [
        ["p/base", *own.get("first", EMPTY)],
        ["p/w4", *own.get("second", EMPTY)],
        ["p/w8", *EMPTY],
        ["p/x", *EMPTY],
    ]
    return [count, *(shared or SHARED), *(value for column in columns for value in column)]


def test_columns_share_the_settings() -> None:
    setup = read_setup(controls())
    assert [c.engine_id for c in setup.columns] == ["p/base", "p/w4"]
    assert setup.columns[0].sampling == setup.columns[1].sampling
    assert (setup.columns[0].sampling.temperature, setup.columns[0].sampling.stop) == (0.5, ("END",))
    assert setup.system == "Be brief."


def test_an_own_parameter_overrides_for_its_column_only() -> None:
    setup = read_setup(controls(second=["0", "", "7", "3"]))
    own = setup.columns[1].sampling
    assert (own.temperature, own.top_p, own.max_tokens, own.seed) == (0, 0.9, 7, 3)
    assert setup.columns[0].sampling.max_tokens == 64


@pytest.mark.parametrize("count", [1, 4])
def test_the_number_of_columns_is_the_controls(count: int) -> None:
    assert len(read_setup(controls(count)).columns) == count


def test_text_that_is_no_number_is_refused_by_name() -> None:
    with pytest.raises(InputError) as caught:
        read_setup(controls(first=["warm", "", "", ""]))
    assert caught.value.field == "temperature"


def test_the_same_engine_may_stand_twice() -> None:
    values = controls()
    values[13] = "p/base"
    assert [c.engine_id for c in read_setup(values).columns] == ["p/base", "p/base"]


def test_pages_are_updated_less_often_when_many_columns_stream() -> None:
    assert flush_interval_s(1) == flush_interval_s(2) == 0.08
    assert flush_interval_s(32) > 0.5
