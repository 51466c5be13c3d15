"""`python -m benchmarks sweep`: what jobs side by side save, and that kills spoil no sweep."""
