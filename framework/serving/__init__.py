"""A trained task for use: from a checkpoint to predictions, and to files that need no framework."""
