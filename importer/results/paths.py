"""Where results and rejects go, and files that only we may read and that replace nothing."""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from importer.errors import CannotCreateError
from importer.private_files import open_new


def results_path(first_input: Path | None, run_id: str, chosen: Path | None) -> Path:
    """Return where the results go: as chosen, else beside the first input, else in the working folder.

    Raises CannotCreateError when the path is taken or its folder cannot be written to.
    """
    if chosen is None:
        name = f"{as_text(first_input.name) if first_input else 'cdr-importer'}.results-{run_id}.csv"
        beside = first_input.parent if first_input else Path.cwd()
        chosen = (beside if os.access(beside, os.W_OK) else Path.cwd()) / name
    check_free(chosen, "results")
    return chosen


def as_text(name: str) -> str:
    r"""Return a name as it can be written down: bytes that are no UTF-8 as ``\udce9``."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def check_free(path: Path, kind: str) -> None:
    """Raise CannotCreateError unless a file can be made at ``path``; ``kind`` is `results` or `rejects`."""
    if path.exists() or path.is_symlink():
        raise CannotCreateError(
            f"{kind} file {path} exists already", hint=f"It is never overwritten: name another with --{kind}."
        )
    if as_text(str(path.absolute())) != str(path.absolute()):
        raise CannotCreateError(
            f"{kind} file {path} cannot be created: its path is no UTF-8 text, so no later run could find it",
            hint=f"Name another with --{kind}.",
        )
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise CannotCreateError(
            f"{kind} file {path} cannot be created: its folder is missing or read-only",
            hint=f"Create the folder, or name another file with --{kind}.",
        )


def write_rejects(path: Path, records: Iterable[str]) -> None:
    """Write the original header and records verbatim, to be mended and imported again: all of them or no file."""
    stream = create(path)
    try:
        with stream:
            for record in records:
                stream.write(record + "\r\n")
            make_durable(stream)
    except CannotCreateError:
        path.unlink(missing_ok=True)
        raise
    except OSError as error:
        path.unlink(missing_ok=True)
        raise CannotCreateError(
            f"rejects file {path} cannot be written: {error.strerror}",
            hint="Free space, then import the same files with --rejects once more: nothing is sent twice.",
        ) from error


def create(path: Path) -> IO[str]:
    """Create a file that only we may read, for results or rejects; raises CannotCreateError."""
    try:
        return io.TextIOWrapper(open_new(path), encoding="utf-8", newline="")
    except OSError as error:
        raise unwritable(path, error) from error


def make_durable(stream: IO[str]) -> None:
    """Make the text written so far durable; raises OSError."""
    stream.flush()
    os.fsync(stream.fileno())


def unwritable(path: Path, error: OSError) -> CannotCreateError:
    """Return the error for a file that cannot be written; calls sent by then are in the ledger."""
    return CannotCreateError(
        f"{path} cannot be written: {error.strerror}",
        hint="Free space or mend rights. What was sent is safe in the ledger, and the next `import` or `deliver` "
        "completes the results of this run.",
    )
