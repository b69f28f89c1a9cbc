"""The calls about to be sent, in order, and the yes of a person to them. Loads neither pandas nor the network."""

from importer.errors import DeclinedError
from importer.ledger import Ledger
from importer.pipeline.run import Outlook, Run


def ask_before_sending(run: Run, ledger: Ledger, *, has_files: bool) -> Outlook:
    """Line up the calls to be sent, show them to a person and return them; raises DeclinedError on a no.

    A run that ``has_files`` sends the calls of these first, and with `--limit` no others.
    """
    settings = run.settings
    order = "own" if has_files and settings.order == "newest" else settings.order
    is_cut = has_files and settings.limit is not None
    calls, from_earlier, first, last = ledger.line_up(order, own_only=is_cut, limit=settings.limit)
    seconds = settings.rate.seconds_for(calls, is_burst=settings.burst)
    outlook = Outlook(calls, ledger.pending_count() - calls, from_earlier, first, last, seconds)
    if calls and not (settings.yes or settings.sandbox):
        is_agreed = run.listener.confirm(outlook)
        run.stop_if_interrupted()
        if not is_agreed:
            raise DeclinedError
    return outlook
