"""Alarms about the input as a whole: too old, too few rows, hours from which no row came, no call in it at all.

Such an input is imported all the same, so that nothing is lost, and the run ends with 66.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from statistics import median

from importer.errors import NoInputError
from importer.formats.detected import Detection
from importer.ledger.reader import LedgerReader
from importer.pipeline.ending import ReadSoFar
from importer.pipeline.run import Run, gmt_text
from importer.prepare.groups import SKIPPED_FOR
from importer.prepare.plan import Gaps
from schemas.vocabulary import PASSED_OVER, counted

COMPARED_RUNS, FEWEST_COMPARED_RUNS = 7, 3
"""How many runs at most and at least give the usual number of rows: the first import is often of a backlog."""

FEWEST_ROWS, USUAL_CALLS = 50, 10
"""Of fewer rows all may be attended, and where so few calls are usual a day without any is no surprise."""

_SHOWN_BY_ROWS = {*PASSED_OVER, *SKIPPED_FOR.values()}
"""Reasons why rows are skipped that no option, such as a window, and no earlier run has to do with."""


def alarms(
    run: Run, detections: Sequence[Detection], read: ReadSoFar, gaps: Gaps | None, ledger: LedgerReader | None
) -> Iterator[NoInputError]:
    """Yield the alarms of --max-age, --max-gap and --min-rows; ``ledger`` has the rows of earlier runs."""
    settings, changed = run.settings, []
    for detection in detections:
        with suppress(OSError):
            changed.append(detection.path.stat().st_mtime)
    age_seconds = run.now - max(changed, default=run.now)
    if settings.max_age is not None and age_seconds > settings.max_age:
        yield NoInputError(
            f"the newest input was last written {age_seconds / 3600:.2f} h ago, --max-age allows "
            f"{settings.max_age / 3600:.2f} h",
            hint="Look whether the telephone system still exports. This alarm held no rows back.",
            reason="input_too_old",
        )
    if read.problems and not read.rows:
        return  # the problems already show why nothing was read
    if gaps and (found := gaps.until(int(run.now))):
        first, last = found[0]
        lasted = f"for {(last - first) / 3600:.1f} h, from {gmt_text(first)} to {gmt_text(last)} GMT"
        others = f", the longest of {len(found)} gaps" if len(found) > 1 else ""
        yield NoInputError(
            f"no row {lasted if first else 'with a start that can be read'}{others}; "
            f"--max-gap allows {gaps.most_seconds / 3600:.1f} h",
            hint="Look whether an export is missing or cut. This alarm held no rows back.",
            reason="gap_in_rows",
        )
    limit, fewest, whence = settings.min_rows, 0.0, ""
    if limit and limit.percent is None:
        fewest = limit.count or 0
    elif limit and limit.percent and (earlier := _earlier(run, ledger)):
        usual = median(rows for rows, _ in earlier)
        fewest = usual * limit.percent / 100
        whence = f", {limit} of {usual:g}, the median of {len(earlier)} complete runs"
    if read.rows < fewest:
        yield NoInputError(
            f"the input has {counted(read.rows, 'row')}, --min-rows expects at least {fewest:g}{whence}",
            hint="Look whether the export is empty or cut. This alarm held no rows back.",
            reason="too_few_rows",
        )


def no_calls(
    run: Run, read: ReadSoFar, skipped: Counter[str], ledger: LedgerReader | None
) -> Iterator[NoInputError]:
    """Yield the alarm of a share in --min-rows where many rows are skipped, all for what they show themselves.

    A column that is empty all at once does that, but so may a quiet day: without the alarm it is noted only.
    """
    if read.rows < FEWEST_ROWS or sum(skipped[reason] for reason in _SHOWN_BY_ROWS) < read.rows:
        return
    found = f"none of {counted(read.rows, 'row')} is a call to be notified: " + ", ".join(
        f"{count:,} {reason}" for reason, count in skipped.most_common()
    )
    hint = "Look with `detect` how they are read: a column on which direction or outcome depends may be empty."
    limit = run.settings.min_rows
    earlier = _earlier(run, ledger) if limit and limit.percent is not None else []
    usual = median(rows - others for rows, others in earlier) if earlier else 0
    if usual < USUAL_CALLS:
        run.listener.note(f"{found}. {hint}")
    else:
        found += f"; the median of {len(earlier)} complete runs is {usual:g}"
        yield NoInputError(found, hint=hint, reason="no_calls")


def _earlier(run: Run, ledger: LedgerReader | None) -> list[tuple[int, int]]:
    """Return the rows of complete runs, and those that they skipped; none where there are too few to tell."""
    earlier = ledger.rows_of_complete_imports(run.settings.site, COMPARED_RUNS) if ledger else []
    if len(earlier) >= FEWEST_COMPARED_RUNS:
        return earlier
    run.listener.detail(f"--min-rows {run.settings.min_rows}: {len(earlier)} complete runs are too few to tell")
    return []
