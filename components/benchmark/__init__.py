"""Benchmarks of a base and its candidates: quality, accuracy, throughput, cost; records, charts, a verdict."""
