"""The moments of a run after which a death must leave a known state, and what a test does at them.

The program names none of them: each is the call or the return of one of its functions, seen by a profile function.
"""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from types import FrameType

from importer.ledger.ledger import Ledger
from importer.pacing import RollingLimiter
from importer.pipeline.intake import Intake
from importer.pipeline.run import ask_before_sending
from importer.pipeline.sending import Attempts, Breaker, Delivery
from importer.results.cells import write_rows
from importer.results.file import Parts, put_in_place


class Step(StrEnum):
    """One moment of a run; what a death there must leave is said of each.

    Steps of a call come from the thread that sends it, the others from the main thread. Whatever the moment, no
    call is lost, none is sent twice, and the next `import` or `deliver` on the ledger goes on by itself.
    """

    LOCKED = "locked"
    """Nothing happened; the kernel gives the lock back."""
    RECOVERED = "recovered"
    """Calls a dead run was sending are uncertain; doing it again changes nothing."""
    RESULTS_CREATED = "results_created"
    """One empty part of results, or two; the next run removes them."""
    ROWS_SYNCED = "rows_synced"
    """The part of results is whole, the ledger has nothing of this input."""
    STAGED = "staged"
    """Every call of the input is pending, none was sent; its results can be finished."""
    TOKEN = "token"
    """As before it; an access token may be in the cache."""
    BEFORE_INTENT = "before_intent"
    """Connected, the call is pending, no byte left."""
    INTENT_DURABLE = "intent_durable"
    """The call is uncertain at the next start, though no byte left."""
    WRITTEN = "written"
    """The call is uncertain at the next start."""
    ANSWERED = "answered"
    """The call is uncertain at the next start, whatever the answer was."""
    SETTLED = "settled"
    """The answer is recorded; results take it from the ledger."""
    NOTED = "noted"
    """As after `SETTLED`; the call was counted, and its receipt waits for the listener."""
    RESULTS_PART_SYNCED = "results_part_synced"
    """The results are whole under another name; the next run moves them into place."""
    RESULTS_LINKED = "results_linked"
    """The results are in place; the next run only tidies up and closes the run."""
    REJECTS_WRITTEN = "rejects_written"
    """Results and rejects are in place; the next run only closes the run."""
    RUN_FINISHED = "run_finished"
    """All is done and recorded."""


_STEPS = {
    (event, getattr(function, "__func__", function).__code__): step
    for step, event, function in (
        (Step.LOCKED, "return", Ledger.open),
        (Step.RECOVERED, "return", Ledger.recover),
        (Step.RESULTS_CREATED, "return", write_rows),
        (Step.ROWS_SYNCED, "call", ask_before_sending),
        (Step.STAGED, "call", Delivery.send),
        (Step.TOKEN, "call", RollingLimiter.acquire),
        (Step.BEFORE_INTENT, "call", Ledger.mark_sending),
        (Step.INTENT_DURABLE, "return", Attempts._before_first_byte),
        (Step.WRITTEN, "return", RollingLimiter.written),
        (Step.ANSWERED, "call", Ledger.settle),
        (Step.SETTLED, "return", Ledger.settle),
        (Step.NOTED, "return", Breaker.add),
        (Step.RESULTS_PART_SYNCED, "call", put_in_place),
        (Step.RESULTS_LINKED, "call", Parts.discard),
        (Step.REJECTS_WRITTEN, "return", Intake.finish),
        (Step.RUN_FINISHED, "return", Ledger.finish_run),
    )
}


@contextmanager
def at_steps(act: Callable[[Step], object]) -> Iterator[None]:
    """Call ``act`` at each step of this thread and of those it starts; what it raises is raised there."""

    def look(frame: FrameType, event: str, _: object) -> None:
        step = _STEPS.get((event, frame.f_code))
        if step is not None:
            act(step)

    threading.setprofile(look)
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def at(step: Step, time: int, act: Callable[[], object]) -> Callable[[Step], None]:
    """Return what acts at the ``time``-th time of a step, for `at_steps`."""
    met: Counter[Step] = Counter()
    guard = threading.Lock()

    def count(each: Step) -> None:
        with guard:
            met[each] += 1
            is_time = each is step and met[each] == time
        if is_time:
            act()

    return count
