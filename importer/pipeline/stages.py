"""The stages of a run in order, numbered, with what each needs and gives.

A file that is not usable stops that file only; every other error before sending stops the run with nothing sent.
pandas and requests come in where they are used: `deliver` and `check` do without one of them.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from importer import __version__
from importer.errors import ImporterError, TryLaterError
from importer.files.export import NamedFiles
from importer.ledger.ledger import Ledger
from importer.ledger.reader import LedgerReader, open_reader
from importer.ledger.schema import create_ledger
from importer.ledger.values import RunInfo
from importer.pipeline.dead_runs import drop_old_results, finish_dead_runs
from importer.pipeline.ending import ReadSoFar, finish_by_error, summary_of, summary_record
from importer.pipeline.inputs import detect_inputs
from importer.pipeline.run import Run, ask_to_deliver, gmt_text, lock_wait
from importer.private_files import whose
from importer.records import RunSummary, Stop
from importer.results.file import OF_SANDBOX, SANDBOX, Fates, Finished, ResultsFile, results_path
from importer.settings.credentials import Credentials


def check(run: Run, named: NamedFiles, *, with_ledger: bool = False) -> RunSummary:
    """Prepare the files as an import would, by the ledger if asked; raises ImporterError where all of it stops."""
    with open_reader(run.settings.ledger) if with_ledger else nullcontext() as ledger:
        return carry_out(run, named, None, ledger)


def carry_out(
    run: Run, named: NamedFiles | None, sign_in: Credentials | None, known: LedgerReader | None = None
) -> RunSummary:
    """Do the work of `import`; `deliver` has no files, `check` no sign-in and at most a ``known`` ledger."""
    # 1 Results path. Needs names and options; gives a path that can be written, before anything is sent.
    target, note = _target(run, named.beside if named else None)
    # 2 Detect. Needs the files; gives how each is to be read.
    intake, delivery, read = None, None, ReadSoFar(is_dry=sign_in is None)
    if named:
        detections = detect_inputs(run, named, read.problems)
        from importer.pipeline.intake import Intake

        intake = Intake(run, detections, read)
    if sign_in:
        from importer.pipeline.sending import Delivery

        delivery = Delivery(run, sign_in)
    with (
        # 3 Ledger. Needs its path; gives the lock, and the calls that a dead run was sending as uncertain.
        _opened(run, named is not None, target, delivery.account) if delivery else nullcontext() as ledger,
        intake.opened(ledger or known) if intake else nullcontext(),
        _results(run, ledger, target, read) as results,
    ):
        if intake is not None:
            # 4 Read and prepare. Needs files and agents; gives the rows, waiting in a temporary file.
            intake.read()
            # 5 Stage. Needs calls; gives every one of them durable as pending, in one transaction.
            outlook = intake.take_in(results)
        else:
            results.sync()
            outlook = ask_to_deliver(run, ledger) if ledger else None
        results.is_kept = ledger is not None  # the calls are in the ledger now
        # 6 Deliver. Needs the ledger and the API; gives receipts, each durable before the next step.
        stop = delivery.send(ledger, results, outlook) if ledger and delivery and outlook else None
        # 7 Results. Needs the ledger's fates; gives rejects, counts, and a results file unless nothing was read.
        finished = results.finish(_fates(run, ledger), may_drop=bool(read.problems) and not read.rows)
        if intake is not None:
            intake.finish(finished, target, note)
        ended = _ended(run, target, read, finished, stop, ledger or known)
        # 8 Files done. Needs results and ledger finished; gives files moved where `--done` says.
        if intake and ledger and run.settings.done and not run.settings.sandbox:
            ended = intake.move_done(run.settings.done, finished, ledger, ended)
        run.listener.ended(ended)
    return ended


def _fates(run: Run, ledger: Ledger | None) -> Fates | None:
    """Return what gives the fates of calls; those of a trial say so, in place of an empty hint."""
    if ledger is None or not run.settings.sandbox:
        return ledger.fates if ledger else None
    fates = ledger.fates
    return lambda ids: {each: replace(fate, hint=fate.hint or OF_SANDBOX) for each, fate in fates(ids).items()}


def _ended(
    run: Run, target: Path, read: ReadSoFar, finished: Finished, stop: Stop | None, ledger: LedgerReader | None
) -> RunSummary:
    """Return how a run ended, and record it in the ledger of the run; results that are old by now are deleted."""
    ended = summary_of(run, target, read, finished, stop, ledger)
    if isinstance(ledger, Ledger):
        ledger.finish_run(ended.exit_code, json.dumps(summary_record(ended)))
        if run.settings.keep_results is not None:
            drop_old_results(run, ledger, target, run.settings.keep_results)
    return ended


def _target(run: Run, beside: Path | None) -> tuple[Path, str]:
    """Return where the results go, and why not beside the input where they cannot."""
    # The ledger of a sandbox goes with it.
    place = (None, SANDBOX) if run.settings.sandbox else (run.settings.ledger,)
    target = results_path(beside, run.run_id, run.settings.results, *place)
    if run.settings.results is None and beside and target.parent != beside.parent:
        closed = whose(beside.parent / target.name)
        return target, f"The results are {target}: nothing is written beside the input: {closed}."
    return target, ""


@contextmanager
def _opened(run: Run, has_files: bool, target: Path, account: str) -> Iterator[Ledger]:
    """Give the ledger of this run, with the calls and results of dead runs settled.

    The account is checked before anything is taken in. A run that came to its end has listed its rejected rows.
    """
    settings = run.settings
    wait = lock_wait(settings, run.listener.waiting, run.stop_if_interrupted, run.clock, run.sleep)
    while has_files and settings.init_ledger and not settings.ledger.exists():
        try:
            create_ledger(settings.ledger, now=gmt_text(run.now))
        except TryLaterError as held:  # another run makes it
            if not wait(held):
                raise
    command, kept = "import" if has_files else "deliver", json.dumps(settings.in_force())
    info = RunInfo(run.run_id, gmt_text(run.now), __version__, command, str(target.absolute()), kept)
    with Ledger.open(settings.ledger, run=info, now=lambda: gmt_text(run.wall_clock()), wait=wait) as ledger:
        try:
            ledger.check_account(account)
        except ImporterError as error:
            finish_by_error(ledger, error)
            raise
        ledger.recover()
        finish_dead_runs(run, ledger)
        yield ledger
        if has_files:
            with suppress(ImporterError):  # they are listed by now; else the next run lists them again
                ledger.keep_listed()


@contextmanager
def _results(run: Run, ledger: Ledger | None, target: Path, read: ReadSoFar) -> Iterator[ResultsFile]:
    """Give the results file of a run.

    When the run breaks off, a file is left only if calls of it are in the ledger, and the listener gets the counts
    as they stand then; without such a file the end of the run is written into the ledger.
    """
    results: ResultsFile | None = None
    try:
        results = ResultsFile(target)
        yield results
    except BaseException as error:
        is_kept = results is not None and results.is_kept
        if results is not None:
            (results.leave if is_kept else results.discard)()
        if ledger is None or not isinstance(error, Exception):
            raise
        with suppress(ImporterError, OSError):
            if results is not None and is_kept:
                standing = results.standing(ledger.fates, partial(ledger.run_fates, run.run_id))
                run.listener.broke_off(summary_of(run, target, read, standing, None, None))
            else:
                finish_by_error(ledger, error)
        raise
