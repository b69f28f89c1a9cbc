"""The stages of a run wired together, numbered, with what each needs and gives.

A file that is not usable stops that file only; everything else that goes wrong before sending stops the run
with nothing sent. Nothing in here prints: what happens is told to a `Listener`.
"""

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs

from importer import __version__
from importer.auth import SignIn, TokenSource
from importer.client import Client, Route, token_transport
from importer.deliver import LONGEST_WAIT_SECONDS, Delivery, DeliveryPlan, Service, Stop
from importer.errors import (
    CannotCreateError,
    ConfigurationError,
    ExitCode,
    ImporterError,
    InputUnusableError,
    most_severe,
)
from importer.formats import Catalogue, Detection, OwnOutput, detect
from importer.formats.detection import Overrides
from importer.ledger import Claimed, KnownFate, Ledger, RunInfo, Staged, create_ledger
from importer.pacing import Rate, RollingLimiter
from importer.prepare import AgentBook, Preparation, PreparePlan, Window, load_agents, no_agents
from importer.reading import verbatim_records
from importer.records import Call, Place, Receipt, ResultRow, RunSummary
from importer.results import Finished, ResultsFile, check_free, defused, results_path, write_rejects
from importer.settings import DATA_CENTERS, Credentials, Settings, parse_moment
from schemas.vocabulary import WIRE_TIME_FORMAT, CallState, Outcome

NEEDS_A_PERSON = frozenset({Outcome.REJECTED, Outcome.REFUSED, Outcome.CONFLICT})


def _ignore(*_: object) -> None:
    """Listen to nothing."""


@dataclass(frozen=True, slots=True)
class Listener:
    """What a run tells while it goes on: rows read, calls about to be sent, each receipt, notes for a person.

    ``detail`` gets what is told only when asked for more.
    """

    rows: Callable[[int], None] = _ignore
    calls: Callable[[int], None] = _ignore
    receipt: Callable[[Receipt], None] = _ignore
    note: Callable[[str], None] = _ignore
    problem: Callable[[ImporterError], None] = _ignore
    detail: Callable[[str], None] = _ignore


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its id, its start (epoch seconds), its settings, and who listens."""

    settings: Settings
    catalogue: Catalogue
    listener: Listener = field(default_factory=Listener)
    run_id: str = field(default_factory=lambda: new_run_id(time.time()))
    now: float = field(default_factory=time.time)
    interrupted: Callable[[], ExitCode | None] = lambda: None


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The usable input files, and what was wrong with the others."""

    detections: tuple[Detection, ...]
    names: Mapping[Path, str]
    problems: tuple[ImporterError, ...]


def new_run_id(now: float) -> str:
    """Return an id for a run: its start in GMT and four random hexadecimal digits."""
    return f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def gmt_text(now: float) -> str:
    """Return a moment as GMT text to the second."""
    return f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S}"


def check(run: Run, paths: Sequence[Path]) -> RunSummary:
    """Read and prepare the files as `import_calls` would; needs neither ledger nor network.

    Raises ImporterError for what stops the whole run.
    """
    target = results_path(paths[0], run.run_id, run.settings.results)
    inputs = detect_inputs(run, paths)
    _check_rejects(run, inputs, target)
    with Preparation(run.catalogue.causes, prepare_plan(run, inputs)) as preparation, _results(target) as results:
        problems = [*inputs.problems, *_read_all(run, inputs, preparation)]
        for batch in preparation.results():
            results.add(batch, Outcome.WOULD_SEND)
        finished = results.finish(lambda _: {})
        _write_rejects(run, inputs, finished)
        return _summary(run, _Ended(finished, preparation, tuple(problems)), target)


