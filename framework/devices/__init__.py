"""One device, several, several machines."""
