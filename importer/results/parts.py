"""From the parts of results and the ledger's fates to the results in place, for a run that ends or that died."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from importer.ledger import Fate
from importer.private_files import sync_folder
from importer.records import OUTCOME_OF_STATE
from importer.results.cells import PART, begin_rows, fate_cells, raw_rows
from importer.results.paths import create, make_durable, unwritable
from schemas.vocabulary import Outcome

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