def import_calls(run: Run, paths: Sequence[Path], credentials: Credentials) -> RunSummary:
    """Do the main job: detect, read, prepare, stage, deliver, write results.

    Raises ImporterError for what stops the whole run before anything is sent.
    """
    # 1 Results path. Needs the options; gives a path that can be written, before anything is sent.
    target = results_path(paths[0], run.run_id, run.settings.results)
    # 2 Detect. Needs the files; gives how each is to be read.
    inputs = detect_inputs(run, paths)
    _check_rejects(run, inputs, target)
    plan = prepare_plan(run, inputs)
    # 3 Ledger. Needs its path; gives the lock, and what a dead run left as uncertain.
    if run.settings.init_ledger and not run.settings.ledger.exists():
        create_ledger(run.settings.ledger, now=gmt_text(run.now))
    with (
        _open_ledger(run) as ledger,
        Preparation(run.catalogue.causes, plan) as preparation,
        _results(target) as results,
    ):
        recovered = ledger.recover()
        # 4 Read and prepare. Needs files and agents; gives every row's own word, waiting in a spool.
        problems = [*inputs.problems, *_read_all(run, inputs, preparation)]
        # 5 Stage. Needs calls; gives every one of them durable as pending, in one transaction.
        _stage(run, ledger, preparation, results)
        # 6 Deliver. Needs the ledger and the API; gives receipts, each durable before the next step.
        stop = _deliver(run, ledger, credentials, results)
        # 7 Results. Needs the ledger's fates; gives the results file, rejects, counts.
        finished = results.finish(lambda call_ids: _fates(ledger, call_ids))
        _write_rejects(run, inputs, finished)
        summary = _summary(run, _Ended(finished, preparation, tuple(problems), stop, recovered), target)
        ledger.finish_run(summary.exit_code, json.dumps(summary_fields(summary)))
        return summary


def deliver_pending(run: Run, credentials: Credentials) -> RunSummary:
    """Send what the ledger still holds, and write the results of just that."""
    target = results_path(None, run.run_id, run.settings.results)
    with _open_ledger(run) as ledger, _results(target) as results:
        recovered = ledger.recover()
        stop = _deliver(run, ledger, credentials, results)
        finished = results.finish(lambda call_ids: _fates(ledger, call_ids))
        summary = _summary(run, _Ended(finished, None, (), stop, recovered), target)
        ledger.finish_run(summary.exit_code, json.dumps(summary_fields(summary)))
        return summary


@contextmanager
def _results(target: Path) -> Iterator[ResultsFile]:
    """Give a results file; what a failed run wrote before anything was sent does not stay behind."""
    results = ResultsFile(target)
    try:
        yield results
    except ImporterError:
        if not results.has_receipts():
            results.discard()
        raise


def detect_inputs(run: Run, paths: Sequence[Path]) -> _Inputs:
    """Detect every file; a file that is not usable is a problem told at once, results files are passed over."""
    overrides = overrides_of(run.settings, run.catalogue)
    detections, problems = [], []
    for path in paths:
        try:
            found = detect(path, list(run.catalogue.formats.values()), overrides)
        except ImporterError as problem:
            if problem.exit_code not in (ExitCode.INPUT_UNUSABLE, ExitCode.NO_INPUT):
                raise
            problems.append(problem)
            run.listener.problem(problem)
            continue
        if isinstance(found, OwnOutput):
            run.listener.note(f"{path} is a results file of this program: passed over.")
        else:
            detections.append(found)
    return _Inputs(tuple(detections), {found.path: str(found.path) for found in detections}, tuple(problems))


def overrides_of(settings: Settings, catalogue: Catalogue) -> Overrides:
    """Return what the operator says about the files, over what detection finds."""
    chosen = catalogue.pick(settings.format) if settings.format else None
    return Overrides(chosen, settings.encoding, settings.delimiter)


def prepare_plan(run: Run, inputs: _Inputs) -> PreparePlan:
    """Return what preparing needs to know.

    Raises ConfigurationError when a file's local times need a zone and none is given: nothing is guessed.
    """
    settings = run.settings
    for detection in inputs.detections:
        if settings.timezone is None and detection.format.needs_timezone():
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
        all_rows=settings.all_rows,
    )


