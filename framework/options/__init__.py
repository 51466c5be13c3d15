"""Declare options and check their values."""
