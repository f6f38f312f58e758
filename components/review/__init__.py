"""Review: batches of questions, a blind queue, verdicts, agreement, reports."""
