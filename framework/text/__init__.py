"""Make text safe for terminals, tables and logs."""
