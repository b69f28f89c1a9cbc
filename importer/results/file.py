"""The files of results and rejects, which only we may read and which replace nothing: from parts to results."""

import csv
import filecmp
import io
import os
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO

from importer.errors import CannotCreateError
from importer.ledger.values import Fate
from importer.private_files import LONGEST_NAME_BYTES, open_new, os_errors_as, put, sync_folder, whose
from importer.records import OUTCOME_OF_STATE, Call, ResultRow
from importer.results.cells import FATE_COLUMNS, PART, cells_of, defused, fate_cells, raw_rows, write_rows
from schemas.vocabulary import REASON_COLUMNS, RESULT_COLUMNS, SEEN_BEFORE, UNFINISHED_ROW, Outcome, counted

CHUNK_ROWS = 500
SANDBOX = ".results-sandbox-"
OF_SANDBOX = "a trial: Zoho got nothing of this call"
"""What stands in the names of the sandbox's results, and as hint of their calls: no evidence of what Zoho has."""

Fates = Callable[[Sequence[str]], Mapping[str, Fate]]
"""Returns the fates of calls by call id, as the ledger does."""

FinalRow = tuple[dict[str, str], bool, bool]
"""A row of the results by column name, whether its fate was still the ledger's, whether it is of this input."""


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
                    row["outcome"] = OUTCOME_OF_STATE[fate.state]
                    row.update(zip(FATE_COLUMNS, fate_cells(fate), strict=True))
                elif was_open and must_be_known:
                    raise _NotTakenInError
                yield row, was_open, own


def write_final(parts: Parts, rows: Iterable[FinalRow]) -> None:
    """Write the results under their last name but one; raises OSError."""
    with create(parts.final) as stream:
        write_rows(stream, (cells.values() for cells, *_ in rows))


def put_in_place(parts: Parts) -> None:
    """Give the results their name, durably and replacing nothing, and remove the parts; raises OSError."""
    put(parts.final, parts.path)
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
    with writing(path):
        if is_in_place:
            parts.discard()
            return ""
        if parts.rows.exists():
            parts.final.unlink(missing_ok=True)
            try:
                write_final(parts, final_rows(parts, fates, must_be_known=True))
            except _NotTakenInError:
                parts.discard()
                return not_taken_in
        elif not parts.final.exists():
            has_begun = parts.staging.exists()
            parts.discard()
            return "" if path.exists() else not_taken_in if has_begun else None
        if path.is_file() and filecmp.cmp(parts.final, path, shallow=False):  # a rename: there are no hard links
            parts.discard()
            return ""
        if os.path.lexists(path):
            return (
                f"The results of the run {run_id}, which died, are in {parts.final}, because another file is at "
                f"{path} now."
            )
        put_in_place(parts)
    return f"The results of the run {run_id}, which died, were completed: {path}."


