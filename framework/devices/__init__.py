"""The devices of a run: one, several, or several machines."""
