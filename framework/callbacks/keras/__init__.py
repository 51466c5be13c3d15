"""Support for Keras callbacks."""
