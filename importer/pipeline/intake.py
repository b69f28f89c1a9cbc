"""The input of a run: files to rows, rows to calls in the ledger, rows to mend. It alone loads pandas."""

import gc
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path

from importer import errors
from importer.files.export import STANDARD_INPUT, readable
from importer.formats.catalogue import systems_of
from importer.formats.detected import Detection
from importer.ledger.ledger import Ledger
from importer.ledger.reader import LedgerReader, held_in
from importer.ledger.staging import Staging
from importer.ledger.values import Staged
from importer.pipeline.alarms import alarms, no_calls
from importer.pipeline.ending import ReadSoFar, fate_fields, row_of
from importer.pipeline.inputs import fault_of_done, inputs_json, rejects_files
from importer.pipeline.run import Outlook, Run, ask_before_sending, epoch_of, gmt_text, old_calls
from importer.prepare.cluster import installed, on_cluster, prepare_elsewhere, prepared_on
from importer.prepare.plan import prepare_plan
from importer.prepare.preparation import Preparation, PreparedPart, prepare_part
from importer.private_files import put, sync_folder
from importer.processes import Workers, in_order, working
from importer.reading.chunks import read_chunks, verbatim_records
from importer.reading.scanning import parts_of
from importer.records import Call, Event, EventName, Level, ResultRow, RunSummary
from importer.results.cells import defused, read_rows
from importer.results.file import Finished, ResultsFile, as_text, check_free, write_rejects
from schemas.vocabulary import ATTENDED_SINCE, SEEN_BEFORE, UNFINISHED_ROW, Outcome, Role, counted

EXAMPLES = 2
"""So many calls show before they are sent how the files were read."""
_SHOWN_REASONS = 3
_Kind = tuple[str, str, str, int, tuple[str, ...]]
_Part = tuple[Detection, "Future[PreparedPart]"]


