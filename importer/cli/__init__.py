"""The command line: options in, one exit code out; the only package that prints or exits."""

from importer.cli.app import cli, main, run

__all__ = ["cli", "main", "run"]
