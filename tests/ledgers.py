"""Ledgers, calls and steps that the tests of the ledger share."""

import itertools
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from importer.errors import ExitCode
from importer.ledger.ledger import Ledger
from importer.ledger.reader import open_reader
from importer.ledger.schema import create_ledger
from importer.ledger.staging import Staging
from importer.ledger.values import Claimed, Decision, RunInfo, Staged
from importer.records import Call, Place, Receipt
from schemas.vocabulary import CallState, Outcome, State
from states import CLOSED, PENDING, SENDING, UNCERTAIN

CREATED = "2026-03-01 00:00:00"
RUN = RunInfo("run1", "2026-03-01 01:00:00", "0.1.0")
LATER_RUN = RunInfo("run2", "2026-03-02 01:00:00", "0.1.0")
AGENT = "+12125550123"
CUSTOMER = "+447700900456"


def ticking() -> Callable[[], str]:
    """Return a clock that goes one second further at every look."""
    seconds = itertools.count()
    return lambda: str(datetime(2026, 3, 1) + timedelta(seconds=next(seconds)))


def call(call_id: str = "a1", *, line: int = 2, voiceuri: str = "") -> Call:
    """Return a fictional call; ``voiceuri`` serves to make the content another one."""
    place = Place("one.csv", line)
    return Call(
        call_id, State.BUSY, AGENT, CUSTOMER, "2026-02-28 10:00:00", "ZU1", voiceuri, f"s-{call_id}", place
    )


def opened(path: Path, run: RunInfo = RUN) -> Ledger:
    """Open a ledger for writing without waiting for anybody."""
    return Ledger.open(path, run=run, now=ticking(), busy_seconds=0)


def take(ledger: Ledger, *calls: Call, retry_refused: bool = False, resend: bool = False) -> list[Staged]:
    """Stage calls as one staging."""
    with ledger.staging() as stage:
        return stage.add(calls, retry_refused=retry_refused, resend_uncertain=resend)


def claimed(ledger: Ledger, most: int = 9, *, order: str = "oldest") -> list[Claimed]:
    """Line the pending calls up and claim the first of them."""
    ledger.line_up(order)
    return ledger.claim(most, after=0)


def add(stage: Staging, *calls: Call) -> list[Staged]:
    """Stage calls within a staging."""
    return stage.add(calls, retry_refused=False, resend_uncertain=False)


def execute(path: Path, statement: str) -> None:
    """Change a file as another program does that knows SQLite."""
    with closing(sqlite3.connect(path)) as other:
        other.execute(statement)
        other.commit()


def make_waiting(path: Path, count: int, digits: int = 5) -> None:
    """Make a ledger with so many pending calls, `call00000` and so on, as a run that sent none leaves it."""
    create_ledger(path, now=CREATED)
    with opened(path) as ledger:
        take(ledger, *(call(f"call{number:0{digits}}", line=number + 2) for number in range(count)))
        ledger.finish_run(ExitCode.OK, "{}")


def outcomes(staged: list[Staged]) -> list[Outcome | None]:
    """Return the outcomes alone."""
    return [one.outcome for one in staged]


def bring_to(ledger: Ledger, state: CallState, one: Call) -> None:
    """Take a new call through its life to a state."""
    take(ledger, one)
    if state is PENDING:
        return
    ledger.mark_sending(one.call_id)
    if state is SENDING:
        return
    answer = UNCERTAIN if state is CLOSED else state
    ledger.settle(Receipt(one.call_id, answer, "slug", "Do this.", 418, "CODE"))
    if state is CLOSED:
        ledger.resolve([one.call_id], Decision.CLOSE, note="gone", who="ann")


def row(path: Path, call_id: str, columns: str = "state") -> tuple[object, ...] | None:
    """Read a call's row as another process would, over a connection of its own."""
    with open_reader(path) as reader:
        found = reader._rows(f"SELECT {columns} FROM calls WHERE call_id = ?", (call_id,))
    return found[0] if found else None
