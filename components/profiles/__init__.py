"""Profiles: what a pair of models or a machine is, read from strict YAML, and a model's exact vLLM command line."""
