"""Measures DESIGN's table of speed, each row beside its baseline in the same run. `python -m benchmarks --help`."""
