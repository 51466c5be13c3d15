"""Modules without dependencies on the rest: state, progress, files, signals, the cluster."""
