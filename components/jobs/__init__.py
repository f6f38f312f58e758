"""Process groups that can't be orphaned, and their bounded logs. Knows nothing of vLLM."""
