"""From the parts of results and the ledger's fates to the results in place, for a run that ends or that died."""

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from pathlib import Path

from importer.errors import CannotCreateError
from importer.private_files import sync_folder
from importer.records import ResultRow
from importer.results.cells import cells_of
from importer.results.paths import create, unwritable
from schemas.vocabulary import RESULT_COLUMNS, Outcome

CHUNK_ROWS = 500
CALL_ID, OUTCOME = RESULT_COLUMNS.index("call_id"), RESULT_COLUMNS.index("outcome")
_FATE_COLUMNS = ("outcome", "reason", "hint", "http_status", "code", "attempts", "sent_at")

Fates = Callable[[Sequence[str]], Mapping[str, ResultRow]]
"""Tells for call ids what became of the calls, as result rows of which only the fate is used."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The files of results that are being made for ``path``."""

    path: Path

    @property
    def staging(self) -> Path:
        """The rows of the input while they come: not all of them are there."""
        return self.path.with_name(self.path.name + ".staging.part")

    @property
    def rows(self) -> Path:
        """The rows of the input, whole and durable."""
        return self.path.with_name(self.path.name + ".part")

    @property
    def carried(self) -> Path:
        """The rows of calls that earlier runs had left."""
        return self.path.with_name(self.path.name + ".carried.part")

    @property
    def final(self) -> Path:
        """The results before they get their name."""
        return self.path.with_name(self.path.name + ".final.part")

    def all(self) -> tuple[Path, ...]:
        """Return all of them, in the order in which they may be taken away."""
        return self.staging, self.rows, self.carried, self.final

    def require_free(self) -> None:
        """Find out before anything is sent that something stands where a part will.

        Raises CannotCreateError.
        """
        for path in self.all():
            if os.path.lexists(path):
                raise CannotCreateError(
                    f"{path} is in the way of the results", hint="Remove it, or name other results with --results."
                )

    def discard(self) -> None:
        """Take all of them away."""
        for path in self.all():
            path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class FinalRow:
    """One row of the results.

    ``was_open`` says that its fate is the ledger's, ``is_known`` that the ledger has it, ``own`` that this input
    had the row.
    """

    cells: Sequence[str]
    was_open: bool
    is_known: bool
    own: bool


def final_rows(parts: Parts, fates: Fates) -> Iterator[FinalRow]:
    """Yield the rows of the results: calls of earlier runs, then the input's, with what became of each.

    A row that a death cut short is left out: it was never whole, so its call was not sent.
    """
    for path, own in ((parts.carried, False), (parts.rows, True)):
        rows = _whole_rows(path)
        while chunk := list(islice(rows, CHUNK_ROWS)):
            yield from _with_fates(chunk, fates, own)


def write_final(parts: Parts, rows: Iterator[FinalRow]) -> None:
    """Write the results under their last name but one, durable.

    Raises OSError.
    """
    with create(parts.final) as stream:
        writer = csv.writer(stream, lineterminator="\r\n")
        writer.writerow(RESULT_COLUMNS)
        for row in rows:
            writer.writerow(row.cells)
        stream.flush()
        os.fsync(stream.fileno())


def put_in_place(parts: Parts) -> None:
    """Give the results their name, which replaces nothing, and take the parts away.

    Raises OSError.
    """
    os.link(parts.final, parts.path)  # unlike a rename, this never replaces a file
    sync_folder(parts.path.parent)
    parts.discard()
    sync_folder(parts.path.parent)


class Completion(Enum):
    """What became of the results of a run that died."""

    COMPLETED = auto()
    WAS_THERE = auto()
    PATH_TAKEN = auto()
    NO_PARTS = auto()
    NOT_TAKEN_IN = auto()


class _NotTakenInError(Exception):
    """The ledger does not know a call of these rows: the run died before they were taken in."""


def complete(path: Path, fates: Fates) -> Completion:
    """Finish the results of a run that died from its parts; may be repeated after a death in here.

    Where another file has taken the path, the results stay beside it as ``.final.part``.

    Raises CannotCreateError.
    """
    parts = Parts(path)
    try:
        if _is_same(parts.final, path):
            parts.discard()
            return Completion.WAS_THERE
        if parts.rows.exists():
            parts.final.unlink(missing_ok=True)
            write_final(parts, _taken_in(final_rows(parts, fates)))
        elif not parts.final.exists():
            return _without_rows(parts)
        if os.path.lexists(path):
            return Completion.PATH_TAKEN
        put_in_place(parts)
    except _NotTakenInError:
        parts.discard()
        return Completion.NOT_TAKEN_IN
    except OSError as error:
        raise unwritable(path, error) from error
    return Completion.COMPLETED


def _without_rows(parts: Parts) -> Completion:
    began = parts.staging.exists()
    parts.discard()
    if parts.path.exists():
        return Completion.WAS_THERE
    return Completion.NOT_TAKEN_IN if began else Completion.NO_PARTS


def _taken_in(rows: Iterator[FinalRow]) -> Iterator[FinalRow]:
    for row in rows:
        if not row.is_known:
            raise _NotTakenInError
        yield row


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samestat(one.lstat(), other.lstat())
    except OSError:
        return False


def _whole_rows(path: Path) -> Iterator[list[str]]:
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace", newline="") as stream:
        reader = csv.reader(stream)
        next(reader, None)
        yield from (cells for cells in reader if len(cells) == len(RESULT_COLUMNS))


def _with_fates(chunk: list[list[str]], fates: Fates, own: bool) -> Iterator[FinalRow]:
    open_ids = [cells[CALL_ID] for cells in chunk if cells[OUTCOME] == Outcome.PENDING]
    found = fates(open_ids) if open_ids else {}
    for cells in chunk:
        was_open = cells[OUTCOME] == Outcome.PENDING
        is_known = cells[CALL_ID] in found
        if was_open and is_known:
            fate = dict(zip(RESULT_COLUMNS, cells_of(found[cells[CALL_ID]]), strict=True))
            for name in _FATE_COLUMNS:
                cells[RESULT_COLUMNS.index(name)] = fate[name]
        yield FinalRow(cells, was_open, is_known or not was_open, own)
