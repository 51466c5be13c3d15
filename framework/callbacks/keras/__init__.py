"""Callbacks written for Keras."""