class Intake:
    """The input of one run: `opened`, then `read`, `take_in`, `finish`."""

    def __init__(self, run: Run, detections: Sequence[Detection], so_far: ReadSoFar) -> None:
        """Find out before anything is read that the input cannot be prepared or its rejects cannot be written.

        Raises ConfigurationError, and CannotCreateError for a path of rejects that is taken or has no folder.
        """
        self._run = run
        self._detections = tuple(detections)
        self._so_far = so_far
        if run.settings.rejects is not None:
            for path in rejects_files(run.settings.rejects, len({*map(_kind, detections)})):
                check_free(path, "rejects")
        homes = [each.path.parent for each in detections if each.path != STANDARD_INPUT]
        if run.settings.done is not None and (fault := fault_of_done(run.settings.done, homes)):
            raise errors.ConfigurationError(
                f"--done {run.settings.done} {fault}",
                hint="Name a folder beside that of the exports, on the same disk, where this user may write.",
            )
        self._systems = systems_of([*run.catalogue.formats.values(), *(each.format for each in detections)])
        self._plan = prepare_plan(run.settings, run.catalogue, detections, run.now)
        self._examples: list[Call] = []
        self._preparation: Preparation
        self._prepare: partial[Iterator[_Part]] | None = None  # has workers prepare parts of files

    @contextmanager
    def opened(self, ledger: LedgerReader | None) -> Iterator[None]:
        """Keep the rows in a temporary file; ``ledger`` has the calls of earlier runs."""
        gc.freeze()  # pandas and pandera are loaded by now, and live as long as the run
        self._ledger = ledger
        # A new ledger is not asked: of a call without an id of its own a thousand spellings are looked up.
        plan = replace(self._plan, held=ledger.held if ledger and ledger.has_calls() else None)
        self._held = plan.held
        with Preparation(self._run.catalogue.causes, plan) as self._preparation:
            self._so_far.skipped = self._preparation.skipped
            yield

    def read(self) -> None:
        """Read every file whole; a damaged one is a problem, and nothing of it is kept."""
        run = self._run
        whole: dict[Path, int] = {}
        pinned: list[Detection] = []
        settings, plain = run.settings, [each.file.size() for each in self._detections if each.file.spool is None]
        here = working(run.processes(len(self._detections), sum(plain)))
        with here if settings.scheduler is None else on_cluster(settings.scheduler) as workers:
            self._prepare = partial(self._prepared, workers) if workers else None
            for detection, parts in self._begun():
                try:
                    with readable(detection.path):
                        rows = self._read(detection, parts)
                except (errors.InputUnusableError, errors.NoInputError) as problem:
                    self._report(problem)
                    continue
                whole[detection.path] = rows
                pinned.append(detection)
                facts = {"file": detection.path.name, "format": detection.format.name, "rows": rows}
                run.listener.event(Event(EventName.FILE_READ, Level.INFO, facts))
                read = f"format {detection.format.name}, {detection.encoding}, {counted(rows, 'row')}"
                run.listener.detail(f"{detection.path}: {read}")
        self._so_far.rows = self._preparation.rows
        for alarm in [*alarms(run, self._detections, self._so_far, self._plan.gaps, self._ledger)]:
            self._report(alarm)
        if isinstance(self._ledger, Ledger):
            self._ledger.note_inputs(inputs_json(self._detections, whole))
        self._detections = tuple(pinned)

    def _progress(self, rows: int = 0) -> None:
        """Report how many further rows were read; raises StoppedError where a signal came in."""
        self._run.stop_if_interrupted()
        self._run.listener.rows(rows)

    def _prepared(
        self, workers: Workers, parts: Iterable[Detection], roles: Mapping[str, Role] | None = None
    ) -> Iterator[_Part]:
        """Return parts of files as workers prepare them, with the roles of names where they are known."""
        causes, settings = self._run.catalogue.causes, self._run.settings
        if settings.scheduler is not None:
            prepare = partial(prepare_elsewhere, installed(), causes, self._plan, roles)
            return prepared_on(workers, prepare, self._held, parts, self._progress)
        plan = replace(self._plan, held=partial(held_in, settings.ledger) if self._held else None)

        submit = partial(workers.submit, prepare_part, causes, plan)
        return in_order(workers, lambda part: submit(part, roles), parts, self._progress)

    def _begun(self) -> Iterator[tuple[Detection, Iterator[_Part] | None]]:
        """Yield each file as it is now, with the parts of it where workers read them by its path."""
        plain = (each for each in self._detections if each.file.spool is None)
        parts = (part for each in plain for part in parts_of(_pinned(each), self._run.worker_bytes))
        prepared = self._prepare(parts) if self._prepare else iter(())
        by_file = groupby(prepared, key=lambda part: (part[0].path, part[0].file.pinned))
        for found in self._detections:
            if self._prepare is None or found.file.spool is not None:
                yield _pinned(found), None
            else:
                begun = next(by_file, None)
                if begun is None:  # a scheduler that goes while a part is given to it ends the parts of all files
                    raise BrokenExecutor
                (_, pin), of_file = begun
                yield replace(found, file=replace(found.file, pinned=pin)), of_file

    def _read(self, detection: Detection, parts: Iterator[_Part] | None) -> int:
        """Read a file, or take its parts; where a worker fails it is read here, with the error that this gives."""
        name = as_text(str(detection.path))
        if parts is None or self._prepare is None:
            return self._preparation.read(detection, name, self._progress)
        before = self._preparation.rows
        try:
            roles = self._preparation.take(detection, name, self._results(parts))
            if roles is not None:
                again = self._prepare(parts_of(detection, self._run.worker_bytes), roles)
                self._preparation.take(detection, name, self._results(again, is_second=True), roles)
        except (errors.StoppedError, BrokenExecutor):
            raise
        except Exception as error:
            rows = self._preparation.read(detection, name, self._progress)
            if self._run.settings.scheduler is not None:
                # The text of a foreign exception may hold a cell.
                fault = error.message if isinstance(error, errors.ImporterError) else type(error).__name__
                self._run.listener.note(f"{name} was read here, since no worker could: {fault}")
            return rows
        return self._preparation.rows - before

    def _results(self, parts: Iterable[_Part], *, is_second: bool = False) -> Iterator[PreparedPart]:
        """Yield what workers have made of parts, whose rows count the first time; raises what they raised."""
        for _, future in parts:
            self._progress(0 if is_second else future.result().evidence.read)
            yield future.result()

    def _report(self, problem: errors.ImporterError) -> None:
        self._so_far.problems.append(problem)
        self._run.listener.problem(problem)

    def take_in(self, results: ResultsFile) -> Outlook | None:
        """Write the rows into the results, and make every call durable as pending in the ledger, all or none.

        Raises InputUnusableError for too many rejects; ConfigurationError for old calls on a ledger that has sent
        nothing yet, unless `--since` or `--yes` says that they are meant; StoppedError when the person says no.
        Nothing is taken in then. Returns the calls to be sent. Where there is no ledger, or one that is only read,
        calls are `would_send`, and these errors are problems.
        """
        run, ledger = self._run, self._ledger
        if isinstance(ledger, Ledger):
            with ledger.staging(self._systems) as staging:
                new, _, first = self._stage(results, staging, Outcome.PENDING)
                for problem in filter(None, (self._too_many_rejects(results), old_calls(run, ledger, new, first))):
                    raise problem
                results.sync()
                outlook = ask_before_sending(run, ledger, self._example_lines)
                run.stop_if_interrupted()
            return outlook
        found: errors.ImporterError | None = None
        if ledger is None:
            for batch in self._preparation.results():
                run.stop_if_interrupted()
                results.add(batch, Outcome.WOULD_SEND)
        else:
            with ledger.dry_staging(gmt_text(run.now), self._systems) as staging:
                new, known, first = self._stage(results, staging, Outcome.WOULD_SEND)
            earlier, limit, rate = ledger.pending_count() - known, run.settings.limit, run.settings.rate
            calls = new + earlier if limit is None else min(new, limit)
            begin = max(run.now, epoch_of(ledger.held_until() or gmt_text(run.now)))
            end = gmt_text(begin + rate.seconds_for(calls, is_burst=run.settings.burst))
            others = f", {earlier:,} of them left by earlier runs" if earlier and limit is None else ""
            when = f": at {rate} until {end[:16]} GMT" if calls else ""
            run.listener.note(f"An import would send {counted(calls, 'call')} now{others}{when}.")
            found = old_calls(run, ledger, new, first)
        for problem in filter(None, (self._too_many_rejects(results), found)):
            self._report(problem)
        return None

    def _stage(self, results: ResultsFile, staging: Staging, calls_are: Outcome) -> tuple[int, int, str]:
        """Take all rows in; return how many calls are to be sent, how many of them were known, the first start."""
        retry_refused = self._run.settings.retry_refused
        resend = self._run.settings.on_uncertain == "resend"
        starts: Counter[Outcome | None] = Counter()
        first = "9999"
        for batch in self._preparation.results():
            self._run.stop_if_interrupted()
            calls = [each for each in batch if isinstance(each, Call)]
            staged = staging.add(calls, retry_refused=retry_refused, resend_uncertain=resend)
            for call, known in zip(calls, staged, strict=True):
                if known.outcome in (None, Outcome.PENDING):
                    starts[known.outcome] += 1
                    first = min(first, call.start_time)
                    self._examples += [call] if len(self._examples) < EXAMPLES else []
            results.add(_staged_rows(batch, staged, staging, self._run.settings.site), calls_are)
        return starts.total(), starts[Outcome.PENDING], first

    def _example_lines(self) -> Iterator[str]:
        """Yield region and zone, then the first calls: their cells in the file, and what is sent of them."""
        settings = self._run.settings
        if settings.country or settings.timezone:
            numbers = f"national numbers as of {settings.country}" if settings.country else ""
            times = f"local times as of {settings.timezone}" if settings.timezone else ""
            yield f"Read with {' and '.join(filter(None, (numbers, times)))}:"
        by_name = {as_text(str(each.path)): each for each in self._detections}
        for name, calls in groupby(self._examples, key=lambda call: call.place.file):
            found, chosen = by_name[name], [*calls]
            spec, lines = found.format, [call.place.line for call in chosen]
            names = filter(None, (spec.call.customer, spec.call.sent_number, *spec.time.columns))
            is_time = {origin: each in spec.time.columns for each in names for origin in spec.origins(each)}
            frames = (chunk.frame for chunk in read_chunks(replace(found, rewriting=None)))  # dates as they stand
            rows = (row for frame in frames for _, row in frame[frame["call.line"].isin(lines)].iterrows())
            with suppress(OSError, errors.InputUnusableError):  # a file that is gone by now has no example
                for call, row in zip(chosen, rows, strict=False):  # reads no further than the last of them
                    last = call.customer_number[-2:]  # a cell without them is not the one that was read
                    read = (each for each in is_time if is_time[each] or last in row.get(each, ""))
                    cells = [str(row[each])[:24] for each in read if row.get(each)]
                    yield f"  {found.path.name}, line {call.place.line}: {', '.join(cells)}"
                    yield f"    goes as {call.customer_number}, {call.start_time} GMT, {call.state.value}"

    def _too_many_rejects(self, results: ResultsFile) -> errors.InputUnusableError | None:
        """Return the error where `--max-errors` is a share and a larger share of the rows is rejected.

        Nothing is taken in then: an export that changed may also be misread where it is not rejected.
        """
        limit, counts = self._run.settings.max_errors, results.counts
        rejected = counts.outcomes[Outcome.REJECTED]
        rows = results.open_calls + counts.outcomes.total() - counts.outcomes[Outcome.SKIPPED]
        if limit.percent is None or not limit.exceeded(rejected, rows):
            return None
        reasons = ", ".join(f"{reason} {count}" for reason, count in counts.rejected.most_common(_SHOWN_REASONS))
        return errors.InputUnusableError(
            f"{rejected} of {rows} rows that were not skipped are rejected ({reasons}), which --max-errors "
            f"{limit.percent:g}% does not allow",
            hint="Nothing of this input was taken in or sent. `cdr-importer check` says what is wrong with each "
            "row: the export may have changed, or an option be missing.",
            reason="too_many_rejects",
        )

    def finish(self, finished: Finished, results: Path, note: str) -> None:
        """Report the alarm, or note, that none of the rows is a call to be notified, and write the rejects.

        ``note`` says why the ``results`` are not beside the input, where they are not. The rejects are the rows to
        be mended, verbatim, in one file for each kind of export among the inputs. Beside it stands what the
        ``results`` say of each; they are read once a kind, so memory stays flat. The calls are sent by then, so a
        file that cannot be written is a problem and does not stop the run.
        """
        if note and finished.is_written:
            self._run.listener.note(note)
        for alarm in no_calls(self._run, self._so_far, finished.skipped + self._preparation.skipped, self._ledger):
            self._report(alarm)
        if (chosen := self._run.settings.rejects) is None:
            return
        by_kind: dict[_Kind, list[tuple[Detection, Sequence[int]]]] = {}
        for detection in self._detections:
            if lines := finished.to_mend.get(defused(as_text(str(detection.path)))):
                by_kind.setdefault(_kind(detection), []).append((detection, lines))
        mended = (Outcome.REJECTED, Outcome.REFUSED)
        for path, parts in zip(rejects_files(chosen, len(by_kind)), by_kind.values(), strict=False):
            names = {defused(as_text(str(detection.path))) for detection, _ in parts}
            reasons = (
                (row["file"], row["line"], row["reason"], row["hint"])
                for row in islice(read_rows(results), finished.carried, None)
                if row["file"] in names and row["outcome"] in mended and row["reason"] != UNFINISHED_ROW
            )
            try:
                write_rejects(path, _verbatim(parts, reasons))
            except errors.CannotCreateError as problem:
                self._report(problem)

    def move_done(self, folder: Path, finished: Finished, ledger: Ledger, ended: RunSummary) -> RunSummary:
        """Move the files of which nothing is open once all is recorded; return how the run ended.

        One that changed since the run began may be written to yet, and stays. Nothing is replaced: where its name
        is taken, the id of the run comes behind it. A death in between leaves the file under both names, of which
        the next run takes the first away.
        """
        run, names = self._run, {Path(name).name for name in ledger.open_files()}
        for path, file in ((each.path, each.file) for each in self._detections):
            if defused(as_text(str(path))) in finished.open_files or as_text(path.name) in names:
                continue
            try:
                is_plain = path != STANDARD_INPUT and stat.S_ISREG(path.lstat().st_mode)
                if not is_plain or path.stat().st_ctime >= run.now or file.identity() != file.pinned:
                    continue
                target = folder / path.name
                if not target.exists() or not target.samefile(path):
                    if os.path.lexists(target):
                        target = folder / f"{path.stem}.{run.run_id}{path.suffix}"
                    put(path, target)
                if path.exists() and path.samefile(target):  # else it was renamed, or another is there by now
                    path.unlink()
                sync_folder(path.parent)
            except OSError as error:
                problem = errors.CannotCreateError(
                    f"{path} cannot be moved to {folder}: {error.strerror}",
                    hint="Mend the rights of both folders; the next run moves it. Its calls are in the ledger.",
                )
                self._report(problem)
                code = errors.most_severe([ended.exit_code, problem.exit_code])
                reason = ended.reason if code is ended.exit_code else "not_moved"
                ended = replace(ended, exit_code=code, reason=reason)
        return ended


