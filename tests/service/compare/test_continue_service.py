"""Going on from a chosen token: what is refused before an engine is asked."""

from __future__ import annotations

import pytest

from components.compare.continuation import Choice
from components.core.errors import InputError
from tests.service.compare.scene import Scene

pytestmark = pytest.mark.service


async def test_an_engine_elsewhere_is_refused_for_what_it_is(scene: Scene) -> None:
    """Not for a token that it is said not to have: nobody knows its tokens."""
    trace_id = await scene.ask()
    answer = scene.turns._live[trace_id].trace.answers[0]
    with pytest.raises(InputError, match="runs elsewhere, without our extension"):
        await scene.turns.continue_from(trace_id, 1, Choice(answer.slot.id, 0, 5))
