"""The command line: compose, build, run; nothing that the Python API cannot do."""

from framework.cli.command import main

__all__ = ["main"]
