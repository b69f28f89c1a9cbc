"""Files to calls, and calls into the ledger; the only module of the pipeline that costs pandas."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeGuard

from importer.errors import ConfigurationError, ImporterError, InputUnusableError
from importer.events import Event, EventName, Level
from importer.formats import Detection
from importer.ledger import Ledger, Staged
from importer.pipeline.alarms import RejectWatch
from importer.pipeline.fates import fate_fields, row_of
from importer.pipeline.inputs import Inputs
from importer.pipeline.outlook import Intake, ask_before_sending
from importer.pipeline.run import Run
from importer.prepare import AgentBook, PolicyBook, Preparation, PreparePlan, Window, load_agents, no_agents
from importer.prepare.zones import require_place
from importer.records import Call, ResultRow
from importer.results import ResultsFile
from importer.settings import Settings, parse_moment
from schemas.vocabulary import ATTENDED_SINCE, Outcome


def prepare_plan(run: Run, inputs: Inputs) -> PreparePlan:
    """Return what preparing needs to know.

    Raises ConfigurationError when a file's local times need a zone and none is given, or one without summer time
    that no id could prove: nothing is guessed.
    """
    settings = run.settings
    for detection in inputs.detections:
        require_place(detection, settings.timezone)
        if settings.timezone is None and detection.needs_timezone():
            raise ConfigurationError(
                f"{detection.path}: the times of format {detection.format.name} are local and name no zone",
                hint="Say whose clock it is with --timezone, for example --timezone Europe/London.",
            )
    moment = datetime.fromtimestamp(run.now, UTC)
    since, until = (
        parse_moment(text, now=moment, timezone=settings.timezone) if text else None
        for text in (settings.since, settings.until)
    )
    return PreparePlan(
        agents=_agents(settings),
        now=int(run.now),
        timezone=settings.timezone,
        country=settings.country,
        site=settings.site,
        window=Window(since, until),
        states=settings.states,
        policies=policy_book(
            settings, {*run.catalogue.formats, *(each.format.name for each in inputs.detections)}
        ),
        all_rows=settings.all_rows,
        is_one_of_several=len(inputs.detections) > 1,
    )


def policy_book(settings: Settings, formats: Collection[str]) -> PolicyBook:
    """Return every choice of policies; raises ConfigurationError where one is for none of these formats."""
    book = PolicyBook(settings, settings.policies)
    book.require_known(formats)
    return book


def _agents(settings: Settings) -> AgentBook:
    number, user = settings.default_agent_number or "", settings.default_zohouser or ""
    if settings.agents is None:
        return no_agents(number, user)
    return load_agents(settings.agents, settings.country, number, user, encoding=settings.encoding)


@dataclass(frozen=True, slots=True)
class WholeFiles:
    """The files as they were read, the rows of those read whole, and what was wrong with those damaged."""

    inputs: Inputs
    rows: Mapping[Path, int]
    problems: tuple[ImporterError, ...]


def read_all(run: Run, inputs: Inputs, preparation: Preparation) -> WholeFiles:
    """Read every usable file whole; a damaged one is a problem told at once, and nothing of it is kept."""
    whole: dict[Path, int] = {}
    pinned: list[Detection] = []
    problems: list[ImporterError] = []

    def read(rows: int) -> None:
        run.stop_if_interrupted()
        run.listener.rows(rows)

    for found in inputs.detections:
        try:
            detection = replace(found, file=replace(found.file, pinned=found.file.identity_now()))
            rows = preparation.read(detection, inputs.names[detection.path], read)
            whole[detection.path] = rows
            pinned.append(detection)
            told = {"file": detection.path.name, "format": detection.format.name, "rows": rows}
            run.listener.event(Event(EventName.FILE_READ, Level.INFO, told))
            run.listener.detail(
                f"{detection.path}: format {detection.format.name}, {detection.encoding}, {rows} rows"
            )
        except InputUnusableError as problem:
            problems.append(problem)
            run.listener.problem(problem)
    return WholeFiles(replace(inputs, detections=tuple(pinned)), whole, tuple(problems))


def stage(run: Run, ledger: Ledger, preparation: Preparation, results: ResultsFile) -> None:
    """Make every call durable as pending, all or none.

    Raises TooManyRejectsError, and what `ask_before_sending` raises; nothing is taken in then.
    """
    settings = run.settings
    intake = Intake()
    rejects = RejectWatch(settings.max_errors)
    with ledger.staging() as stage:
        for batch in preparation.results():
            run.stop_if_interrupted()
            rejects.add(batch)
            calls = [each for each in batch if isinstance(each, Call)]
            resend = settings.on_uncertain == "resend"
            staged = iter(stage.add(calls, retry_refused=settings.retry_refused, resend_uncertain=resend))
            attended = [each.call_id for each in batch if _is_attended_since(each)]
            shown = iter(stage.show_attended(attended))
            results.add((_staged_row(each, staged, shown, intake) for each in batch), Outcome.PENDING)
        problem = rejects.problem()
        if problem is not None:
            raise problem
        results.sync()
        ask_before_sending(run, ledger, intake)
        run.stop_if_interrupted()
    results.keep()


def _is_attended_since(row: ResultRow | Call) -> TypeGuard[ResultRow]:
    return isinstance(row, ResultRow) and row.reason == ATTENDED_SINCE


def _staged_row(
    row: ResultRow | Call, staged: Iterator[Staged], shown: Iterator[Staged], intake: Intake
) -> ResultRow | Call:
    """Return a row as staging left it; a bare call stands for one whose fate the ledger knows when the run ends.

    ``staged`` has the word of the ledger on each call, ``shown`` on each row that shows attended what it holds.
    """
    if isinstance(row, Call):
        known = next(staged)
        if known.outcome is not None:
            return row_of(row, known.outcome, known.receipt)
        intake.add(row.start_time)
        return row
    if not _is_attended_since(row):
        return row
    known = next(shown)
    if known.call is None:
        return replace(row, outcome=known.outcome or row.outcome, **fate_fields(known.receipt))
    call = replace(known.call, place=row.place)
    return call if known.outcome is None else row_of(call, known.outcome, known.receipt)
