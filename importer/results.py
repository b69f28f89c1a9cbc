"""The results file, the file of rejected rows, and the counts: what a run says afterwards.

While the run goes on, a `.part` beside the results file takes every row as staged and every receipt as it comes.
At the end the results are written in input order with the fates the ledger holds, and moved into place.
"""

import csv
import os
import re
import string
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from importer.errors import CannotCreateError
from importer.records import Call, ResultRow
from importer.steps import Step, Told, tell_nobody
from schemas.vocabulary import E164, RESULT_COLUMNS, Outcome

CHUNK_ROWS = 500
_FILE, _LINE, _CALL_ID, _OUTCOME, _REASON = (
    RESULT_COLUMNS.index(name) for name in ("file", "line", "call_id", "outcome", "reason")
)
_FATE_COLUMNS = ("outcome", "reason", "hint", "http_status", "code", "attempts", "sent_at")
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_NUMBER = re.compile(E164)
_HARMLESS_START = frozenset(("", *string.digits, *string.ascii_letters))
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
    check_free(chosen, "results")
    return chosen


def check_free(path: Path, kind: str) -> None:
    """Raise CannotCreateError unless a file can be made at ``path``; ``kind`` is `results` or `rejects`."""
    if path.exists() or path.is_symlink():
        raise CannotCreateError(
            f"{kind} file {path} exists already", hint=f"It is never overwritten: name another with --{kind}."
        )
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise CannotCreateError(
            f"{kind} file {path} cannot be created: its folder is missing or read-only",
            hint=f"Create the folder, or name another file with --{kind}.",
        )


@dataclass(frozen=True, slots=True)
class Finished:
    """What the results file came to: rows by outcome, skipped rows by reason, and the lines to be mended by file.

    ``carried`` counts the rows of calls that earlier runs had left; ``to_mend`` has the rejected and refused rows
    of this input under the file's name as it stands in the results.
    """

    outcomes: Mapping[Outcome, int]
    skipped: Mapping[str, int]
    carried: int
    to_mend: Mapping[str, frozenset[int]]


class ResultsFile:
    """The results of one run: first `add` what staging decided, then `note` receipts, then `finish`."""

    def __init__(self, path: Path, step: Told = tell_nobody) -> None:
        self.path = path
        self._step = step
        self._part = path.with_name(path.name + ".part")
        self._carried_part = path.with_name(path.name + ".carried.part")
        self._final_part = path.with_name(path.name + ".final.part")
        self._stream = _create(self._part)
        self._writer = csv.writer(self._stream, lineterminator="\r\n")
        self._writer.writerow(RESULT_COLUMNS)
        self._carried_stream = _create(self._carried_part)
        self._carried_writer = csv.writer(self._carried_stream, lineterminator="\r\n")
        self._added = self._carried = self._open = 0
        self._tally = _Tally()
        self._noted = False
        step(Step.RESULTS_CREATED)

    def add(self, rows: Iterable[ResultRow | Call], calls_are: Outcome) -> None:
        """Take rows in input order; those still `pending` get their fate at the end.

        A bare call stands for its row with the outcome ``calls_are``.
        """
        left = iter(rows)
        while chunk := list(islice(left, CHUNK_ROWS)):
            lines = [cells_of(row) if isinstance(row, ResultRow) else call_cells(row, calls_are) for row in chunk]
            self._writer.writerows(lines)
            self._added += len(lines)
            for cells in lines:
                if cells[_OUTCOME] == Outcome.PENDING:
                    self._open += 1
                else:
                    self._tally.add(cells, own=True)

    def note(self, row: ResultRow, *, carried: bool) -> None:
        """Take a receipt as it comes; ``carried`` says that an earlier run had staged the call."""
        self._noted = True
        if carried:
            self._carried_writer.writerow(cells_of(row))
            self._carried += 1
        else:
            self._writer.writerow(cells_of(row))

    def has_receipts(self) -> bool:
        """Say whether anything was sent: then the parts are worth keeping whatever happens."""
        return self._noted

    def flush(self) -> None:
        """Hand what was written so far to the operating system."""
        try:
            self._stream.flush()
            self._carried_stream.flush()
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def sync(self) -> None:
        """Make the rows added so far durable, with the names of their files."""
        self.flush()
        try:
            os.fsync(self._stream.fileno())
            _sync_folder(self.path.parent)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def discard(self) -> None:
        """Leave no file behind: for a run that ends before it has any result."""
        self._stream.close()
        self._carried_stream.close()
        for path in (self._part, self._carried_part, self._final_part):
            path.unlink(missing_ok=True)

    def finish(self, fates: Fates) -> Finished:
        """Write the results in order: calls of earlier runs as sent, then the input's rows with their fates."""
        self.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._carried_stream.close()
        try:
            if self._open or self._noted:
                self._write_final(fates)
            else:
                self._part.rename(self._final_part)
            self._step(Step.RESULTS_PART_SYNCED)
            os.link(self._final_part, self.path)  # unlike a rename, this never replaces a file
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._step(Step.RESULTS_LINKED)
        self.discard()
        _sync_folder(self.path.parent)
        return self._tally.finished(self._carried)

    def _write_final(self, fates: Fates) -> None:
        with _create(self._final_part) as stream:
            writer = csv.writer(stream, lineterminator="\r\n")
            writer.writerow(RESULT_COLUMNS)
            for cells in self._carried_cells():
                writer.writerow(cells)
                self._tally.add(cells, own=False)
            for cells, was_open in self._own_cells(fates):
                writer.writerow(cells)
                if was_open:
                    self._tally.add(cells, own=True)
            stream.flush()
            os.fsync(stream.fileno())

    def _carried_cells(self) -> Iterator[list[str]]:
        with self._carried_part.open(encoding="utf-8", newline="") as stream:
            yield from csv.reader(stream)

    def _own_cells(self, fates: Fates) -> Iterator[tuple[list[str], bool]]:
        with self._part.open(encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream)
            next(reader)
            left = self._added
            while left > 0:
                chunk = [next(reader) for _ in range(min(CHUNK_ROWS, left))]
                left -= len(chunk)
                yield from _with_fates(chunk, fates)


