"""The exercises of the TF2 API lesson, and a gallery of example tasks, one Task per file."""
