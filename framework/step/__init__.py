"""One step: from a batch to updated weights and logged values."""