def _agents(settings: Settings) -> AgentBook:
    number, user = settings.default_agent_number or "", settings.default_zohouser or ""
    if settings.agents is None:
        return no_agents(number, user)
    return load_agents(settings.agents, settings.country, number, user)


def _read_all(run: Run, inputs: _Inputs, preparation: Preparation) -> list[ImporterError]:
    problems: list[ImporterError] = []
    for detection in inputs.detections:
        try:
            rows = preparation.read(detection, inputs.names[detection.path], run.listener.rows)
            run.listener.detail(
                f"{detection.path}: format {detection.format.name}, {detection.encoding}, {rows} rows"
            )
        except InputUnusableError as problem:
            problems.append(problem)
            run.listener.problem(problem)
    return problems


def _open_ledger(run: Run) -> Ledger:
    info = RunInfo(run.run_id, gmt_text(run.now), __version__)
    return Ledger.open(run.settings.ledger, run=info, now=lambda: gmt_text(time.time()))


def _stage(run: Run, ledger: Ledger, preparation: Preparation, results: ResultsFile) -> None:
    """Make every call durable as pending, all or none."""
    settings = run.settings
    with ledger.staging() as stage:
        for batch in preparation.results():
            calls = [each for each in batch if isinstance(each, Call)]
            resend = settings.on_uncertain == "resend"
            staged = iter(stage.add(calls, retry_refused=settings.retry_refused, resend_uncertain=resend))
            rows = (_staged_row(each, next(staged)) if isinstance(each, Call) else each for each in batch)
            results.add(rows, Outcome.PENDING)
    results.flush()


def _staged_row(call: Call, staged: Staged) -> ResultRow | Call:
    """Return a call that is pending as it is, and the row of one whose fate the ledger knows already."""
    return call if staged.outcome is None else _row_of(call, staged.outcome, staged.receipt)


def _row_of(call: Call, outcome: Outcome, known: KnownFate) -> ResultRow:
    """Return the row of a call with what the ledger knows of it."""
    return ResultRow(
        place=call.place,
        outcome=outcome,
        call_id=call.call_id,
        state=call.state.value,
        agent_number=call.agent_number,
        customer_number=call.customer_number,
        start_time=call.start_time,
        zohouser=call.zohouser,
        source_id=call.source_id,
        **_fate_fields(known),
    )


def _fate_fields(known: KnownFate) -> dict[str, Any]:
    return {each.name: getattr(known, each.name) for each in fields(KnownFate)}


_OUTCOME_OF = {
    CallState.ACCEPTED: Outcome.ACCEPTED,
    CallState.REFUSED: Outcome.REFUSED,
    CallState.UNCERTAIN: Outcome.UNCERTAIN,
    CallState.SENDING: Outcome.UNCERTAIN,
    CallState.PENDING: Outcome.PENDING,
    CallState.CLOSED: Outcome.SKIPPED,
}


def _fates(ledger: Ledger, call_ids: Sequence[str]) -> dict[str, ResultRow]:
    """Return the fates of calls as result rows."""
    return {
        call_id: ResultRow(Place("", 0), _OUTCOME_OF[fate.state], call_id=call_id, **_fate_fields(fate))
        for call_id, fate in ledger.fates(call_ids).items()
    }


def _deliver(run: Run, ledger: Ledger, credentials: Credentials, results: ResultsFile) -> Stop | None:
    """Send what is pending, oldest first; return why the run stopped early, if it did."""
    waiting = ledger.pending_count()
    run.listener.calls(min(waiting, run.settings.limit or waiting))
    run.listener.detail(
        f"ledger {run.settings.ledger}: {waiting} calls pending; at most {run.settings.rate}, "
        f"{run.settings.workers} at once"
    )
    if not waiting:
        return None
    service = _service(run, credentials)
    stop = _take_over_pace(ledger, service, Rate.parse(run.settings.rate))
    if stop is not None:
        run.listener.note(stop.message)
        return stop
    since_flush = 0

    def on_receipt(claimed: Claimed, receipt: Receipt) -> None:
        nonlocal since_flush
        fate = ledger.fates([receipt.call_id])[receipt.call_id]
        row = _row_of(claimed.call, _OUTCOME_OF[fate.state], fate)
        results.note(row, carried=not claimed.own_run)
        since_flush += 1
        if since_flush >= run.settings.batch_size:
            results.flush()
            since_flush = 0
        run.listener.receipt(receipt)

    stop = Delivery(ledger, service, _delivery_plan(run.settings)).run(on_receipt)
    if stop and stop.message:
        run.listener.note(stop.message)
    return stop