def _staged_rows(
    batch: Sequence[ResultRow | Call], staged: Iterable[Staged], staging: Staging, site: str
) -> Iterator[ResultRow | Call]:
    """Yield rows as staging left them; of a bare call the fate is in the ledger when the run ends.

    ``staged`` has the ledger's answer to each call. Of the rejected rows those that an earlier run of the site has
    listed say so.
    """
    rows = [each for each in batch if isinstance(each, ResultRow)]
    rejected = [each for each in rows if each.outcome is Outcome.REJECTED]
    keys = [(each.place.file, site, each.reason, each.content or each.call_id) for each in rejected]
    are_seen = iter(staging.listed(keys))
    attended = (each for each in rows if each.reason == ATTENDED_SINCE)
    shown = iter(
        staging.show_attended([(each.call_id, each.customer_number, each.start_time) for each in attended])
    )
    answers = iter(staged)
    for row in batch:
        if isinstance(row, Call):
            known = next(answers)
            yield row if known.outcome is None else row_of(row, known.outcome, known.receipt)
        elif row.outcome is Outcome.REJECTED:
            yield replace(row, code=SEEN_BEFORE) if next(are_seen) else row
        elif row.reason != ATTENDED_SINCE:
            yield row
        elif (known := next(shown)).call is None:
            yield replace(row, outcome=known.outcome or row.outcome, **fate_fields(known.receipt))
        else:
            call = replace(known.call, place=row.place)
            yield call if known.outcome is None else row_of(call, known.outcome, known.receipt)


def _pinned(found: Detection) -> Detection:
    """Return a detection of the file as it is now."""
    return replace(found, file=replace(found.file, pinned=found.file.identity()))


def _kind(detection: Detection) -> _Kind:
    """Return the properties that rows of one file must share, so that it can be imported again."""
    quotes = detection.dialect.quotes.value
    return detection.format.name, detection.dialect.delimiter, quotes, detection.field_count, detection.header


def _verbatim(
    parts: Sequence[tuple[Detection, Sequence[int]]], reasons: Iterator[tuple[str, ...]]
) -> Iterator[tuple[str, tuple[str, ...] | None]]:
    """Yield the header once, then the records of these lines verbatim, each with its reason in the results."""
    with_header = True
    for detection, lines in parts:
        try:
            for line, text in verbatim_records(detection, lines):
                if line != detection.header_line:
                    yield text, next(reasons)
                elif with_header:
                    yield text, None
        except (OSError, errors.InputUnusableError, errors.NoInputError) as error:
            raise errors.CannotCreateError(
                f"no rejects are written: {detection.path} or the results were removed or changed meanwhile",
                hint="The results name its rows. Import it once more with --rejects: nothing is sent twice.",
            ) from error
        with_header = False
