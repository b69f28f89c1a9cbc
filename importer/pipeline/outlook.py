"""What a run is about to send, told before anything of it is taken in, while a person can still say no."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from importer.errors import ConfigurationError, DeclinedError
from importer.ledger import Ledger
from importer.pipeline.run import Outlook, Run
from schemas.vocabulary import WIRE_TIME_FORMAT, CallState

OLD_DAYS = 30
"""From which age on calls of a first import are asked about: each can open a window on an agent's screen."""


@dataclass(slots=True)
class Intake:
    """The new calls that staging took in: how many, and the earliest and latest start as GMT text."""

    calls: int = 0
    first: str = ""
    last: str = ""

    def add(self, start_time: str) -> None:
        """Take a call's start in; the texts sort as their times do."""
        self.calls += 1
        self.first = min(self.first or start_time, start_time)
        self.last = max(self.last, start_time)

    def outlook(self, run: Run, ledger: Ledger) -> Outlook:
        """Return what the run is about to send, counted inside the staging."""
        waiting = ledger.pending_count()
        calls = min(waiting, run.settings.limit or waiting)
        rate = run.settings.rate
        return Outlook(
            calls=calls,
            left_pending=waiting - calls,
            from_earlier=max(0, waiting - self.calls),
            first=self.first,
            last=self.last,
            seconds=max(0, calls - rate.limit) / rate.limit * rate.period_seconds,
        )


def ask_before_sending(run: Run, ledger: Ledger, intake: Intake) -> None:
    """Let a person see what is about to be sent; to be called inside the staging, which an error undoes.

    Raises ConfigurationError for old calls on a ledger that has sent nothing yet, unless `--since` or `--yes` says
    that they are meant, and DeclinedError when the person says no.
    """
    if run.settings.yes or run.settings.sandbox or not intake.calls:
        return
    # The ledger is counted whole, so only for calls that are old.
    if run.settings.since is None and _is_old(run, intake) and _is_first(ledger):
        raise _old_calls(intake)
    is_agreed = run.listener.confirm(intake.outlook(run, ledger))
    run.stop_if_interrupted()
    if not is_agreed:
        raise DeclinedError


def _is_first(ledger: Ledger) -> bool:
    return not any(count for state, count in ledger.counts().items() if state is not CallState.PENDING)


def _is_old(run: Run, new: Intake) -> bool:
    oldest_wanted = datetime.fromtimestamp(run.now, UTC) - timedelta(days=OLD_DAYS)
    return new.first < oldest_wanted.strftime(WIRE_TIME_FORMAT)


def _old_calls(new: Intake) -> ConfigurationError:
    return ConfigurationError(
        f"the oldest of {new.calls} new calls is from {new.first} GMT, and this ledger has sent nothing yet",
        hint="Each call can open a window on its agent's screen. "
        f"Give --since {OLD_DAYS}d to leave older calls out, or --yes if all of them are meant.",
    )