def _take_over_pace(ledger: Ledger, service: Service, rate: Rate) -> Stop | None:
    """Count the requests of earlier runs against the rate, and keep the wait that the service asked them for."""
    now, clock = service.wall_clock(), service.clock()
    earlier = [_epoch_of(text) + 1.0 for text in ledger.sent_since(gmt_text(now - rate.period_seconds - 1))]
    service.limiter.count_earlier(clock - now + moment for moment in earlier)
    held = ledger.held_until()
    left = _epoch_of(held) - now if held else 0.0
    if left > LONGEST_WAIT_SECONDS:
        return Stop(ExitCode.TRY_LATER, "held", f"The service asked to wait until {held} GMT; nothing was sent.")
    if left > 0:
        service.limiter.pause_until(clock + left)
    if held:
        ledger.hold_until(None)
    return None


def _epoch_of(text: str) -> float:
    return datetime.strptime(text, WIRE_TIME_FORMAT).replace(tzinfo=UTC).timestamp()


def _delivery_plan(settings: Settings) -> DeliveryPlan:
    return DeliveryPlan(
        batch_size=settings.batch_size,
        workers=settings.workers,
        limit=settings.limit,
        errors=settings.max_errors,
    )


def _service(run: Run, credentials: Credentials) -> Service:
    settings = run.settings
    sign_in = sign_in_of(settings, credentials)
    route = Route(settings.proxy, str(settings.ca_bundle) if settings.ca_bundle else None)
    return Service(
        clients=lambda: Client(route),
        tokens=TokenSource(sign_in, transport=token_transport(sign_in), clock=time.time, sleep=time.sleep),
        limiter=RollingLimiter(Rate.parse(settings.rate), clock=time.monotonic),
        interrupted=run.interrupted,
    )


def sign_in_of(settings: Settings, credentials: Credentials) -> SignIn:
    """Return how to sign in; the token is shared with other runs through a cache file, but not in the sandbox."""
    center = DATA_CENTERS[settings.data_center]
    cache = platformdirs.user_cache_path("cdr-importer") / "token.json"
    return SignIn(
        accounts_url=settings.accounts_url or center.accounts_url,
        client_id=credentials.client_id,
        client_secret=credentials.client_secret,
        refresh_token=credentials.refresh_token,
        api_url=settings.api_url,
        api_hosts=center.api_hosts,
        cache_path=None if settings.sandbox else cache,
        proxy=settings.proxy,
        ca_bundle=str(settings.ca_bundle) if settings.ca_bundle else None,
    )


def _check_rejects(run: Run, inputs: _Inputs, target: Path) -> None:
    """Find out before anything is sent that the rejects could not be written.

    Raises CannotCreateError for a path that is taken, whose folder is not there, or that the results have.
    """
    chosen = run.settings.rejects
    if chosen is None:
        return
    for number in range(1, len({detection.header for detection in inputs.detections}) + 1):
        check_free(_rejects_path(chosen, number), "rejects")
    if chosen.absolute() == target.absolute():
        raise CannotCreateError(
            f"results and rejects are the same file {chosen}", hint="Give --results and --rejects two names."
        )


def _rejects_path(chosen: Path, number: int) -> Path:
    """Return where the rejects with the ``number``-th kind of header go."""
    return chosen if number == 1 else chosen.with_name(f"{chosen.stem}-{number}{chosen.suffix}")


