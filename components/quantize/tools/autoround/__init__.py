"""AutoRound."""
