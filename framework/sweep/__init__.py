"""Sweeps: their directories, what stands in them, and processes that run their jobs."""
