"""What a person may ask of repeating a turn. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from components.compare.request import check_options
from components.core.answers import Sampling
from components.core.errors import InputError
from components.core.repeats import FEWEST, MOST

VISITORS_MOST = 8  # a visitor of a public page may not keep the engines to himself
USUAL = 8
_OPTIONS = ("n", "temperature", "seed")
_LAST_SEED = 2**63 - 1


@dataclass(frozen=True)
class RepeatWish:
    """How often, how hot, and from which seed on; None = as the turn was asked."""

    count: int = USUAL
    temperature: float | None = None
    first_seed: int | None = None

    @classmethod
    def read(cls, options: object, *, most: int = MOST) -> RepeatWish:
        """From the options of a call; None and '' mean the default.

        Raises:
            InputError: naming the option and what it accepts.
        """
        asked = check_options(options, _OPTIONS)
        given = {name: value for name, value in asked.items() if value is not None and value != ""}
        count = _whole("n", given.get("n", min(USUAL, most)), FEWEST, most)
        temperature = _temperature(given["temperature"]) if "temperature" in given else None
        seed = _whole("seed", given["seed"], 0, _LAST_SEED - count + 1) if "seed" in given else None
        return cls(count, temperature, seed)

    def seeds(self, turn_seed: int | None) -> range:
        """The seeds to ask with: from the wished one on, else from the turn's own, else from 0."""
        first = self.first_seed if self.first_seed is not None else min(turn_seed or 0, _LAST_SEED - self.count + 1)
        return range(first, first + self.count)

    def sampling(self, asked: Sampling) -> Sampling:
        """A column's parameters with the wished temperature and without a seed."""
        temperature = asked.temperature if self.temperature is None else self.temperature
        return asked.model_copy(update={"temperature": temperature, "seed": None})


def _whole(name: str, value: object, lowest: int, highest: int) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
        return value
    raise InputError(f"{name} can't be {value!r}.", f"Accepted: whole numbers {lowest} to {highest}.", field=name)


def _temperature(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 2:
        return float(value)
    raise InputError(f"temperature can't be {value!r}.", "Accepted: 0 to 2.", field="temperature")
