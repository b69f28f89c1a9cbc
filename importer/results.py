"""The results file, the file of rejected rows, and the counts: what a run says afterwards.

While the run goes on, a `.part` beside the results file takes every row as staged and every receipt as it comes.
At the end the results are written in input order with the fates the ledger holds, and moved into place.
"""

import csv
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from importer.errors import CannotCreateError
from importer.records import ResultRow
from schemas.call import E164
from schemas.vocabulary import RESULT_COLUMNS, Outcome

CHUNK_ROWS = 500
_OUTCOME, _CALL_ID = RESULT_COLUMNS.index("outcome"), RESULT_COLUMNS.index("call_id")
_FATE_COLUMNS = ("outcome", "reason", "hint", "http_status", "code", "attempts", "sent_at")
_FORMULA_START = frozenset("=+-@\t\r\n")

Fates = Callable[[Sequence[str]], Mapping[str, ResultRow]]
"""Tells for call ids what became of the calls, as result rows of which only the fate is used."""


def results_path(first_input: Path | None, run_id: str, chosen: Path | None) -> Path:
    """Return where the results go: as chosen, else beside the first input, else in the working folder.

    Raises CannotCreateError when the path is taken or its folder cannot be written to.
    """
    if chosen is None:
        name = f"{first_input.name if first_input else 'cdr-importer'}.results-{run_id}.csv"
        beside = first_input.parent if first_input else Path.cwd()
        chosen = (beside if os.access(beside, os.W_OK) else Path.cwd()) / name
    if chosen.exists() or chosen.is_symlink():
        raise CannotCreateError(
            f"results file {chosen} exists already", hint="It is never overwritten: name another with --results."
        )
    if not chosen.parent.is_dir() or not os.access(chosen.parent, os.W_OK):
        raise CannotCreateError(
            f"results file {chosen} cannot be created: its folder is missing or read-only",
            hint="Create the folder, or name another file with --results.",
        )
    return chosen


class ResultsFile:
    """The results of one run, row by row: first `add` what staging decided, then `note` receipts, then `finish`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(path.name + ".part")
        self._stream = _create(self._part)
        self._writer = csv.writer(self._stream, lineterminator="\r\n")
        self._writer.writerow(RESULT_COLUMNS)
        self._added = 0

    def add(self, rows: Iterable[ResultRow]) -> None:
        """Take rows in input order; those still `pending` get their fate at the end."""
        for row in rows:
            self._writer.writerow(cells_of(row))
            self._added += 1

    def note(self, row: ResultRow) -> None:
        """Take a receipt as it comes; `flush` makes it last."""
        self._writer.writerow(cells_of(row))

    def flush(self) -> None:
        """Hand what was written so far to the operating system."""
        try:
            self._stream.flush()
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def finish(self, fates: Fates, carried: Iterable[ResultRow]) -> Counter[Outcome]:
        """Write the results in order: calls of earlier runs first, then the input's rows; return the counts."""
        self.flush()
        self._stream.close()
        counts: Counter[Outcome] = Counter()
        final = self.path.with_name(self.path.name + ".final.part")
        try:
            with _create(final) as stream:
                writer = csv.writer(stream, lineterminator="\r\n")
                writer.writerow(RESULT_COLUMNS)
                for cells in self._final_cells(fates, carried):
                    writer.writerow(cells)
                    counts[Outcome(cells[_OUTCOME])] += 1
                stream.flush()
                os.fsync(stream.fileno())
            os.link(final, self.path)  # unlike a rename, this never replaces a file
        except OSError as error:
            raise _unwritable(self.path, error) from error
        final.unlink()
        self._part.unlink()
        _sync_folder(self.path.parent)
        return counts

    def _final_cells(self, fates: Fates, carried: Iterable[ResultRow]) -> Iterator[list[str]]:
        for row in carried:
            yield cells_of(row)
        with self._part.open(encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream)
            next(reader)
            left = self._added
            while left > 0:
                chunk = [next(reader) for _ in range(min(CHUNK_ROWS, left))]
                left -= len(chunk)
                yield from _with_fates(chunk, fates)


def _with_fates(chunk: list[list[str]], fates: Fates) -> Iterator[list[str]]:
    open_ids = [cells[_CALL_ID] for cells in chunk if cells[_OUTCOME] == Outcome.PENDING]
    found = fates(open_ids) if open_ids else {}
    for cells in chunk:
        if cells[_OUTCOME] == Outcome.PENDING and cells[_CALL_ID] in found:
            fate = dict(zip(RESULT_COLUMNS, cells_of(found[cells[_CALL_ID]]), strict=True))
            for name in _FATE_COLUMNS:
                cells[RESULT_COLUMNS.index(name)] = fate[name]
        yield cells


def cells_of(row: ResultRow) -> list[str]:
    """Return a row as the cells of the results file, with formulas defused."""
    return [
        defused(row.place.file),
        str(row.place.line) if row.place.line else "",
        row.call_id,
        row.outcome.value,
        row.state,
        defused(row.agent_number),
        defused(row.customer_number),
        row.start_time,
        defused(row.zohouser),
        defused(row.source_id),
        row.reason,
        defused(row.hint),
        "" if row.http_status is None else str(row.http_status),
        defused(row.code),
        str(row.attempts) if row.attempts else "",
        row.sent_at,
    ]


def defused(text: str) -> str:
    """Return a cell that no spreadsheet runs as a formula; strict E.164 stays as it is.

    The dangerous first characters are OWASP's (CSV Injection), also behind blanks and invisible characters.
    """
    bare = text.lstrip(" \u00a0")
    while bare and unicodedata.category(bare[0]) == "Cf":
        bare = bare[1:].lstrip(" \u00a0")
    first = unicodedata.normalize("NFKC", bare[:1])
    if first not in _FORMULA_START or not first or re.fullmatch(E164, text):
        return text
    return "'" + text


def write_rejects(path: Path, header: str | None, records: Iterable[str]) -> None:
    """Write records verbatim under their original header, to be mended and imported again."""
    with _create(path) as stream:
        if header is not None:
            stream.write(header + "\r\n")
        for record in records:
            stream.write(record + "\r\n")
        stream.flush()
        os.fsync(stream.fileno())


def _create(path: Path) -> IO[str]:
    """Create a file that only we may read, whatever the umask; never follow or replace what is there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from error
    return open(descriptor, "w", encoding="utf-8", newline="")  # noqa: PTH123 an open descriptor has no path


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> CannotCreateError:
    return CannotCreateError(
        f"{path} cannot be written: {error.strerror}",
        hint="Free space or mend rights; what was sent is safe in the ledger.",
    )
