"""The state contract and the store on disk."""
