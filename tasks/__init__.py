"""The exercises of the TF2 API lesson, one Task a file."""
