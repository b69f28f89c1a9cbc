"""Where the program begins: ``cdr-importer``, which is the same as ``python -m importer``."""

import sys


def main() -> None:
    """Run the program; Ctrl-C while it loads ends it as Ctrl-C does later."""
    try:
        from importer.cli import main as program  # takes up to a second, where the disk is slow

        program()
    except KeyboardInterrupt:
        sys.stderr.write("cdr-importer: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
