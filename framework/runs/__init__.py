"""Runs on disk: read them, select them, compare them. `python -m framework.runs DIR` shows them."""

from framework.runs.finished_run import RunRecord, find_runs

__all__ = ["RunRecord", "find_runs"]