@dataclass(frozen=True, slots=True)
class Finished:
    """The counts of a results file: rows by outcome, skipped and rejected rows by reason, lines to mend by file.

    Rejected rows that an earlier run has listed count as `SEEN_BEFORE`, whatever their reason. ``carried`` is how
    many rows are of calls that earlier runs had left; ``to_mend`` has names of files as the results have them,
    ``open_files`` those with a row that is not decided yet. The file is not there unless it ``is_written``.
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
            cells, was_open, own = row
            if was_open or not open_only:
                place = (cells["file"], int(cells["line"] or 0)) if own else ()
                self.add(Outcome(cells["outcome"]), cells["reason"], cells["code"], *place)
            yield row


class ResultsFile:
    """The results of one run: `add` rows, `sync`, `take_up` calls of earlier runs, `finish`.

    ``counts`` has the rows added so far whose fate is decided, ``open_calls`` is how many others there are.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts = Parts(path)
        for there in (path, *self._parts.all):  # also what another run made while this one waited for its end
            if os.path.lexists(there):
                hint = "Name other results with --results, or move it away."
                raise CannotCreateError(f"{there} is in the way of the results", hint=hint)
        self._streams: list[IO[str]] = []
        self._carried = self.open_calls = 0
        self.counts = Finished()
        self.is_kept = False  # once their calls are in the ledger, the parts are left whatever happens
        self._finished: Finished | None = None
        try:
            for part in (self._parts.staging, self._parts.carried):
                self._streams.append(create(part))
            self._stream, self._carried_stream = self._streams
        except BaseException:
            self.discard()
            raise

    def add(self, rows: Iterable[ResultRow | Call], calls_are: Outcome) -> None:
        """Write rows in input order, a bare call with the outcome ``calls_are``; `pending` ends with its fate."""
        left = iter(rows)
        while chunk := list(islice(left, CHUNK_ROWS)):
            with writing(self.path):
                write_rows(self._stream, (cells_of(row, calls_are) for row in chunk))
            own = [row for row in chunk if isinstance(row, ResultRow)]
            for row in own:
                self.counts.add(row.outcome, row.reason, row.code, defused(row.place.file), row.place.line)
            self.counts.outcomes[calls_are] += len(chunk) - len(own)
            self.open_calls += self.counts.outcomes.pop(Outcome.PENDING, 0)

    def sync(self) -> None:
        """Make the rows added durable, with the name that says they are whole; nothing is added after that."""
        if self._stream.closed:
            return
        with writing(self.path):
            make_durable(self._stream)
            self._stream.close()
            self._parts.staging.rename(self._parts.rows)
            sync_folder(self.path.parent)

    def take_up(self, calls: Sequence[Call]) -> None:
        """Write calls of earlier runs, durable: once they are sent, only this file has their rows."""
        with writing(self.path):
            write_rows(self._carried_stream, (cells_of(call, Outcome.PENDING) for call in calls))
            make_durable(self._carried_stream)
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
        """Write the results, calls of earlier runs first; without any row no file is left if it ``may_drop``."""
        self.sync()
        if may_drop and not (self.open_calls or self._carried or self.counts.outcomes.total()):
            self.discard()
            self._finished = replace(self.counts, is_written=False)
            return self._finished
        with writing(self.path):
            for stream in self._streams:
                stream.close()  # which writes the bytes that a full disk did not take before
            for part in (self._parts.rows, self._parts.carried):
                part.stat()  # one that was deleted meanwhile is not one without rows
            if self.open_calls or self._carried:
                rows = final_rows(self._parts, fates or (lambda _: {}))
                write_final(self._parts, self.counts.counting(rows, open_only=True))
            else:
                self._parts.rows.rename(self._parts.final)
            put_in_place(self._parts)
        self._finished = replace(self.counts, carried=self._carried)
        return self._finished

    def standing(self, fates: Fates, sent: Callable[[], Mapping[str, Fate]]) -> Finished:
        """Return the counts of the results as they would be now, for a run that cannot finish them.

        ``sent`` returns the calls that the run sent: what else was open is pending, where the parts were deleted.
        """
        if self._finished is not None:
            return self._finished
        self.leave()
        if not self._parts.rows.exists():
            if not self.path.exists():
                states = [OUTCOME_OF_STATE[fate.state] for fate in sent().values()]
                self.counts.outcomes.update(states)
                self.counts.outcomes[Outcome.PENDING] += self.open_calls + self._carried - len(states)
            return replace(self.counts, carried=self._carried)
        counts, carried = Finished(), 0
        for _, _, own in counts.counting(final_rows(self._parts, fates)):
            carried += not own
        return replace(counts, carried=carried)