class _Tally:
    def __init__(self) -> None:
        self._outcomes: Counter[Outcome] = Counter()
        self._skipped: Counter[str] = Counter()
        self._to_mend: defaultdict[str, set[int]] = defaultdict(set)

    def add(self, cells: Sequence[str], *, own: bool) -> None:
        outcome = _OUTCOMES[cells[_OUTCOME]]
        self._outcomes[outcome] += 1
        if outcome is Outcome.SKIPPED:
            self._skipped[cells[_REASON]] += 1
        if own and outcome in (Outcome.REJECTED, Outcome.REFUSED):
            self._to_mend[cells[_FILE]].add(int(cells[_LINE]))

    def finished(self, carried: int) -> Finished:
        lines = {file: frozenset(lines) for file, lines in self._to_mend.items()}
        return Finished(self._outcomes, self._skipped, carried, lines)


def _with_fates(chunk: list[list[str]], fates: Fates) -> Iterator[tuple[list[str], bool]]:
    """Yield the rows with their fates, and whether each was open until now."""
    open_ids = [cells[_CALL_ID] for cells in chunk if cells[_OUTCOME] == Outcome.PENDING]
    found = fates(open_ids) if open_ids else {}
    for cells in chunk:
        was_open = cells[_OUTCOME] == Outcome.PENDING
        if was_open and cells[_CALL_ID] in found:
            fate = dict(zip(RESULT_COLUMNS, cells_of(found[cells[_CALL_ID]]), strict=True))
            for name in _FATE_COLUMNS:
                cells[RESULT_COLUMNS.index(name)] = fate[name]
        yield cells, was_open


def call_cells(call: Call, outcome: Outcome) -> list[str]:
    """Return the row of a call that nothing more is to be said of; numbers and times are valid by then."""
    return [
        defused(call.place.file),
        str(call.place.line),
        call.call_id,
        outcome,
        call.state,
        call.agent_number,
        call.customer_number,
        call.start_time,
        defused(call.zohouser),
        defused(call.source_id),
        *_NO_FATE,
    ]


_NO_FATE = ("",) * 6


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
    if text[:1] in _HARMLESS_START:
        return text
    bare = text.lstrip(" \u00a0")
    while bare and unicodedata.category(bare[0]) == "Cf":
        bare = bare[1:].lstrip(" \u00a0")
    first = unicodedata.normalize("NFKC", bare[:1])
    if first not in _FORMULA_START or not first or _NUMBER.fullmatch(text):
        return text
    return "'" + text


def write_rejects(path: Path, records: Iterable[str]) -> None:
    """Write the original header and records verbatim, to be mended and imported again."""
    with _create(path) as stream:
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
