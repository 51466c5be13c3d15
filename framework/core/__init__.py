"""What knows nobody: state, progress, files, signals, the cluster."""
