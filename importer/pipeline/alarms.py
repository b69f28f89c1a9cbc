"""Alarms about an input that can be read but is not what was expected: too old, too few rows, too many rejected.

A run with an old or short input goes on with what is there, so that nothing is lost, and ends with 66: the input
that was expected is not there. One with too large a share of rejected rows is stopped before anything is taken in
(65): an export that changed may also be misread where it is not rejected.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from importer.errors import ImporterError, InputTooOldError, TooFewRowsError, TooManyRejectsError
from importer.pipeline.inputs import Inputs
from importer.pipeline.run import Run
from importer.records import Call, ResultRow
from importer.settings import ErrorLimit
from schemas.vocabulary import Outcome

_SHOWN_REASONS = 3


def input_alarms(run: Run, inputs: Inputs, rows: int) -> list[ImporterError]:
    """Return what is wrong with the input as a whole, told at once; ``rows`` were read."""
    alarms = [*_too_old(run, inputs), *_too_few(run, rows)]
    for alarm in alarms:
        run.listener.problem(alarm)
    return alarms


def _too_old(run: Run, inputs: Inputs) -> Iterator[ImporterError]:
    longest = run.settings.max_age
    changed = [moment for moment in map(_changed_at, inputs.names) if moment is not None]
    if longest is None or not changed or run.now - max(changed) <= longest:
        return
    yield InputTooOldError(
        f"the newest input was last written {_age(run.now - max(changed))} ago, --max-age allows {_age(longest)}",
        hint="Look whether the telephone system still exports. What is in these files was taken in all the same.",
    )


def _changed_at(path: Path) -> float | None:
    with suppress(OSError):
        return path.stat().st_mtime
    return None


def _too_few(run: Run, rows: int) -> Iterator[ImporterError]:
    least = run.settings.min_rows
    if least is not None and rows < least:
        yield TooFewRowsError(
            f"the input has {rows} rows, --min-rows expects at least {least}",
            hint="Look whether the export is empty or cut. What is in these files was taken in all the same.",
        )


def _age(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h"


class RejectWatch:
    """Counts the rows that are not skipped while they come, and those of them that are rejected."""

    def __init__(self, limit: ErrorLimit) -> None:
        self._limit = limit
        self._rows = 0
        self._reasons: Counter[str] = Counter()

    def add(self, rows: Iterable[ResultRow | Call]) -> None:
        """Take rows as they were prepared, before the ledger has its say; only a share is counted."""
        if self._limit.percent is None:
            return
        for row in rows:
            if isinstance(row, Call):
                self._rows += 1
            elif row.outcome is not Outcome.SKIPPED:
                self._rows += 1
                if row.outcome is Outcome.REJECTED:
                    self._reasons[row.reason] += 1

    def problem(self) -> TooManyRejectsError | None:
        """Return what is wrong when the limit is a share and more rows than that are rejected; of 20 or more."""
        rejected = self._reasons.total()
        if self._limit.percent is None or not self._limit.exceeded(rejected, self._rows):
            return None
        reasons = ", ".join(f"{reason} {count}" for reason, count in self._reasons.most_common(_SHOWN_REASONS))
        return TooManyRejectsError(
            f"{rejected} of {self._rows} rows that were not skipped are rejected ({reasons}), which --max-errors "
            f"{self._limit.percent:g}% does not allow",
            hint="Nothing of this input was taken in or sent. `cdr-importer check` says what is wrong with each "
            "row: the export may have changed, or an option be missing.",
        )


def told_rejects(run: Run, watch: RejectWatch) -> list[ImporterError]:
    """Return what is wrong with the share of rejected rows, told at once; empty when nothing is."""
    problem = watch.problem()
    if problem is None:
        return []
    run.listener.problem(problem)
    return [problem]
