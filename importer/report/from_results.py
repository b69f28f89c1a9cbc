"""A results file -> what a report says of it; read in chunks, memory does not grow with the file."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pandas as pd

from importer.errors import InputUnusableError, NoInputError
from importer.report.data import Cause, Example, Group, OpenCall, Report
from importer.report.tallies import Tally, Timeline
from schemas.vocabulary import RESULT_COLUMNS, WIRE_TIME_FORMAT, Outcome

CHUNK_ROWS = 50_000
MOST_EXAMPLES = 3
MOST_UNCERTAIN = 200
MOST_CAUSES = 200
_LONGEST_TEXT = 500

OF_CALLS = (
    Outcome.ACCEPTED,
    Outcome.ALREADY_ACCEPTED,
    Outcome.WOULD_SEND,
    Outcome.PENDING,
    Outcome.REFUSED,
    Outcome.UNCERTAIN,
    Outcome.CONFLICT,
)
"""Outcomes of rows that are calls to be notified; the others say nothing of a state or an agent."""


def results_report(path: Path, timezone: str | None = None, *, chunk_rows: int = CHUNK_ROWS) -> Report:
    """Return what a results file says; the hours of calls are on the clock of ``timezone``, else GMT.

    Raises NoInputError for a file that cannot be read, InputUnusableError for one that is no results file.
    """
    reading = _Reading(timezone or "UTC")
    with _blamed_on(path):
        with path.open(encoding="utf-8", newline="") as stream:
            header = stream.readline().rstrip("\r\n")
        if header != ",".join(RESULT_COLUMNS):
            raise _unusable(path, "its header is another one")
        with pd.read_csv(
            path, dtype=str, keep_default_na=False, na_filter=False, chunksize=chunk_rows, encoding="utf-8"
        ) as chunks:
            for chunk in chunks:
                reading.add(chunk)
    return replace(reading.report(), title=f"Results {path.name}", source=str(path), zone=timezone or "GMT")


@contextmanager
def _blamed_on(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoInputError(
            f"results file {path} cannot be read: {error.strerror}", hint="Check its path and rights."
        ) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise _unusable(path, "it is damaged") from error
    except _UnknownOutcomeError as error:
        raise _unusable(path, f"the outcome {error.args[0][:20]!r} is not known") from error


def _unusable(path: Path, why: str) -> InputUnusableError:
    return InputUnusableError(
        f"{path} is not a results file of this program: {why}",
        hint="Give a file that `import`, `check` or `deliver` wrote, as it was written.",
    )


class _UnknownOutcomeError(Exception):
    """A row has an outcome that this program never writes."""


class _Causes:
    """Rows by what they have in common, with the first of each as examples."""

    def __init__(self, columns: list[str]) -> None:
        self._columns = columns
        self._tally: Tally[tuple[str, ...]] = Tally(MOST_CAUSES)
        self._examples: defaultdict[tuple[str, ...], list[Example]] = defaultdict(list)

    def add(self, rows: pd.DataFrame) -> None:
        for values, group in rows.groupby(self._columns, sort=False):
            key = tuple(map(str, values)) if isinstance(values, tuple) else (str(values),)
            self._tally.add({key: len(group)})
            if key not in self._tally.counts:
                continue
            found = self._examples[key]
            for row in group.head(MOST_EXAMPLES - len(found)).to_dict("records"):
                found.append(Example(*(_cut(str(row[name])) for name in ("file", "line", "hint"))))
        for gone in self._examples.keys() - self._tally.counts.keys():
            del self._examples[gone]

    def ranked(self) -> Iterator[tuple[tuple[str, ...], int, tuple[Example, ...]]]:
        for key, count in self._tally.counts.most_common(MOST_CAUSES):
            yield key, count, tuple(self._examples[key])


class _Reading:
    """Takes the chunks of a results file in and counts them."""

    def __init__(self, zone: str) -> None:
        self._zone = zone
        self._outcomes: Tally[str] = Tally()
        self._skipped: Tally[str] = Tally()
        self._states: Tally[tuple[str, str]] = Tally()
        self._agents: Tally[tuple[str, str]] = Tally()
        self._hours: Tally[datetime] = Tally()
        self._rejected = _Causes(["reason"])
        self._refused = _Causes(["http_status", "code", "reason"])
        self._uncertain: list[OpenCall] = []
        self._sent = Timeline()

    def add(self, rows: pd.DataFrame) -> None:
        """Count one chunk."""
        outcomes = rows["outcome"]
        self._outcomes.add(_counted(outcomes))
        unknown = self._outcomes.counts.keys() - {outcome.value for outcome in Outcome}
        if unknown:
            raise _UnknownOutcomeError(min(unknown))
        self._skipped.add(_counted(rows.loc[outcomes == Outcome.SKIPPED, "reason"]))
        calls = rows[outcomes.isin([outcome.value for outcome in OF_CALLS])]
        self._states.add(_counted_pairs(calls, "state"))
        self._agents.add(_counted_pairs(calls, "from"))
        self._hours.add(_hours(calls["start_time"], self._zone))
        self._rejected.add(rows[outcomes == Outcome.REJECTED])
        self._refused.add(rows[outcomes == Outcome.REFUSED])
        self._keep_uncertain(rows[outcomes == Outcome.UNCERTAIN])
        # Only these were surely sent in this run: the others may have kept the time of an earlier one.
        self._sent.add(_seconds(rows.loc[outcomes == Outcome.ACCEPTED, "sent_at"]))

    def report(self) -> Report:
        """Return what was counted."""
        outcomes = {outcome: self._outcomes.counts[outcome] for outcome in Outcome}
        return Report(
            title="",
            source="",
            outcomes=outcomes,
            skipped=dict(self._skipped.counts),
            skipped_known=outcomes[Outcome.SKIPPED] > 0,
            states=_groups(self._states),
            agents=_groups(self._agents),
            hours=dict(self._hours.counts),
            rejected=tuple(Cause(key[0], count, found) for key, count, found in self._rejected.ranked()),
            refused=tuple(
                Cause(reason, count, found, status, code)
                for (status, code, reason), count, found in self._refused.ranked()
            ),
            uncertain=tuple(self._uncertain),
            uncertain_count=outcomes[Outcome.UNCERTAIN],
            pace=self._sent.pace(),
        )

    def _keep_uncertain(self, rows: pd.DataFrame) -> None:
        for row in rows.head(MOST_UNCERTAIN - len(self._uncertain)).to_dict("records"):
            names = ("call_id", "start_time", "from", "to", "reason", "file", "line")
            self._uncertain.append(OpenCall(*(_cut(str(row[name])) for name in names)))


def _counted(cells: "pd.Series[str]") -> dict[str, int]:
    return {_cut(str(cell)): int(count) for cell, count in cells.value_counts().items()}


def _counted_pairs(calls: pd.DataFrame, column: str) -> dict[tuple[str, str], int]:
    sizes = calls.groupby([column, "outcome"], sort=False).size()
    return {(_cut(str(pair[0])), str(pair[1])): int(count) for pair, count in zip(sizes.index, sizes, strict=True)}


def _hours(start_times: "pd.Series[str]", zone: str) -> dict[datetime, int]:
    moments = pd.to_datetime(start_times, format=WIRE_TIME_FORMAT, errors="coerce", utc=True).dropna()
    local = moments.dt.tz_convert(zone).dt.tz_localize(None).dt.floor("h")
    return {moment.to_pydatetime(): int(count) for moment, count in local.value_counts().items()}  # type: ignore[attr-defined]


def _seconds(sent_at: "pd.Series[str]") -> dict[int, int]:
    moments = pd.to_datetime(sent_at, format=WIRE_TIME_FORMAT, errors="coerce", utc=True).dropna()
    return {int(moment.timestamp()): int(count) for moment, count in moments.value_counts().items()}  # type: ignore[attr-defined]


def _groups(tally: Tally[tuple[str, str]]) -> tuple[Group, ...]:
    """Return the groups, the largest first; those that were too many to keep as one at the end."""
    by_label: defaultdict[str, dict[Outcome, int]] = defaultdict(dict)
    for (label, outcome), count in tally.counts.items():
        by_label[label][Outcome(outcome)] = count
    groups: Iterable[Group] = (Group(label, outcomes) for label, outcomes in by_label.items())
    return tuple(sorted(groups, key=lambda group: (-group.count, group.label)))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "\N{HORIZONTAL ELLIPSIS}"
