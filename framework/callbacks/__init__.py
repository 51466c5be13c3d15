"""One concern a file, called by the trainer at its hooks."""
