"""The command line: arguments in, one call, output, exit code. Nothing below this package prints."""

from tocsin.cli.app import app, main

__all__ = ["app", "main"]
