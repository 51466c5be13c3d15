"""How options are declared and checked."""
