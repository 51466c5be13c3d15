"""Data that users bring: how fast they train, and whether a killed run ends with the same bits."""
