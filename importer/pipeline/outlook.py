"""The calls about to be sent, in order, and the yes of a person to them. Loads neither pandas nor the network."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext

from importer.errors import ConfigurationError, StoppedError
from importer.ledger.ledger import Ledger
from importer.ledger.reader import LedgerReader
from importer.pipeline.run import Outlook, Run, gmt_text
from schemas.vocabulary import CallState, counted

OLD_DAYS = 30
"""Older calls of a first import need `--since` or `--yes`: each can open a window on an agent's screen."""


def ask_before_sending(run: Run, ledger: Ledger, examples: Callable[[], Iterable[str]] | None = None) -> Outlook:
    """Line up the calls to be sent, show them to a person and return them; raises StoppedError on a no.

    A run that has files, of which it gives ``examples``, sends their calls first, and with `--limit` no others.
    """
    has_files = examples is not None
    settings = run.settings
    order = "own" if has_files and settings.order == "newest" else settings.order
    is_cut = has_files and settings.limit is not None
    calls, from_earlier, first, last = ledger.line_up(order, own_only=is_cut, limit=settings.limit)
    seconds = settings.rate.seconds_for(calls, is_burst=settings.burst)
    pending = ledger.pending_count() - calls
    outlook = Outlook(calls, pending, from_earlier, first, last, seconds, examples or tuple)
    if calls and not (settings.yes or settings.sandbox):
        is_agreed = run.listener.confirm(outlook)
        run.stop_if_interrupted()
        if not is_agreed:
            raise StoppedError(
                "nothing was taken in or sent, as you said",
                hint="`cdr-importer check` shows what would be, `status` what is pending.",
                reason="declined",
            )
    return outlook


def ask_to_deliver(run: Run, ledger: Ledger) -> Outlook:
    """Ask before pending calls are sent, with `--on-uncertain resend` uncertain ones too, which a no leaves so."""
    resend = run.settings.on_uncertain == "resend"
    with ledger.staging() if resend else nullcontext() as staging:
        if staging and (count := staging.reopen_uncertain()):
            calls = counted(count, "uncertain call is", "uncertain calls are")
            run.listener.note(f"{calls} sent again, as --on-uncertain resend says.")
        return ask_before_sending(run, ledger)


def old_calls(run: Run, ledger: LedgerReader, new: int, first: str) -> ConfigurationError | None:
    """Return the error for old calls on a ledger that has sent nothing, unless meant; ``first`` is GMT text."""
    settings = run.settings
    is_meant = settings.yes or settings.sandbox or settings.since is not None
    if is_meant or not new or first >= gmt_text(run.now - OLD_DAYS * 86_400):
        return None
    # The ledger is counted whole, so only for calls that are old.
    if any(count for state, count in ledger.counts().items() if state is not CallState.PENDING):
        return None
    return ConfigurationError(
        f"the oldest of {counted(new, 'new call')} is from {first} GMT, and this ledger has sent nothing yet",
        hint="Each call can open a window on its agent's screen. "
        f"Give --since {OLD_DAYS}d to leave older calls out, or --yes if all of them are meant.",
        reason="old_calls",
    )
