"""The results of the run that goes on: rows as they are decided, then the file in its place and the counts."""

import csv
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from importer.errors import CannotCreateError
from importer.private_files import sync_folder
from importer.records import Call, ResultRow
from importer.results.cells import call_cells, cells_of
from importer.results.parts import (
    CHUNK_ROWS,
    OUTCOME,
    Fates,
    FinalRow,
    Parts,
    final_rows,
    put_in_place,
    write_final,
)
from importer.results.paths import create, unwritable
from schemas.vocabulary import RESULT_COLUMNS, UNFINISHED_ROW, Outcome

_FILE, _LINE, _REASON = (RESULT_COLUMNS.index(name) for name in ("file", "line", "reason"))
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


@dataclass(frozen=True, slots=True)
class Finished:
    """What the results file came to: rows by outcome, skipped and rejected rows by reason, lines to mend by file.

    ``carried`` counts the rows of calls that earlier runs had left; ``to_mend`` has the rejected and refused rows
    of this input under the file's name as it stands in the results, without a last row that is not finished.
    """

    outcomes: Mapping[Outcome, int]
    skipped: Mapping[str, int]
    carried: int
    to_mend: Mapping[str, Sequence[int]]
    rejected: Mapping[str, int]


class ResultsFile:
    """The results of one run: `add` what was decided, `sync`, `take_up` calls of earlier runs, `finish`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts = Parts(path)
        self._parts.require_free()
        self._streams: list[IO[str]] = []
        self._carried = self._open = 0
        self._tally = _Tally()
        self._is_synced = False
        self.is_kept = False
        self._finished: Finished | None = None
        try:
            self._stream, self._writer = self._begun(self._parts.staging)
            self._carried_stream, self._carried_writer = self._begun(self._parts.carried)
        except BaseException:
            self.discard()
            raise

    def _begun(self, path: Path) -> tuple[IO[str], Any]:
        stream = create(path)
        self._streams.append(stream)
        writer = csv.writer(stream, lineterminator="\r\n")
        writer.writerow(RESULT_COLUMNS)
        return stream, writer

    def add(self, rows: Iterable[ResultRow | Call], calls_are: Outcome) -> None:
        """Take rows in input order; those still `pending` get their fate at the end.

        A bare call stands for its row with the outcome ``calls_are``.
        """
        left = iter(rows)
        while chunk := list(islice(left, CHUNK_ROWS)):
            lines = [cells_of(row) if isinstance(row, ResultRow) else call_cells(row, calls_are) for row in chunk]
            try:
                self._writer.writerows(lines)
            except OSError as error:
                raise unwritable(self.path, error) from error
            told = [cells for row, cells in zip(chunk, lines, strict=True) if isinstance(row, ResultRow)]
            self._count(calls_are, len(chunk) - len(told))
            for cells in told:
                if cells[OUTCOME] == Outcome.PENDING:
                    self._open += 1
                else:
                    self._tally.add(cells, own=True)

    def _count(self, calls_are: Outcome, calls: int) -> None:
        if calls_are is Outcome.PENDING:
            self._open += calls
        elif calls:
            self._tally.add_calls(calls_are, calls)

    def sync(self) -> None:
        """Make the rows added durable, with the name that says they are whole; nothing is added after that."""
        if self._is_synced:
            return
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            self._parts.staging.rename(self._parts.rows)
            sync_folder(self.path.parent)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._is_synced = True

    def take_up(self, calls: Sequence[Call]) -> None:
        """Take calls that earlier runs had left, durably: once they are sent, only this file has their rows."""
        if not calls:
            return
        try:
            self._carried_writer.writerows(call_cells(call, Outcome.PENDING) for call in calls)
            self._carried_stream.flush()
            os.fsync(self._carried_stream.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._carried += len(calls)

    def keep(self) -> None:
        """Leave the parts whatever happens: the calls of these rows are in the ledger now."""
        self.is_kept = True

    def leave(self) -> None:
        """Leave the parts as they are: the next run on the ledger finishes the results from them."""
        with suppress(CannotCreateError):
            self._close()

    def discard(self) -> None:
        """Leave no file behind: for a run that ends before it has any result."""
        self.leave()
        self._parts.discard()

    def finish(self, fates: Fates) -> Finished:
        """Write the results in order: calls of earlier runs as sent, then the input's rows with their fates."""
        self.sync()
        self._close()
        try:
            if self._open or self._carried:
                write_final(self._parts, self._counted(final_rows(self._parts, fates)))
            else:
                self._parts.rows.rename(self._parts.final)
            put_in_place(self._parts)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._finished = self._tally.finished(self._carried)
        return self._finished

    def standing(self, fates: Fates) -> Finished:
        """Return what the results would come to now, for a run that cannot finish them; writes nothing."""
        if self._finished is not None:
            return self._finished
        self.leave()
        if not self._parts.rows.exists():
            return self._tally.finished(0)
        tally, carried = _Tally(), 0
        for row in final_rows(self._parts, fates):
            tally.add(row.cells, own=row.own)
            carried += not row.own
        return tally.finished(carried)

    def _close(self) -> None:
        for stream in self._streams:
            try:
                stream.close()
            except OSError as error:
                # Closing writes what a full disk did not take before.
                raise unwritable(self.path, error) from error

    def _counted(self, rows: Iterable[FinalRow]) -> Iterator[FinalRow]:
        for row in rows:
            if row.was_open:
                self._tally.add(row.cells, own=row.own)
            yield row


class _Tally:
    def __init__(self) -> None:
        self._outcomes: Counter[Outcome] = Counter()
        self._skipped: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        # Eight bytes a line: every row of a large file may be rejected.
        self._to_mend: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))

    def add(self, cells: Sequence[str], *, own: bool) -> None:
        outcome = _OUTCOMES[cells[OUTCOME]]
        self._outcomes[outcome] += 1
        if outcome is Outcome.SKIPPED:
            self._skipped[cells[_REASON]] += 1
        elif outcome is Outcome.REJECTED:
            self._rejected[cells[_REASON]] += 1
        # A row that is not written to its end would be read as a whole one if it were imported again.
        if own and outcome in (Outcome.REJECTED, Outcome.REFUSED) and cells[_REASON] != UNFINISHED_ROW:
            self._to_mend[cells[_FILE]].append(int(cells[_LINE]))

    def add_calls(self, outcome: Outcome, calls: int) -> None:
        """Count calls at once of which nothing more is to be said."""
        self._outcomes[outcome] += calls

    def finished(self, carried: int) -> Finished:
        return Finished(self._outcomes, self._skipped, carried, self._to_mend, self._rejected)
