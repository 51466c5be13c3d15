"""The command line: compose a configuration, build the objects, run them."""

from framework.cli.command import main

__all__ = ["main"]
