"""Measures the framework beside what one would use instead: `python -m benchmarks --help`."""
