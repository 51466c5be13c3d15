"""The exercises of the TF2 API lesson and a gallery of tasks to start from, one Task a file."""
