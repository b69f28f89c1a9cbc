"""A ledger restored from a backup, or robbed of its -wal file, sends nothing twice."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import cases
from importer.errors import ConfigurationError, LedgerError
from importer.ledger.beside import COMMITS_PER_TURN, FORGOTTEN, GENERATION, companion
from importer.ledger.ledger import Ledger
from importer.ledger.reader import open_reader
from importer.ledger.schema import create_ledger
from importer.ledger.staging import AHEAD_SECONDS
from importer.ledger.values import Decision, LedgerInvariantError, ReportedCall, Restored
from importer.prepare.calls import FUTURE_SECONDS
from importer.records import Call, Receipt
from ledgers import (
    AGENT,
    CREATED,
    CUSTOMER,
    LATER_RUN,
    RUN,
    bring_to,
    call,
    claimed,
    opened,
    outcomes,
    take,
    ticking,
)
from schemas.vocabulary import CallState, Outcome
from states import ACCEPTED, CLOSED, PENDING, REFUSED, UNCERTAIN

CASES = cases("ledger_restore")

RESTORE_RUN = replace(RUN, run_id="restore")
AFTERWARDS = "2026-04-01 00:00:00"


def restored(path: Path) -> Ledger:
    """Open a ledger for `accept_restore`."""
    return Ledger.open(path, run=RESTORE_RUN, now=ticking(), restored=True)


def copied(path: Path) -> Path:
    """Make a backup of a ledger."""
    target = path.with_name("backup")
    with open_reader(path) as reader:
        reader.backup(target)
    return target


def told(call_id: str, accepted: bool, sent_at: str = "2026-03-01 02:00:00") -> ReportedCall:
    """Return what a results file tells of a call."""
    return ReportedCall(call_id, ACCEPTED if accepted else UNCERTAIN, sent_at, None if accepted else call(call_id))


def sent_and_died(path: Path) -> Path:
    """Back up while a run goes on that sends a call and dies: no further generation is counted."""
    ledger = opened(path)
    take(ledger, call())
    backup = copied(path)
    ledger.mark_sending("a1")
    ledger.settle(Receipt("a1", ACCEPTED))
    ledger._connection.close()
    ledger._lock.release()
    return backup


def copied_mid_way(path: Path) -> Path:
    """Copy the plain file while a run goes on."""
    with opened(path):
        return Path(shutil.copy(path, path.with_name("copy")))


def copied_before_a_run(path: Path) -> Path:
    """Back up, then do a run that sends nothing."""
    backup = copied(path)
    opened(path).close()
    return backup


@pytest.mark.fault(110)
@pytest.mark.parametrize("way", [copied, copied_before_a_run, sent_and_died, copied_mid_way])
def test_backup_put_back(path: Path, way: Callable[[Path], Path]) -> None:
    """A copy in the place of the ledger is exit 78 naming both, even when nothing was sent in between."""
    shutil.copy(way(path), path)
    with pytest.raises(ConfigurationError, match="older than") as caught:
        opened(path, LATER_RUN)
    assert all(str(each) in caught.value.message for each in (path, companion(path, GENERATION)))
    assert "accept-restore" in caught.value.hint


@pytest.mark.fault(109)
@pytest.mark.parametrize("calls", [1, COMMITS_PER_TURN // 2 + 3, COMMITS_PER_TURN])
def test_lost_wal_file(path: Path, calls: int) -> None:
    """A -wal file deleted after a crash is noticed, however much of it had been moved into the ledger before."""
    ledger = opened(path)
    take(ledger, *(call(f"id{number:04}") for number in range(calls)))
    for number in range(calls):
        ledger.mark_sending(f"id{number:04}")
        ledger.settle(Receipt(f"id{number:04}", ACCEPTED))
    crashed = path.with_name("crashed")
    for each in (path, companion(path, GENERATION)):
        shutil.copy(each, crashed.with_name(each.name.replace(path.name, "crashed")))
    ledger.close()
    with pytest.raises(ConfigurationError, match="-wal file was lost"):
        opened(crashed)


def test_crash_before_the_witness_is_written(path: Path) -> None:
    """A ledger ahead of its witness is a crash in between, and locks nobody out."""
    before = companion(path, GENERATION).read_bytes()
    opened(path).close()
    companion(path, GENERATION).write_bytes(before)
    opened(path, LATER_RUN).close()


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (Path.unlink, "missing"),
        (lambda file: file.write_bytes(b""), "damaged"),
        (lambda file: file.write_bytes(b"generation=-1\n"), "damaged"),
        (lambda file: file.write_bytes(b"\0" * 99), "damaged"),
    ],
)
def test_spoilt_witness(path: Path, spoil: Callable[[Path], object], match: str) -> None:
    """Without a witness nobody knows if the ledger is whole: exit 78 until it is accepted."""
    opened(path).close()
    spoil(companion(path, GENERATION))
    with pytest.raises(ConfigurationError, match=match):
        opened(path, LATER_RUN)
    with restored(path) as ledger:
        ledger.accept_restore([], complete=True)
    opened(path, LATER_RUN).close()


@pytest.mark.parametrize(("before", "accepted", "complete", "state", "reason"), CASES["accepting"])
def test_accepting(path: Path, before: str, accepted: bool | str, complete: bool, state: str, reason: str) -> None:
    """What the results tell, and what they leave in doubt, decides where each call of a backup stands."""
    with opened(path) as ledger:
        if before:
            bring_to(ledger, CallState(before), call())
        backup = copied(path)
    shutil.copy(backup, path)
    with restored(path) as ledger:
        ledger.accept_restore([told("a1", accepted)] if isinstance(accepted, bool) else [], complete=complete)
        fate = ledger.fates(["a1"]).get("a1")
        assert (fate.state if fate else "", fate.reason if fate else "") == (state, reason)
        if state == UNCERTAIN:
            assert [one.customer_number for one, _, _ in ledger.uncertain_calls(9)] == [call().customer_number]
    with opened(path, LATER_RUN) as ledger:
        assert [one.call.call_id for one in claimed(ledger)] == (["a1"] if state == PENDING else [])


def test_doubt_about_unknown_calls(path: Path) -> None:
    """Without all results unknown and mended calls from before the restore are held, later ones are sent."""
    assert AHEAD_SECONDS == FUTURE_SECONDS
    with opened(path) as ledger:
        bring_to(ledger, REFUSED, call())
    shutil.copy(copied(path), path)
    old = replace(call("old"), start_time="2026-02-28 10:00:00")
    new = replace(call("new"), start_time=AFTERWARDS)
    with restored(path) as ledger:
        counts = ledger.accept_restore([], complete=False)
        assert counts.doubt_before is not None
        assert counts.doubt_before < AFTERWARDS
        held, sent = take(ledger, old, new)
        assert (held.outcome, held.receipt.reason, sent.outcome) == (Outcome.UNCERTAIN, "restored", None)
        assert "resolve" in held.receipt.hint
        ledger.resolve(["old"], Decision.NOT_SENT, note="looked", who="ann")
        assert outcomes(take(ledger, old)) == [None]
        mended = call(voiceuri="https://r.example/")
        assert outcomes([*take(ledger, call()), *take(ledger, mended)]) == [Outcome.REFUSED, Outcome.UNCERTAIN]
        assert ledger.counts()[UNCERTAIN] == 1
        assert outcomes(take(ledger, mended, resend=True)) == [None]


def test_doubt_outlasts_another_restore(path: Path) -> None:
    """Complete results of a second gap say nothing about the first."""
    for complete in (False, True):
        shutil.copy(copied(path), path)
        with restored(path) as ledger:
            doubt = ledger.accept_restore([], complete=complete).doubt_before
        path.with_name("backup").unlink()
    assert doubt is not None


@pytest.mark.fault(155)
@pytest.mark.parametrize("since", ["forgotten", "sent uncertain, then forgotten", "reopened, then forgotten"])
@pytest.mark.parametrize("before", [None, PENDING, UNCERTAIN, REFUSED])
@pytest.mark.parametrize("is_told", [True, False])
def test_forgotten_stays_forgotten(path: Path, before: CallState | None, since: str, is_told: bool) -> None:
    """A call whose number was forgotten after the backup is closed or unknown, and no export opens it again."""
    mended = call(voiceuri="https://r.example/")
    with opened(path) as ledger:
        if before is not None:
            bring_to(ledger, before, call())
        backup = copied(path)
        if since != "forgotten":
            take(ledger, mended, resend=True)
        if since.startswith("sent") and ledger.counts()[PENDING]:
            ledger.mark_sending("a1")
            ledger.settle(Receipt("a1", UNCERTAIN))
        sent_at = fate.sent_at if (fate := ledger.fates(["a1"]).get("a1")) else ""
        ledger.forget(call().customer_number, who="ann")
    shutil.copy(backup, path)
    with Ledger.open(path, run=RESTORE_RUN, now=lambda: AFTERWARDS, restored=True) as ledger:
        counts = ledger.accept_restore([told("a1", False, sent_at)] if is_told else [], complete=is_told)
        assert (counts.uncertain, ledger.uncertain_calls(9)) == (0, [])
        assert ledger._rows("SELECT * FROM payloads") == []
        for one in (call(), mended):
            (staged,) = take(ledger, one)
            assert staged.outcome in (Outcome.SKIPPED, Outcome.REFUSED, Outcome.CONFLICT)
        assert ledger._rows("SELECT * FROM payloads") == []


def test_later_calls_of_a_forgotten_number(path: Path) -> None:
    """What a number that was forgotten has after that is sent: it is in the backup, or new."""
    with opened(path) as ledger:
        ledger.forget(call().customer_number, who="ann")
        take(ledger, call())
        backup = copied(path)
    shutil.copy(backup, path)
    with restored(path) as ledger:
        assert ledger.accept_restore([], complete=True) == Restored(0, 0, 0, None, 0)
        assert outcomes(take(ledger, replace(call("b1"), start_time=AFTERWARDS))) == [None]
        assert [one.call.call_id for one in claimed(ledger)] == ["a1", "b1"]


def test_forgotten_while_the_clock_was_behind(path: Path) -> None:
    """A call staged by a clock that was ahead is forgotten with the others."""
    with Ledger.open(path, run=RUN, now=lambda: AFTERWARDS) as ledger:
        take(ledger, call())
        backup = copied(path)
    with opened(path, LATER_RUN) as ledger:
        ledger.forget(call().customer_number, who="ann")
    shutil.copy(backup, path)
    with restored(path) as ledger:
        assert ledger.accept_restore([], complete=True).forgotten == 1


def test_list_of_forgotten_numbers(path: Path) -> None:
    """The list is private, has one line for each number and call, and no number; a damaged one is exit 78."""
    kept = companion(path, FORGOTTEN)
    with opened(path) as ledger:
        bring_to(ledger, CLOSED, call())
        for number in (call().customer_number, call().customer_number, call().agent_number):
            ledger.forget(number, who="ann")
    lines = kept.read_text().splitlines()
    assert (lines[0], len(lines), kept.stat().st_mode & 0o777) == ("a1 closed", 3, 0o600)
    assert not any(number.strip("+") in line for line in lines for number in (AGENT, CUSTOMER))
    kept.write_text(lines[1][:-1])
    with opened(path) as ledger, pytest.raises(ConfigurationError, match="damaged"):
        ledger.forget(CUSTOMER, who="ann")
    shutil.copy(copied(path), path)
    with restored(path) as ledger, pytest.raises(ConfigurationError, match="damaged"):
        ledger.accept_restore([], complete=True)


def say(ledger: Ledger, word: Decision | str) -> None:
    """Have a person say something of the call ``a1``."""
    if word == "reopen":
        ledger.reopen(["a1"])
    else:
        ledger.resolve(["a1"], Decision(word), note="", who="ann")


@pytest.mark.fault(155)
@pytest.mark.parametrize(("before", "since", "complete", "state", "reason"), CASES["said"])
def test_what_was_said_since(
    path: Path, before: list[str], since: list[str], complete: bool, state: str, reason: str
) -> None:
    """What `resolve` settled after the backup stays so, what it took back is uncertain, and none of it is sent."""
    backup = None
    with opened(path) as ledger:
        if before:
            bring_to(ledger, UNCERTAIN, call())
        for word in before[1:]:
            say(ledger, word)
        backup = copied(path)
        if not before:
            bring_to(ledger, UNCERTAIN, call())
        for word in since:
            say(ledger, word)
    shutil.copy(backup, path)
    with restored(path) as ledger:
        ledger.accept_restore([], complete=complete)
        fate = ledger.fates(["a1"])["a1"]
        assert (fate.state, fate.reason) == (state, reason)
        assert len(ledger._rows("SELECT * FROM payloads")) == (state in (PENDING, UNCERTAIN))
        assert ledger.held(["a1"]) == {"a1": state != CLOSED}
    with opened(path, LATER_RUN) as ledger:
        assert [one.call.call_id for one in claimed(ledger)] == (["a1"] if state == PENDING else [])


def test_settled_since_outranks_doubt(path: Path) -> None:
    """A call that results show perhaps sent, and a person settled, is settled; one shown accepted is accepted."""
    with opened(path) as ledger:
        for one in ("a1", "b1", "c1"):
            bring_to(ledger, UNCERTAIN, call(one))
        backup = copied(path)
        ledger.resolve(["a1"], Decision.SENT, note="", who="ann")
        ledger.resolve(["b1", "c1"], Decision.CLOSE, note="", who="ann")
    shutil.copy(backup, path)
    with restored(path) as ledger:
        told_since = [told("a1", False), told("b1", False), told("c1", True), told("d1", False)]
        assert ledger.accept_restore(told_since, complete=True) == Restored(2, 0, 1, None, 0, closed=1)
        assert [fate.state for fate in ledger.fates(["a1", "b1", "c1"]).values()] == [ACCEPTED, CLOSED, ACCEPTED]


def test_reminder_ended_since(path: Path) -> None:
    """A call corrected in Zoho after the backup, and said to be, is not reminded of again."""
    with opened(path) as ledger:
        bring_to(ledger, ACCEPTED, call())
        with ledger.staging() as stage:
            stage.show_attended([("a1", "", "")])
        backup = copied(path)
        ledger.resolve(["a1"], Decision.CLOSE, note="", who="ann")
    for _ in range(2):
        shutil.copy(backup, path)
        with restored(path) as ledger:
            assert ledger.accept_restore([], complete=True) == Restored(0, 0, 0, None)
            assert (ledger.attended_since(), ledger.held(["a1"])) == ([], {"a1": False})
            assert ledger._rows("SELECT decision, who FROM decisions") == [("close", "accept-restore")]


def test_word_that_the_disk_does_not_take(path: Path) -> None:
    """A decision that cannot be kept beside the ledger is not taken, and says so."""
    with opened(path) as ledger:
        bring_to(ledger, UNCERTAIN, call())
        companion(path, f"{FORGOTTEN}.new").mkdir()
        with pytest.raises(LedgerError, match="forgotten"):
            ledger.resolve(["a1"], Decision.SENT, note="", who="ann")
    companion(path, f"{FORGOTTEN}.new").rmdir()
    with opened(path, LATER_RUN) as ledger:
        assert ledger.fates(["a1"])["a1"].state is UNCERTAIN


def test_crash_while_accepting(path: Path) -> None:
    """Until it is accepted a restored ledger sends nothing; an error while results are read leaves it so."""
    with opened(path) as ledger:
        take(ledger, call())
    shutil.copy(copied(path), path)

    def broken() -> list[ReportedCall]:
        raise LedgerError("gone")

    with restored(path) as ledger:
        with pytest.raises(LedgerInvariantError):
            ledger.mark_sending("a1")
        with pytest.raises(LedgerError):
            ledger.accept_restore((broken() for _ in range(1)), complete=False)  # type: ignore[misc]
    with pytest.raises(ConfigurationError):
        opened(path, LATER_RUN)
    with restored(path) as ledger:
        assert ledger.counts()[PENDING] == 1


IDS = ("a1", "a2", "a3", "a4")
STEPS = st.lists(
    st.tuples(st.sampled_from(IDS), st.sampled_from(["take", "mended", "accept", "refuse", "lose", "begin"]))
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=STEPS, since=STEPS, again=STEPS, complete=st.booleans())
def test_nothing_is_sent_twice_after_a_restore(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[str, str]],
    since: list[tuple[str, str]],
    again: list[tuple[str, str]],
    complete: bool,
) -> None:
    """Whatever happened before and after the backup, no call that the API may hold is sent once more."""
    path = tmp_path_factory.mktemp("restore") / "ledger.sqlite"
    create_ledger(path, now=CREATED)
    held: set[str] = set()
    with opened(path) as ledger:
        _drive(ledger, before, held)
    backup = copied(path)
    with opened(path, replace(RUN, run_id="since")) as ledger:
        ledger.recover()
        _drive(ledger, since, held)
    with opened(path, replace(RUN, run_id="results")) as ledger:
        ledger.recover()
        fates = ledger.fates(IDS)
    shutil.copy(backup, path)
    results = [
        told(one, fate.state is ACCEPTED) for one, fate in fates.items() if fate.state in (ACCEPTED, UNCERTAIN)
    ]
    with restored(path) as ledger:
        ledger.accept_restore(results if complete else results[: len(results) // 2], complete=complete)
    with opened(path, LATER_RUN) as ledger:
        _drive(ledger, again, held)


def _drive(ledger: Ledger, steps: list[tuple[str, str]], held: set[str]) -> None:
    """Do what a run may do with calls; each one sent must not be held by the API already."""
    for call_id, step in steps:
        one: Call = call(call_id, voiceuri="https://r.example/" if step == "mended" else "")
        if step in ("take", "mended"):
            take(ledger, one)
            continue
        fate = ledger.fates([call_id]).get(call_id)
        if fate is None or fate.state is not PENDING:
            continue
        assert call_id not in held
        ledger.mark_sending(call_id)
        if step == "refuse":
            ledger.settle(Receipt(call_id, REFUSED))
            continue
        held.add(call_id)
        if step != "begin":
            ledger.settle(Receipt(call_id, ACCEPTED if step == "accept" else UNCERTAIN))
            continue
        return
