"""Scripts that run in interpreters of their own, with the pinned requirements beside them."""
