"""The results of the run that goes on: rows as they are decided, then the file in its place and the counts."""

import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO

from importer.errors import CannotCreateError
from importer.private_files import sync_folder
from importer.records import Call, ResultRow
from importer.results.cells import begin_rows, cells_of, defused
from importer.results.parts import (
    CHUNK_ROWS,
    Fates,
    FinalRow,
    Parts,
    create,
    final_rows,
    make_durable,
    put_in_place,
    unwritable,
    write_final,
)
from schemas.vocabulary import SEEN_BEFORE, UNFINISHED_ROW, Outcome


@dataclass(frozen=True, slots=True)
class Finished:
    """The counts of a results file: rows by outcome, skipped and rejected rows by reason, lines to mend by file.

    Rejected rows that an earlier run has listed count as `SEEN_BEFORE`, whatever their reason.
    ``carried`` is how many rows are of calls that earlier runs had left. ``to_mend`` has the rejected and refused
    rows of this input, under the file's name as the results have it; ``open_files`` are the names of those with a
    row that is not decided yet. The file is not there unless it ``is_written``.
    """

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    # Eight bytes a line: every row of a large file may be rejected.
    to_mend: defaultdict[str, "array[int]"] = field(default_factory=lambda: defaultdict(lambda: array("q")))
    carried: int = 0
    open_files: set[str] = field(default_factory=set)
    is_written: bool = True

    def add(self, outcome: Outcome, reason: str, code: str, file: str = "", line: int = 0) -> None:
        """Count one row; ``file`` and ``line`` are its place in this input, if it is a row of that."""
        self.outcomes[outcome] += 1
        if outcome is Outcome.SKIPPED:
            self.skipped[reason] += 1
        elif outcome is Outcome.REJECTED:
            self.rejected[SEEN_BEFORE if code == SEEN_BEFORE else reason] += 1
        if outcome in (Outcome.PENDING, Outcome.UNCERTAIN) or reason == UNFINISHED_ROW:
            self.open_files.add(file)
        # A row that is not written to its end would be read as a whole one if it were imported again.
        if line and outcome in (Outcome.REJECTED, Outcome.REFUSED) and reason != UNFINISHED_ROW:
            self.to_mend[file].append(line)

    def counting(self, rows: Iterable[FinalRow], *, open_only: bool = False) -> Iterator[FinalRow]:
        """Yield rows of the results as they are read back, and count them, or only those that were open."""
        for row in rows:
            if row.was_open or not open_only:
                place = (row.cells["file"], int(row.cells["line"] or 0)) if row.own else ()
                self.add(Outcome(row.cells["outcome"]), row.cells["reason"], row.cells["code"], *place)
            yield row


class ResultsFile:
    """The results of one run: `add` rows, `sync`, `take_up` calls of earlier runs, `finish`.

    Once they are ``is_kept``, since their calls are in the ledger, the parts are left whatever happens.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts = Parts(path)
        for part in self._parts.all:
            if os.path.lexists(part):
                raise CannotCreateError(
                    f"{part} is in the way of the results", hint="Remove it, or name other results with --results."
                )
        self._streams: list[IO[str]] = []
        self._carried = self._open = 0
        self._counts = Finished()
        self._is_synced = False
        self.is_kept = False
        self._finished: Finished | None = None
        try:
            writers = []
            for part in (self._parts.staging, self._parts.carried):
                self._streams.append(create(part))
                writers.append(begin_rows(self._streams[-1]))
            self._stream, self._carried_stream = self._streams
            self._write, self._write_carried = writers
        except BaseException:
            self.discard()
            raise

    def add(self, rows: Iterable[ResultRow | Call], calls_are: Outcome) -> None:
        """Write rows in input order; those still `pending` get their fate at the end.

        A bare call is a row with the outcome ``calls_are``.
        """
        left = iter(rows)
        while chunk := list(islice(left, CHUNK_ROWS)):
            try:
                self._write(cells_of(row, calls_are) for row in chunk)
            except OSError as error:
                raise unwritable(self.path, error) from error
            own = [row for row in chunk if isinstance(row, ResultRow)]
            for row in own:
                self._counts.add(row.outcome, row.reason, row.code, defused(row.place.file), row.place.line)
            self._counts.outcomes[calls_are] += len(chunk) - len(own)
            self._open += self._counts.outcomes.pop(Outcome.PENDING, 0)

    def sync(self) -> None:
        """Make the rows added durable, with the name that says they are whole; nothing is added after that."""
        if self._is_synced:
            return
        try:
            make_durable(self._stream)
            self._stream.close()
            self._parts.staging.rename(self._parts.rows)
            sync_folder(self.path.parent)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._is_synced = True

    def take_up(self, calls: Sequence[Call]) -> None:
        """Write calls of earlier runs, durable: once they are sent, only this file has their rows."""
        if not calls:
            return
        try:
            self._write_carried(cells_of(call, Outcome.PENDING) for call in calls)
            make_durable(self._carried_stream)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._carried += len(calls)

    def leave(self) -> None:
        """Leave the parts as they are: the next run on the ledger finishes the results from them."""
        for stream in self._streams:
            with suppress(OSError):
                stream.close()

    def discard(self) -> None:
        """Leave no file behind: for a run that ends before it has any result."""
        self.leave()
        self._parts.discard()

    def finish(self, fates: Fates | None, *, may_drop: bool = False) -> Finished:
        """Write the results in order: calls of earlier runs as sent, then the input's rows with their fates.

        Where there is no row at all, no file is left if it ``may_drop``.
        """
        self.sync()
        if may_drop and not (self._open or self._carried or self._counts.outcomes.total()):
            self.discard()
            self._finished = replace(self._counts, is_written=False)
            return self._finished
        try:
            for stream in self._streams:
                stream.close()  # which writes the bytes that a full disk did not take before
            if self._open or self._carried:
                rows = final_rows(self._parts, fates or (lambda _: {}))
                write_final(self._parts, self._counts.counting(rows, open_only=True))
            else:
                self._parts.rows.rename(self._parts.final)
            put_in_place(self._parts)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._finished = replace(self._counts, carried=self._carried)
        return self._finished

    def standing(self, fates: Fates) -> Finished:
        """Return the counts of the results as they would be now, for a run that cannot finish them."""
        if self._finished is not None:
            return self._finished
        self.leave()
        if not self._parts.rows.exists():
            return self._counts
        counts, carried = Finished(), 0
        for row in counts.counting(final_rows(self._parts, fates)):
            carried += not row.own
        return replace(counts, carried=carried)
