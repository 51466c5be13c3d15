"""The sources of batches: arrays, streams, and how to resume them."""
