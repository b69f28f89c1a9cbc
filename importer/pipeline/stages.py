"""The stages of a run wired together, numbered, with what each needs and gives.

A file that is not usable stops that file only; everything else that goes wrong before sending stops the run
with nothing sent. Nothing in here prints: what happens is told to a `Listener`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from importer import __version__
from importer.errors import ExitCode, ImporterError
from importer.files import named_files
from importer.ledger import Ledger, RunInfo, create_ledger
from importer.pipeline.alarms import RejectWatch, input_alarms, told_rejects
from importer.pipeline.dead_runs import finish_dead_runs
from importer.pipeline.ending import Ended, ending_record, summary_of, summary_record
from importer.pipeline.fates import fates_of
from importer.pipeline.inputs import detect_inputs, inputs_json
from importer.pipeline.run import Run, gmt_text
from importer.pipeline.sending import deliver, service_of
from importer.records import RunSummary
from importer.results import ResultsFile, results_path
from importer.settings import Credentials
from schemas.vocabulary import Outcome


def check(run: Run, paths: Sequence[Path]) -> RunSummary:
    """Read and prepare the files as `import_calls` would; needs neither ledger nor network.

    Raises ImporterError for what stops the whole run.
    """
    # pandas comes in here and not on top: `deliver` and `status` do without.
    from importer.pipeline.preparing import prepare_plan, read_all
    from importer.pipeline.rejects import check_rejects, write_mendable
    from importer.prepare import Preparation

    named = named_files(paths)
    target = results_path(named.beside, run.run_id, run.settings.results)
    inputs = detect_inputs(run, named)
    check_rejects(run, inputs)
    plan = prepare_plan(run, inputs)
    with Preparation(run.catalogue.causes, plan) as preparation, _rows_of(target) as results:
        whole = read_all(run, inputs, preparation)
        problems = [*inputs.problems, *whole.problems]
        problems += input_alarms(run, inputs, preparation.rows)
        rejects = RejectWatch(run.settings.max_errors)
        for batch in preparation.results():
            run.stop_if_interrupted()
            rejects.add(batch)
            results.add(batch, Outcome.WOULD_SEND)
        problems += told_rejects(run, rejects)
        finished = results.finish(lambda _: {})
        problems += write_mendable(run, whole.inputs, finished)
        return summary_of(
            run, Ended(finished, tuple(problems), rows=preparation.rows, skipped=preparation.skipped), target
        )


def import_calls(run: Run, paths: Sequence[Path], credentials: Credentials) -> RunSummary:
    """Do the main job: detect, read, prepare, stage, deliver, write results.

    Raises ImporterError for what stops the whole run before anything is sent.
    """
    # pandas comes in here and not on top: `deliver` and `status` do without.
    from importer.pipeline.preparing import prepare_plan, read_all, stage
    from importer.pipeline.rejects import check_rejects, write_mendable
    from importer.prepare import Preparation

    # 1 Results path. Needs names and options; gives a path that can be written, before anything is sent.
    named = named_files(paths)
    target = results_path(named.beside, run.run_id, run.settings.results)
    # 2 Detect. Needs the files; gives how each is to be read.
    inputs = detect_inputs(run, named)
    check_rejects(run, inputs)
    plan = prepare_plan(run, inputs)
    service = service_of(run, credentials)
    # 3 Ledger. Needs its path; gives the lock, and what a dead run left as uncertain.
    if run.settings.init_ledger and not run.settings.ledger.exists():
        create_ledger(run.settings.ledger, now=gmt_text(run.now))
    with _open_ledger(run, "import", target, service.account) as ledger:
        _recover(run, ledger)
        plan = replace(plan, held=ledger.held)
        with (
            Preparation(run.catalogue.causes, plan) as preparation,
            _results(run, ledger, target, lambda: (preparation.rows, preparation.skipped)) as results,
        ):
            # 4 Read and prepare. Needs files and agents; gives every row's own word, waiting in a spool.
            whole = read_all(run, inputs, preparation)
            problems = [*inputs.problems, *whole.problems, *input_alarms(run, inputs, preparation.rows)]
            ledger.note_inputs(inputs_json(inputs, whole.rows))
            # 5 Stage. Needs calls; gives every one of them durable as pending, in one transaction.
            stage(run, ledger, preparation, results)
            # 6 Deliver. Needs the ledger and the API; gives receipts, each durable before the next step.
            stop = deliver(run, ledger, service, results)
            # 7 Results. Needs the ledger's fates; gives the results file, rejects, counts.
            finished = results.finish(lambda call_ids: fates_of(ledger, call_ids))
            problems += write_mendable(run, whole.inputs, finished)
            uncertain = ledger.uncertain_since()
            ended = Ended(finished, tuple(problems), stop, uncertain, preparation.rows, preparation.skipped)
            summary = summary_of(run, ended, target)
            ledger.finish_run(summary.exit_code, json.dumps(summary_record(summary)))
            return summary


def deliver_pending(run: Run, credentials: Credentials) -> RunSummary:
    """Send what the ledger still holds, and write the results of just that."""
    target = results_path(None, run.run_id, run.settings.results)
    service = service_of(run, credentials)
    with _open_ledger(run, "deliver", target, service.account) as ledger:
        _recover(run, ledger)
        if run.settings.on_uncertain == "resend":
            _reopen(run, ledger)
        with _results(run, ledger, target) as results:
            results.sync()
            results.keep()
            stop = deliver(run, ledger, service, results)
            finished = results.finish(lambda call_ids: fates_of(ledger, call_ids))
            summary = summary_of(run, Ended(finished, stop=stop, uncertain=ledger.uncertain_since()), target)
            ledger.finish_run(summary.exit_code, json.dumps(summary_record(summary)))
            return summary


def _open_ledger(run: Run, command: str, target: Path, account: str) -> Ledger:
    """Open the ledger for this run, and see that it is the one of this account before anything is taken in."""
    kept = json.dumps(run.settings.in_force())
    info = RunInfo(run.run_id, gmt_text(run.now), __version__, command, str(target.absolute()), kept)
    ledger = Ledger.open(run.settings.ledger, run=info, now=lambda: gmt_text(run.timing.wall_clock()))
    try:
        ledger.check_account(account)
    except ImporterError as error:
        with suppress(ImporterError):
            ledger.finish_run(error.exit_code, json.dumps(ending_record(error)))
        ledger.close()
        raise
    return ledger


def _recover(run: Run, ledger: Ledger) -> None:
    ledger.recover()
    finish_dead_runs(run, ledger)


def _reopen(run: Run, ledger: Ledger) -> None:
    """Send again what is uncertain, with the same ids."""
    count = ledger.reopen_uncertain()
    if count:
        run.listener.note(f"{count} uncertain calls are sent again, as --on-uncertain resend says.")


@contextmanager
def _results(
    run: Run, ledger: Ledger, target: Path, counted: Callable[[], tuple[int, Mapping[str, int]]] = lambda: (0, {})
) -> Iterator[ResultsFile]:
    """Give the results of a run with a ledger; ``counted`` says how many rows were read, and skipped by reason.

    Of a run that breaks off, its end is noted in the ledger when it leaves no results, else where its calls stand
    is told.
    """
    results: ResultsFile | None = None
    try:
        with _rows_of(target) as results:
            yield results
    except Exception as error:
        with suppress(ImporterError, OSError):
            if results is not None and results.is_kept:
                finished = results.standing(lambda call_ids: fates_of(ledger, call_ids))
                rows, skipped = counted()
                run.listener.broke_off(summary_of(run, Ended(finished, rows=rows, skipped=skipped), target))
            else:
                code = error.exit_code if isinstance(error, ImporterError) else ExitCode.INTERNAL
                ledger.finish_run(code, json.dumps(ending_record(error)))
        raise


@contextmanager
def _rows_of(target: Path) -> Iterator[ResultsFile]:
    """Give a results file; what a failed run wrote before anything was taken in does not stay behind."""
    results = ResultsFile(target)
    try:
        yield results
    except BaseException:
        if results.is_kept:
            results.leave()
        else:
            results.discard()
        raise
