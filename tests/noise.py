"""A prompt on which the embedded model never ends when it is asked as hot as it goes: nothing it learnt looks like it.

Sharp as it is, it ends a sensible question's answer early even then (144 tokens at most of twelve tries; of this
prompt's, eleven of twelve reached 384).
"""

from __future__ import annotations

import random

_CHARACTERS = "abcdefghijklmnopqrstuvwxyz ,;:()[]{}#@!0123456789"
_drawn = random.Random(0)
NOISE = "".join(_drawn.choice(_CHARACTERS) for _ in range(300))
