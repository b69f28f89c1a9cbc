"""The files of results: where they go, and the way from their parts and the ledger's fates to the file in place.

A run that ends takes this way, and so does the run after one that died. Only we may read what is made here, and it
replaces nothing.
"""

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from importer.errors import CannotCreateError
from importer.ledger import Fate
from importer.private_files import open_new, sync_folder, whose, why
from importer.records import OUTCOME_OF_STATE
from importer.results.cells import PART, begin_rows, fate_cells, raw_rows
from schemas.vocabulary import REASON_COLUMNS, Outcome

CHUNK_ROWS = 500
_FATE_COLUMNS = ("outcome", "reason", "hint", "http_status", "code", "attempts", "sent_at")

Fates = Callable[[Sequence[str]], Mapping[str, Fate]]
"""Returns the fates of calls by call id, as the ledger does."""


class Parts:
    """The files of results that are being made for ``path``; ``all`` of them may be removed in this order.

    ``staging`` has the rows of the input while they come, ``rows`` the same rows whole and durable, ``carried``
    the rows of calls that earlier runs had left, ``final`` the results before they get their name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.staging, self.rows, self.carried, self.final = self.all = tuple(
            path.with_name(f"{path.name}{kind}{PART}") for kind in (".staging", "", ".carried", ".final")
        )

    def discard(self) -> None:
        """Remove all of them."""
        for path in self.all:
            path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class FinalRow:
    """One row of the results, by column name.

    ``was_open``: its fate is in the ledger and not in the part. ``own``: it is a row of this input.
    """

    cells: Mapping[str, str]
    was_open: bool
    own: bool


class _NotTakenInError(Exception):
    """A call of these rows is not in the ledger: the run died before they were taken in."""


def final_rows(parts: Parts, fates: Fates, *, must_be_known: bool = False) -> Iterator[FinalRow]:
    """Yield the rows of the results with their fates: calls of earlier runs, then the input's."""
    for path, own in ((parts.carried, False), (parts.rows, True)):
        left = raw_rows(path) if path.exists() else iter(())
        while chunk := list(islice(left, CHUNK_ROWS)):
            open_ids = [row["call_id"] for row in chunk if row["outcome"] == Outcome.PENDING]
            found = fates(open_ids) if open_ids else {}
            for row in chunk:
                was_open = row["outcome"] == Outcome.PENDING
                fate = found.get(row["call_id"]) if was_open else None
                if fate is not None:
                    row.update(zip(_FATE_COLUMNS, (OUTCOME_OF_STATE[fate.state], *fate_cells(fate)), strict=True))
                elif was_open and must_be_known:
                    raise _NotTakenInError
                yield FinalRow(row, was_open, own)


def write_final(parts: Parts, rows: Iterable[FinalRow]) -> None:
    """Write the results under their last name but one, durable; raises OSError."""
    with create(parts.final) as stream:
        begin_rows(stream)(row.cells.values() for row in rows)
        make_durable(stream)


def put_in_place(parts: Parts) -> None:
    """Give the results their name, which replaces nothing, and remove the parts; raises OSError."""
    os.link(parts.final, parts.path)  # unlike a rename, this never replaces a file
    sync_folder(parts.path.parent)
    parts.discard()
    sync_folder(parts.path.parent)


def complete_parts(path: Path, run_id: str, fates: Fates) -> str | None:
    """Finish the results of a run that died from its parts; may be repeated after a death in here.

    Returns a note for a person, empty where the results were there, or None where no part is left. Where another
    file has taken the path, the results stay beside it as ``.final.part``. Raises CannotCreateError.
    """
    parts, is_in_place = Parts(path), False
    not_taken_in = (
        f"The run {run_id} died before its calls were taken in; nothing of it was sent. Import its files again."
    )
    with suppress(OSError):
        is_in_place = os.path.samestat(parts.final.lstat(), path.lstat())
    try:
        if is_in_place:
            parts.discard()
            return ""
        if parts.rows.exists():
            parts.final.unlink(missing_ok=True)
            write_final(parts, final_rows(parts, fates, must_be_known=True))
        elif not parts.final.exists():
            has_begun = parts.staging.exists()
            parts.discard()
            return "" if path.exists() else not_taken_in if has_begun else None
        if os.path.lexists(path):
            return (
                f"The results of the run {run_id}, which died, are in {parts.final}, because another file is at "
                f"{path} now."
            )
        put_in_place(parts)
    except _NotTakenInError:
        parts.discard()
        return not_taken_in
    except OSError as error:
        raise unwritable(path, error) from error
    return f"The results of the run {run_id}, which died, were completed: {path}."


def results_path(first_input: Path | None, run_id: str, chosen: Path | None, ledger: Path | None) -> Path:
    """Return where the results go: as chosen, or beside the first input, in the working folder, beside the ledger.

    Raises CannotCreateError when the path is taken or its folder cannot be written to.
    """
    if chosen is None:
        # Among the inputs of a pattern may be the results of earlier nights.
        name = (
            re.sub(r"(\.results-[^.]+\.csv)+$", "", as_text(first_input.name)) if first_input else "cdr-importer"
        )
        folders = (first_input and first_input.parent, Path.cwd(), ledger and ledger.parent)
        # `sudo -u` leaves a service's user in a folder of root's.
        free = (each for each in folders if each and os.access(each, os.W_OK | os.X_OK))
        chosen = next(free, Path.cwd()) / f"{name}.results-{run_id}.csv"
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
        closed = f"; {whose(path)}" if path.parent.is_dir() else ""
        raise CannotCreateError(
            f"{kind} file {path} cannot be created: its folder is missing or read-only{closed}",
            hint=f"Create the folder, or name another file with --{kind}.",
        )


def reasons_path(rejects: Path) -> Path:
    """Return where the reasons of the records in a file of rejects go."""
    return rejects.with_name(f"{rejects.stem}.reasons.csv")


def write_rejects(path: Path, records: Iterable[tuple[str, Sequence[str] | None]]) -> None:
    """Write the original header and records verbatim, to be mended and imported again: all of them or no file.

    What is said of each but the header goes into a second file, as `REASON_COLUMNS` has it after the line.
    """
    try:
        with _whole(path) as stream, _whole(reasons_path(path)) as beside:
            say, line = csv.writer(beside, lineterminator="\r\n").writerow, 1
            say(REASON_COLUMNS)
            for record, said in records:
                if said is not None:
                    say((line, *said))
                stream.write(record + "\r\n")
                line += record.count("\n") + 1
            make_durable(stream)
            make_durable(beside)
    except OSError as error:
        raise CannotCreateError(
            f"rejects file {path} cannot be written: {error.strerror}",
            hint="Free space, then import the same files with --rejects once more: nothing is sent twice.",
        ) from error


@contextmanager
def _whole(path: Path) -> Iterator[IO[str]]:
    """Give a new file that is gone again after an exception; raises CannotCreateError."""
    stream = create(path)
    try:
        with stream:
            yield stream
    except BaseException:
        path.unlink(missing_ok=True)
        raise


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
        f"{path} cannot be written: {why(error, path)}",
        hint="Free space or mend rights. What was sent is safe in the ledger: its next `import` or `deliver` "
        "completes these results. Run a `check` again.",
    )