def results_path(
    first_input: Path | None, run_id: str, chosen: Path | None, ledger: Path | None, kind: str = ".results-"
) -> Path:
    """Return where the results go: as chosen, beside the first input, in the working folder, beside the ledger.

    Without a name they get one by their ``kind``.
    """
    if chosen is None:
        # Among the inputs of a pattern may be the results of earlier nights.
        name = as_text(first_input.name) if first_input else "cdr-importer"
        name = re.sub(r"(\.results-[^.]+\.csv)+$", "", name)
        room = LONGEST_NAME_BYTES - len(Parts(Path(f"{kind}{run_id}.csv")).staging.name)
        name = name.encode()[:room].decode(errors="ignore")
        folders = (first_input and first_input.parent, Path.cwd(), ledger and ledger.parent)
        # `sudo -u` leaves a service's user in a folder of root's.
        free = (each for each in folders if each and os.access(each, os.W_OK | os.X_OK))
        chosen = next(free, Path.cwd()) / f"{name}{kind}{run_id}.csv"
    check_free(chosen, "results")
    return chosen


def as_text(name: str) -> str:
    r"""Return a name as it can be written down: bytes that are no UTF-8 as ``\udce9``."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def check_free(path: Path, kind: str) -> None:
    """Raise CannotCreateError unless a file can be made at ``path``; ``kind`` is `results` or `rejects`."""
    if path.exists() or path.is_symlink():
        fault, hint = "exists already", f"It is never overwritten: name another with --{kind}."
    elif as_text(str(path.absolute())) != str(path.absolute()):
        fault = "cannot be created: its path is no UTF-8 text, so no later run could find it"
        hint = f"Name another with --{kind}."
    elif (more := len(Parts(path).staging.name.encode()) - LONGEST_NAME_BYTES) > 0:
        fault = f"cannot be created: its name is {counted(more, 'byte')} too long for what is written beside it"
        hint = f"Name another with --{kind}."
    elif not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        closed = f"; {whose(path)}" if path.parent.is_dir() else ""
        fault = f"cannot be created: its folder is missing or read-only{closed}"
        hint = f"Create the folder, or name another file with --{kind}."
    else:
        return
    raise CannotCreateError(f"{kind} file {path} {fault}", hint=hint)


def reasons_path(rejects: Path) -> Path:
    """Return where the reasons of the records in a file of rejects go."""
    return rejects.with_name(f"{rejects.stem}.reasons.csv")


def write_rejects(path: Path, records: Iterable[tuple[str, Sequence[str] | None]]) -> None:
    """Write header and records verbatim, to be imported again, and their `REASON_COLUMNS` beside: all or none."""
    hint = "Free space, then import the same files with --rejects once more: nothing is sent twice."
    with (
        os_errors_as(CannotCreateError, f"rejects file {path} cannot be written", path, hint),
        _whole(path) as stream,
        _whole(reasons_path(path)) as beside,
    ):
        write_reason, line = csv.writer(beside, lineterminator="\r\n").writerow, 1
        write_reason(REASON_COLUMNS)
        for record, reason in records:
            if reason is not None:
                write_reason((line, *reason))
            stream.write(record + "\r\n")
            line += record.count("\n") + 1
        make_durable(stream)
        make_durable(beside)


@contextmanager
def _whole(path: Path) -> Iterator[IO[str]]:
    """Give a new file that is gone again after an exception; raises OSError."""
    stream = io.TextIOWrapper(open_new(path), encoding="utf-8", newline="")
    try:
        with stream:
            yield stream
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def create(path: Path) -> IO[str]:
    """Create a file of results that only we may read, with their header; raises CannotCreateError."""
    with writing(path), ExitStack() as undo:
        stream = undo.enter_context(io.TextIOWrapper(open_new(path), encoding="utf-8", newline=""))
        write_rows(stream, [RESULT_COLUMNS])
        undo.pop_all()
    return stream


def make_durable(stream: IO[str]) -> None:
    """Make the text written so far durable; raises OSError."""
    stream.flush()
    os.fsync(stream.fileno())


def writing(path: Path) -> AbstractContextManager[None]:
    """Raise CannotCreateError for an OSError inside; calls sent by then are in the ledger."""
    # Whether anything was taken in is not known here: `deliver` alone would not do where nothing was.
    hint = (
        "Free space or mend rights, then run the same again: what was sent is safe in the ledger and not sent "
        "twice, and what this run took in gets its results."
    )
    return os_errors_as(CannotCreateError, f"{path} cannot be written", path, hint)
