"""How a person names a model: what is accepted, checked at the edge. Which model is meant is for the rooms to say."""

from __future__ import annotations

import re

from components.core.errors import InputError

REPO_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*")
ACCEPTED = "Accepted: a pair, pair/model, owner/name of a repository, or the absolute path of a folder."
_MAX_LENGTH = 1000


def checked_model_name(named: object) -> str:
    """Without spaces around it.

    Raises:
        InputError: no text, too long, or with characters that can't be seen.
    """
    if not isinstance(named, str) or len(named) > _MAX_LENGTH or not named.isprintable():
        raise InputError("The name of the model can't be used.", ACCEPTED, field="model")
    return named.strip()
