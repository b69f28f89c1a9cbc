"""The moments of a run after which a death must leave a known state."""

from enum import StrEnum


class Step(StrEnum):
    """One moment of a run, passed on just after what its name says; what a death there must leave is said of each.

    Steps of a call come from the thread that sends it, the others from the main thread. Whatever the moment, no
    call is lost, none is sent twice, and the next `import` or `deliver` on the ledger goes on by itself.

    ========================  ==========================================================================
    ``LOCKED``                nothing happened; the kernel gives the lock back
    ``RECOVERED``             calls a dead run was sending are uncertain; doing it again changes nothing
    ``RESULTS_CREATED``       empty parts of results; the next run takes them away
    ``ROWS_SYNCED``           the part of results is whole, the ledger has nothing of this input
    ``STAGED``                every call of the input is pending, none was sent; its results can be finished
    ``TOKEN``                 as before it; an access token may be in the cache
    ``BEFORE_INTENT``         connected, the call is pending, no byte left
    ``INTENT_DURABLE``        the call is uncertain at the next start, though no byte left
    ``WRITTEN``               the call is uncertain at the next start
    ``ANSWERED``              the call is uncertain at the next start, whatever the answer was
    ``SETTLED``               the answer is recorded; results take it from the ledger
    ``NOTED``                 as ``SETTLED``; the call was counted, and its receipt waits for the listener
    ``RESULTS_PART_SYNCED``   the results are whole under another name; the next run moves them into place
    ``RESULTS_LINKED``        the results are in place; the next run only tidies up and closes the run
    ``REJECTS_WRITTEN``       results and rejects are in place; the next run only closes the run
    ``RUN_FINISHED``          all is done and recorded
    ========================  ==========================================================================
    """

    LOCKED = "locked"
    RECOVERED = "recovered"
    RESULTS_CREATED = "results_created"
    ROWS_SYNCED = "rows_synced"
    STAGED = "staged"
    TOKEN = "token"  # noqa: S105 a moment, not a secret
    BEFORE_INTENT = "before_intent"
    INTENT_DURABLE = "intent_durable"
    WRITTEN = "written"
    ANSWERED = "answered"
    SETTLED = "settled"
    NOTED = "noted"
    RESULTS_PART_SYNCED = "results_part_synced"
    RESULTS_LINKED = "results_linked"
    REJECTS_WRITTEN = "rejects_written"
    RUN_FINISHED = "run_finished"
