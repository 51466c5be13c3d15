"""Where batches come from: arrays, streams, what can be resumed."""
