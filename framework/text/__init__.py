"""Text fit for a terminal, a table, a log."""
