"""The store of checkpoints on disk."""
