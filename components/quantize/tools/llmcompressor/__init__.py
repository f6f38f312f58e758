"""llm-compressor."""
