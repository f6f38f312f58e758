"""The Models capability: every engine with its state, start, stop and log."""
