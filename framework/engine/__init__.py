"""From batches to updated weights, compiled."""