def _write_rejects(run: Run, inputs: _Inputs, finished: Finished) -> None:
    """Write the rows to be mended, one file for each kind of header among the inputs."""
    chosen = run.settings.rejects
    if chosen is None:
        return
    by_header: dict[tuple[str, ...], list[tuple[Detection, frozenset[int]]]] = {}
    for detection in inputs.detections:
        lines = finished.to_mend.get(defused(str(detection.path)))
        if lines:
            by_header.setdefault(detection.header, []).append((detection, lines))
    for number, parts in enumerate(by_header.values(), start=1):
        write_rejects(_rejects_path(chosen, number), _verbatim(parts))


def _verbatim(parts: Sequence[tuple[Detection, frozenset[int]]]) -> Iterator[str]:
    """Yield the header once, then the records of these lines as they stand in their files."""
    with_header = True
    for detection, lines in parts:
        for record in verbatim_records(detection, lines):
            if record.line != detection.header_line or with_header:
                yield record.text
        with_header = False


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a run ended."""

    finished: Finished
    preparation: Preparation | None
    problems: tuple[ImporterError, ...]
    stop: Stop | None = None
    recovered: int = 0


def _summary(run: Run, ended: _Ended, target: Path) -> RunSummary:
    """Count, and give the exit code; counts that do not add up are a bug of ours (exit 70)."""
    read = ended.preparation.skipped if ended.preparation else Counter[str]()
    outcomes = Counter(ended.finished.outcomes)
    outcomes[Outcome.SKIPPED] += sum(read.values())
    code = most_severe([*_codes(run, ended, outcomes)])
    summary = RunSummary(
        run_id=run.run_id,
        exit_code=code,
        reason=_reason(ended, outcomes, code),
        rows=ended.preparation.rows if ended.preparation else 0,
        carried=ended.finished.carried,
        outcomes=outcomes,
        skipped=Counter(ended.finished.skipped) + read,
        results=target,
    )
    if summary.adds_up():
        return summary
    return replace(summary, exit_code=ExitCode.INTERNAL, reason="counts_do_not_add_up")


def _codes(run: Run, ended: _Ended, outcomes: Mapping[Outcome, int]) -> Iterator[ExitCode]:
    yield from (problem.exit_code for problem in ended.problems)
    if ended.stop:
        yield ended.stop.exit_code
    if outcomes[Outcome.UNCERTAIN] or ended.recovered:
        yield ExitCode.UNCERTAIN
    if any(outcomes[outcome] for outcome in NEEDS_A_PERSON):
        yield ExitCode.PARTIAL
    if outcomes[Outcome.PENDING] and not ended.stop and run.settings.limit is None:
        yield ExitCode.UNAVAILABLE


def _reason(ended: _Ended, outcomes: Mapping[Outcome, int], code: ExitCode) -> str:
    """Return one word for the exit code."""
    if ended.stop and ended.stop.exit_code == code:
        return ended.stop.reason
    problem = next((problem for problem in ended.problems if problem.exit_code == code), None)
    if problem is not None:
        return "input_unusable" if code is ExitCode.INPUT_UNUSABLE else "no_input"
    if code is ExitCode.PARTIAL:
        return next(outcome.value for outcome in sorted(NEEDS_A_PERSON) if outcomes[outcome])
    return {ExitCode.OK: "done", ExitCode.UNCERTAIN: "uncertain"}.get(code, "pending")


def summary_fields(summary: RunSummary) -> dict[str, object]:
    """Return the summary as it is printed: numbers, then why, which run, and where the results are."""
    counts = {outcome.value: summary.outcomes.get(outcome, 0) for outcome in Outcome}
    return {
        "rows": summary.rows,
        "carried": summary.carried,
        **counts,
        "exit": int(summary.exit_code),
        "reason": summary.reason,
        "run": summary.run_id,
        "results": str(summary.results) if summary.results else "",
    }
