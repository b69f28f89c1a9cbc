"""Results files as evidence: what became of calls that a ledger restored from a backup knows nothing of."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from importer.errors import InputUnusableError, NoInputError
from importer.ledger import ReportedCall
from importer.records import Call, Place
from importer.results import fused
from schemas.vocabulary import ATTENDED, RESULT_COLUMNS, Outcome, State

_PART = ".part"
_TAKEN = frozenset({Outcome.ACCEPTED, Outcome.ALREADY_ACCEPTED})
_NEVER_TO_BE_SENT = frozenset({"closed", "forgotten", "resolved_sent", ATTENDED})


def told_by(paths: Sequence[Path], *, complete: bool) -> list[ReportedCall]:
    """Return each call that results files say was accepted, or may have been sent, once; accepted outranks.

    A call that a person closed counts as one that may have been sent, so that it is not sent again; so does one
    that is pending in a part of results. The recording's address is not in a results file and stays empty.
    Raises NoInputError for a file that cannot be read, InputUnusableError for one that is no results file, or if
    they are to be ``complete`` with a part of results among or beside them.
    """
    if complete:
        _check_no_parts(paths)
    told: dict[str, ReportedCall] = {}
    for path in paths:
        for one in _told_in(path):
            known = told.get(one.call.call_id)
            if known is None or one.accepted > known.accepted:
                told[one.call.call_id] = one
    return list(told.values())


def _check_no_parts(paths: Sequence[Path]) -> None:
    for path in paths:
        for part in (path, *sorted(path.parent.glob("*" + _PART))):
            if part.suffix == _PART and part.is_file() and _is_results(part):
                raise InputUnusableError(
                    f"{part} is what a run that died left of its results: nobody knows what it had sent by then, "
                    "so these files are not complete",
                    hint="Give it too and leave --complete out; or have the run's results completed first, by "
                    "`cdr-importer deliver` with the ledger that it used, if you still have that.",
                )


def _is_results(part: Path) -> bool:
    header = ",".join(RESULT_COLUMNS).encode()
    try:
        with part.open("rb") as stream:
            return stream.read(len(header)) == header
    except OSError:
        return False


def _told_in(path: Path) -> Iterator[ReportedCall]:
    is_part = path.suffix == _PART
    try:
        with path.open(encoding="utf-8", errors="replace" if is_part else "strict", newline="") as stream:
            # A row that a death cut short was not durable, so its call was not sent.
            lines = (line for line in stream if line.endswith("\n")) if is_part else stream
            reader = csv.reader(lines, strict=not is_part)
            if tuple(next(reader, ())) != tuple(RESULT_COLUMNS):
                raise _unusable(path, 1)
            for cells in reader:
                if is_part and len(cells) < len(RESULT_COLUMNS):
                    continue
                one = _told_of(path, reader.line_num, cells)
                if one is not None:
                    yield one
    except OSError as error:
        raise NoInputError(
            f"results file {path} cannot be read: {error.strerror}", hint="Check its path and rights."
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise _unusable(path, 1) from error


def _told_of(path: Path, line: int, cells: Sequence[str]) -> ReportedCall | None:
    try:
        row = dict(zip(RESULT_COLUMNS, cells, strict=True))
        outcome = Outcome(row["outcome"])
        accepted = outcome in _TAKEN
        closed = outcome is Outcome.SKIPPED and row["reason"] in _NEVER_TO_BE_SENT and row["state"]
        doubtful = outcome is Outcome.UNCERTAIN or (outcome is Outcome.PENDING and path.suffix == _PART)
        if not row["call_id"] or not (accepted or closed or doubtful):
            return None
        return ReportedCall(_call(row), accepted, row["sent_at"])
    except ValueError as error:
        raise _unusable(path, line) from error


def _call(row: dict[str, str]) -> Call:
    return Call(
        call_id=row["call_id"],
        state=State(row["state"]),
        agent_number=row["from"],
        customer_number=row["to"],
        start_time=row["start_time"],
        zohouser=fused(row["zohouser"]),
        voiceuri="",
        source_id=fused(row["source_id"]),
        place=Place(fused(row["file"]), int(row["line"] or 0)),
    )


def _unusable(path: Path, line: int) -> InputUnusableError:
    return InputUnusableError(
        f"{path}: line {line} is not that of a results file of this program",
        hint="Give the results files as they were written, with the header "
        f"{RESULT_COLUMNS[0]},{RESULT_COLUMNS[1]},...,{RESULT_COLUMNS[-1]}.",
    )
