"""The ledger on real files: what is durable when, who may write, and which steps a call may take."""

import itertools
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from conftest import cases, table
from importer.errors import ConfigurationError, LedgerError, TryLaterError, UsageError
from importer.ledger.beside import LOCK, companion
from importer.ledger.ledger import Ledger
from importer.ledger.reader import open_reader
from importer.ledger.schema import MIGRATIONS, configure, connect, create_ledger, schema_version
from importer.ledger.staging import select_in
from importer.ledger.values import Decision, Fate, LedgerInvariantError, Staged
from importer.records import Call, Place, Receipt
from ledgers import (
    CREATED,
    LATER_RUN,
    RUN,
    add,
    bring_to,
    call,
    claimed,
    execute,
    opened,
    outcomes,
    row,
    take,
    ticking,
)
from schemas.vocabulary import CallState, Outcome, State
from states import ACCEPTED, CLOSED, PENDING, REFUSED, SENDING, UNCERTAIN

CASES = cases("ledger")


# --- making and opening ---------------------------------------------------------------------------------
def test_create_refuses_what_exists(path: Path) -> None:
    """A ledger is never made over another one, nor where only a -wal file or a witness is left of one."""
    before = path.read_bytes()
    for name, left in (("ledger.sqlite", ""), ("a.db", "-wal"), ("b.db", ".witness")):
        path.with_name(f"{name}{left}").touch()
        with pytest.raises(ConfigurationError, match=f"{name}{left} already"):
            create_ledger(path.with_name(name), now=CREATED)
    assert path.read_bytes() == before


@table("below", ["l.db", "deep/l.db"])
def test_create_below_a_file(tmp_path: Path, below: str) -> None:
    """A folder that cannot be made or used is an error of the ledger, not a bug."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="Not a directory"):
        create_ledger(tmp_path / "file" / below, now=CREATED)


def test_every_ledger_has_its_own_fingerprint_key(tmp_path: Path) -> None:
    """Two ledgers give the same call different fingerprints."""
    prints = set()
    for name in ("a.db", "b.db"):
        create_ledger(tmp_path / name, now=CREATED)
        with opened(tmp_path / name) as ledger:
            take(ledger, call())
            prints.add(row(tmp_path / name, "a1", "fingerprint"))
    assert len(prints) == 2


UNUSABLE: tuple[Callable[[Path], object], ...] = (
    Path.touch,
    lambda path: path.write_text("a,b,c\n" * 2000),
    lambda path: path.write_bytes(b"S"),
    lambda path: path.write_bytes(b"SQLite format 3\0"),
    lambda path: execute(path, "CREATE TABLE calls (call_id TEXT)"),
    Path.mkdir,
)


@pytest.mark.fault(108)
@table(("make", "opener"), itertools.product(UNUSABLE, (opened, open_reader)))
def test_no_ledger(tmp_path: Path, make: Callable[[Path], object], opener: Callable[[Path], object]) -> None:
    """What is not a ledger is exit 74 and never taken for a new one."""
    path = tmp_path / "l.db"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(LedgerError):
        opener(path)
    assert (path.read_bytes() if path.is_file() else b"") == before


def _filled(path: Path) -> bytes:
    create_ledger(path, now=CREATED)
    with opened(path) as ledger:
        take(ledger, *(call(f"id{number:05}", line=number) for number in range(300)))
    return path.read_bytes()


@pytest.mark.fault(108)
def test_truncated_ledger(tmp_path: Path) -> None:
    """A ledger cut anywhere is exit 74."""
    path = tmp_path / "l.db"
    whole = _filled(path)
    for part in (1, 99, 100, 512, 4095, 4096, 8192, 20480, -4096, -1):
        path.write_bytes(whole[:part])
        with pytest.raises(LedgerError):
            opened(path)


@pytest.mark.fault(108)
def test_flipped_bytes(tmp_path: Path) -> None:
    """Bytes overwritten anywhere either are noticed or leave every call known: none is taken for new."""
    path = tmp_path / "l.db"
    whole = _filled(path)
    dice = random.Random(7)
    for offset in [*range(0, 100, 5), *(dice.randrange(len(whole)) for _ in range(60))]:
        path.write_bytes(
            whole[:offset] + bytes(byte ^ 0xFF for byte in whole[offset : offset + 8]) + whole[offset + 8 :]
        )
        try:
            with opened(path) as ledger:
                known = ledger.fates([f"id{number:05}" for number in range(300)])
        except (LedgerError, ConfigurationError):
            continue
        # A changed byte inside an id or a fate cannot be noticed without checksums; it touches that row alone.
        assert len(known) >= 299, offset


@pytest.mark.fault(37)
def test_newer_schema_is_configuration(path: Path) -> None:
    """A ledger of a newer program is exit 78 for writers and readers."""
    execute(path, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    for opener in (opened, open_reader):
        with pytest.raises(ConfigurationError, match="has schema"):
            opener(path)


def test_migrations_run_once_each(tmp_path: Path) -> None:
    """Migrations not seen yet are applied in order; one that fails leaves the schema where it was."""
    (tmp_path / "m.db").touch()
    connection = connect(tmp_path / "m.db", busy_seconds=0, is_new=True)
    steps = [("CREATE TABLE a (x)",), ("CREATE TABLE b (x)",)]
    configure(connection, tmp_path, steps[:1])
    configure(connection, tmp_path, steps)
    with pytest.raises(sqlite3.Error):
        configure(connection, tmp_path, [*steps, ("CREATE TABLE c (x)", "CREATE TABLE a (x)")])
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema ORDER BY name")]
    version = schema_version(connection)
    connection.close()
    assert (tables, version) == (["a", "b"], 2)


# --- one run per ledger ---------------------------------------------------------------------------------
@pytest.mark.fault(119)
def test_no_way_around_the_lock(path: Path, ledger: Ledger) -> None:
    """Neither a link to the ledger nor deleting the lock file of a live run lets a second run in."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    with pytest.raises(TryLaterError):
        opened(link, LATER_RUN)
    companion(path, LOCK).unlink()
    with pytest.raises(TryLaterError):
        opened(path, LATER_RUN)


@pytest.mark.fault(118)
def test_junk_in_the_lock_file_is_ignored(path: Path) -> None:
    """The text of the lock file decides nothing, and terminal codes in it are not passed on."""
    companion(path, LOCK).write_bytes(b"pid=1 since=2020-01-01 run=old\n\xff\x1b[2J")
    with opened(path) as ledger:
        companion(path, LOCK).write_bytes(b"pid=\x1b[2J since=\xff\n")
        with pytest.raises(TryLaterError) as caught:
            opened(path, LATER_RUN)
        assert ledger.pending_count() == 0
    assert caught.value.message.isprintable()


@pytest.mark.fault(120)
def test_lock_is_not_inherited(path: Path, ledger: Ledger) -> None:
    """A child that outlives the run does not keep the ledger locked."""
    command = [sys.executable, "-c", "input(input())"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
    assert child.stdin is not None
    assert child.stdout is not None
    # Linux wakes the parent before the child's exec has closed what it must not inherit: wait for its own words.
    child.stdin.write(b"up\n")
    child.stdin.flush()
    assert child.stdout.read(2) == b"up"
    ledger.close()
    try:
        opened(path, LATER_RUN).close()
    finally:
        child.communicate(b"\n")


def test_failed_open_gives_the_lock_back(path: Path) -> None:
    """An open that fails leaves the ledger free."""
    with pytest.raises(LedgerError):
        Ledger.open(path, run=replace(RUN, version=None), now=ticking())  # type: ignore[arg-type]
    opened(path).close()


# --- durability and disk --------------------------------------------------------------------------------
def test_a_write_takes_the_lock_first(path: Path, ledger: Ledger) -> None:
    """From the start of a transaction on no other program can write, so no step fails half-way for that."""
    other = sqlite3.connect(path, isolation_level=None, timeout=0)
    with ledger.staging(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.close()


@pytest.mark.fault(103, 107)
def test_full_disk_at_staging(ledger: Ledger) -> None:
    """A full disk is exit 74 by name; nothing of the staging is left, and nothing more is written by this run."""
    ledger._connection.execute("PRAGMA max_page_count = 30")
    with pytest.raises(LedgerError, match="SQLITE_FULL"):
        take(ledger, *(call(f"b{number}") for number in range(3000)))
    assert ledger.pending_count() == 0
    ledger._connection.execute("PRAGMA max_page_count = 100000")
    with pytest.raises(LedgerError, match="failed before"):
        take(ledger, call())


def test_misuse_of_a_staging(path: Path) -> None:
    """No write goes on inside a staging, and none begins while a call is still `sending`."""
    with opened(path) as ledger:
        with pytest.raises(LedgerInvariantError), ledger.staging():
            ledger.hold_until("2026-03-01 05:00:00")
        bring_to(ledger, SENDING, call())
    with opened(path, LATER_RUN) as ledger, pytest.raises(LedgerInvariantError):
        take(ledger, call("b1"))


# --- staging rules --------------------------------------------------------------------------------------
SAME, OTHER = "", "https://r.example/1.wav"


def test_staging_rules(path: Path, ledger: Ledger) -> None:
    """What a known call met again becomes follows the table of design section 7."""
    for number, each in enumerate(CASES["met_again"]):
        before, content, retry, resend, outcome, after, resends = each
        bring_to(ledger, CallState(before), call(f"c{number}"))
        staged = take(ledger, call(f"c{number}", voiceuri=content), retry_refused=retry, resend=resend)
        assert outcomes(staged) == [outcome or None], each
        assert row(path, f"c{number}", "state, resends") == (after, resends), each


@table(
    ("changed", "outcome"),
    [
        ({"state": State.NOANSWER}, Outcome.CONFLICT),
        ({"agent_number": "+12125550199"}, Outcome.CONFLICT),
        ({"customer_number": "+61491570006"}, Outcome.CONFLICT),
        ({"start_time": "2026-02-28 10:00:01"}, Outcome.CONFLICT),
        ({"zohouser": "ZU2"}, Outcome.CONFLICT),
        ({"voiceuri": OTHER}, Outcome.CONFLICT),
        ({"zohouser": "ZU", "voiceuri": "1"}, Outcome.CONFLICT),
        ({"source_id": "other"}, Outcome.ALREADY_ACCEPTED),
        ({"place": Place("other.csv", 9)}, Outcome.ALREADY_ACCEPTED),
    ],
)
def test_fingerprint_covers_what_is_posted(ledger: Ledger, changed: dict[str, object], outcome: Outcome) -> None:
    """Every posted field makes another content; where the row stood does not."""
    if not ledger.fates(["a1"]):
        bring_to(ledger, ACCEPTED, call())
    assert outcomes(take(ledger, replace(call(), **changed))) == [outcome]  # type: ignore[arg-type]


@pytest.mark.fault(150)
@table("call_id", ["'); DROP TABLE calls; --", "%", "a\nb", "", "\0", "\U0001f4de", "A" * 5000])
def test_odd_ids_are_data(ledger: Ledger, call_id: str) -> None:
    """An id is never anything but data."""
    bring_to(ledger, ACCEPTED, call(call_id))
    assert outcomes(take(ledger, call(call_id), call("other"))) == [Outcome.ALREADY_ACCEPTED, None]
    assert ledger.fates([call_id])[call_id].state is ACCEPTED


def test_lists_of_any_length(ledger: Ledger) -> None:
    """A lookup by any number of ids finds the known ones, each once."""
    take(ledger, call("n0"), call("x"))
    for count in (0, 1, 2, 30, 31, 29_999, 30_000, 30_001):
        ids = [f"n{number}" for number in range(count)]
        found = select_in(ledger._connection, "SELECT call_id FROM calls WHERE call_id", ids)
        assert list(found) == [("n0",)] * bool(count), count


# --- delivery -------------------------------------------------------------------------------------------


def test_claim_reads_only_its_batch(ledger: Ledger) -> None:
    """Lining up goes through the index of open calls, and a claim takes each call by its place."""
    statements: list[str] = []
    ledger._connection.set_trace_callback(statements.append)
    claimed(ledger, order="newest")
    ledger._connection.set_trace_callback(None)
    plans = [
        [row[3] for row in ledger._connection.execute(f"EXPLAIN QUERY PLAN {each}")]
        for each in statements
        if "open_calls" in each
    ]
    open_calls = "SEARCH calls USING COVERING INDEX calls_open (state=? AND seq>?)"
    assert open_calls in plans[0]
    assert [step for step in plans[1] if "SCAN" in step or "TEMP B-TREE" in step] == []


ANSWERS = [ACCEPTED, REFUSED, UNCERTAIN, PENDING]


@table("answer", ANSWERS)
def test_settle(path: Path, ledger: Ledger, answer: CallState) -> None:
    """An answer is kept with its words; attempts and time are those of `mark_sending`."""
    bring_to(ledger, SENDING, call(answer))
    ledger.settle(Receipt(answer, answer, "slug", "Do this.", 429, "CODE", attempts=77))
    sent = row(path, answer, "attempts, sent_at")
    assert sent is not None
    assert ledger.fates([answer]) == {answer: Fate("slug", "Do this.", 429, "CODE", 1, str(sent[1]), answer)}


CANARIES = ("+4477009{}", "+1212555{}", "ZUc{}", "example/c{}.wav")


@pytest.mark.fault(153)
def test_scrubbed_bytes_are_gone(path: Path) -> None:
    """After the close no byte of a settled call's payload is in any file of the ledger, at any page split."""
    dice = random.Random(11)
    numbers = [f"{number:04}" for number in range(600)]

    def staged(number: str) -> Call:
        customer, agent, user, recording = (shape.format(number) for shape in CANARIES)
        long = replace(call(f"c{number}"), zohouser=user + "z" * dice.randrange(90), customer_number=customer)
        return replace(long, agent_number=agent, voiceuri=f"https://r.{recording}")

    with opened(path) as ledger:
        take(ledger, *map(staged, numbers))
        dice.shuffle(numbers)
        for number in numbers[60:]:
            ledger.mark_sending(f"c{number}")
            ledger.settle(Receipt(f"c{number}", dice.choice([ACCEPTED, REFUSED])))
    data = b"".join(file.read_bytes() for file in path.parent.iterdir() if file.suffix != ".lock")
    for place, number in enumerate(numbers):
        assert {shape.format(number).encode() in data for shape in CANARIES} == {place < 60}, number


@pytest.mark.fault(153)
def test_close_empties_the_wal_beside_a_reader(path: Path, ledger: Ledger) -> None:
    """A reader that stays open does not keep scrubbed payloads alive in the -wal file."""
    with open_reader(path) as reader:
        bring_to(ledger, ACCEPTED, call())
        assert reader.pending_count() == 0
        ledger.close()
        assert path.with_name(path.name + "-wal").stat().st_size == 0


def test_pages_of_payloads_are_used_again(path: Path) -> None:
    """A ledger grows by the fate of a call, not by its payload."""
    sizes = []
    for number in range(3):
        with opened(path, replace(RUN, run_id=f"r{number}")) as ledger:
            ids = [f"c{number}{one:04}" for one in range(400)]
            take(ledger, *(call(one, voiceuri=OTHER) for one in ids))
            for one in ids:
                ledger.mark_sending(one)
                ledger.settle(Receipt(one, ACCEPTED, http_status=200, code="SUCCESS"))
        sizes.append(path.stat().st_size)
    assert (sizes[2] - sizes[1]) / 400 < 120


# --- recovery, people, upkeep ---------------------------------------------------------------------------
@table(("decision", "state"), [(Decision.SENT, ACCEPTED), (Decision.NOT_SENT, PENDING), (Decision.CLOSE, CLOSED)])
def test_resolve(ledger: Ledger, decision: Decision, state: CallState) -> None:
    """A person's decision moves the calls and is kept with note, name and time."""
    ids = [f"a-{decision}", f"b-{decision}"]
    for one in ids:
        bring_to(ledger, UNCERTAIN, call(one))
    ledger.resolve([*ids, ids[0]], decision, note="asked Zoho", who="ann")
    assert [fate.state for fate in ledger.fates(ids).values()] == [state, state]
    kept = ledger._rows("SELECT call_id, decision, note, who, decided_at <> '' FROM decisions")
    assert kept[-2:] == [(one, decision, "asked Zoho", "ann", 1) for one in ids]
    assert len(kept) % 2 == 0


@table(("changed", "is_other"), CASES["used_again"])
def test_id_used_again(tmp_path: Path, changed: dict[str, str], is_other: bool) -> None:
    """A call that waits is neither replaced nor closed by one of its id to another customer, days apart."""
    create_ledger(tmp_path / "ledger.sqlite", now=CREATED)
    other = replace(call(), **changed)  # type: ignore[arg-type]
    with opened(tmp_path / "ledger.sqlite") as ledger:
        take(ledger, call())
        assert outcomes(take(ledger, other)) == [Outcome.CONFLICT if is_other else None]
        assert [one.call for one in claimed(ledger)] == [call() if is_other else other]
        take(ledger, call())
        with ledger.staging() as stage:
            stage.show_attended([("a1", other.customer_number, other.start_time)])
        assert ledger.fates(["a1"])["a1"].state == (PENDING if is_other else CLOSED)


# --- attended after all ---------------------------------------------------------------------------------
def show_attended(ledger: Ledger, *call_ids: str) -> list[Staged]:
    """Have the input of a run show calls attended."""
    with ledger.staging() as stage:
        return stage.show_attended([(call_id, "", "") for call_id in call_ids])


@table(("before", "outcome", "reason", "comes_back", "after"), CASES["attended"])
def test_shown_attended(
    path: Path, ledger: Ledger, before: str, outcome: str, reason: str, comes_back: bool, after: str
) -> None:
    """What Zoho has is a conflict, what it may have is uncertain, the rest is closed; none of it is sent again."""
    before, after = CallState(before), CallState(after)
    bring_to(ledger, before, call(before))
    for number in range(2 if after is before else 1):
        with open_reader(path) as reader, reader.dry_staging(CREATED) as stage:
            (foretold,) = stage.show_attended([(before, "", "")])
        assert (row(path, before, "state, attended_at = ''"), ledger.held([before])) == (
            (before, number == 0),
            {before: True},
        )
        (shown,) = show_attended(ledger, before)
        assert foretold == shown._replace(outcome=shown.outcome or Outcome.SKIPPED)
        assert (shown.outcome, shown.receipt.reason) == (outcome or None, reason)
        assert shown.call == (call(before) if comes_back else None)
        assert row(path, before) == (after,)
    assert (before in ledger.attended_since(), ledger.held([before])) == (
        after is ACCEPTED,
        {before: after is not CLOSED},
    )
    assert len(ledger._rows("SELECT 1 FROM payloads")) == (after is UNCERTAIN)
    for content in (SAME, OTHER):
        take(ledger, call(before, voiceuri=content), retry_refused=True, resend=True)
        with ledger.staging() as staging:
            assert staging.reopen_uncertain() == 0
        assert claimed(ledger) == []
    if before is UNCERTAIN:
        assert ledger.resolve([before], Decision.NOT_SENT, note="", who="ann") == [before]
        assert (ledger.fates([before])[before].state, claimed(ledger)) == (CLOSED, [])


def test_shown_attended_in_a_staging_that_failed(path: Path, ledger: Ledger) -> None:
    """A staging that is given up, by Ctrl-C too, leaves no call of its own, no mark and no call closed."""
    bring_to(ledger, ACCEPTED, call())
    take(ledger, call("b1"))
    with pytest.raises(KeyboardInterrupt), ledger.staging() as stage:
        add(stage, call("c1"))
        stage.show_attended([("a1", "", ""), ("b1", "", "")])
        raise KeyboardInterrupt
    assert (ledger.attended_since(), row(path, "b1")) == ([], (PENDING,))
    assert [one.call for one in claimed(ledger)] == [call("b1")]


def test_purge_keeps_reminders(path: Path, ledger: Ledger) -> None:
    """What a person has to correct in Zoho outlasts a purge; what was only closed as attended does not."""
    bring_to(ledger, ACCEPTED, call())
    take(ledger, call("b1"))
    show_attended(ledger, "a1", "b1")
    assert ledger.purge("2027-01-01 00:00:00")[0] == 1
    assert (ledger.attended_since(), row(path, "b1")) == (["a1"], None)
    ledger.resolve(["a1"], Decision.CLOSE, note="", who="ann")
    assert ledger.purge("2027-01-01 00:00:00")[0] == 1


def test_purge_by_a_clock_that_is_ahead(ledger: Ledger) -> None:
    """A purge by a clock that is years ahead keeps no call to come from being sent."""
    bring_to(ledger, ACCEPTED, call())
    sent_at = ledger.fates(["a1"])["a1"].sent_at
    assert ledger.purge("2036-03-01 00:00:00")[0] == 1
    later = replace(call("b1"), start_time="2026-03-02 00:00:00")
    assert outcomes(take(ledger, call(), later)) == [Outcome.REJECTED, None]
    assert ledger._kept("horizon") == sent_at


def test_purge_of_what_was_sent_by_a_clock_that_was_behind(path: Path) -> None:
    """A call that was sent while the clock was years behind is not new after a purge."""
    with opened(path) as ledger:
        take(ledger, call())
    with Ledger.open(path, run=LATER_RUN, now=lambda: "2020-01-01 00:00:00") as ledger:
        ledger.mark_sending("a1")
        ledger.settle(Receipt("a1", ACCEPTED))
        assert ledger.fates(["a1"])["a1"].sent_at == "2026-02-28 09:55:00"
    with opened(path, replace(RUN, run_id="run3")) as ledger:
        assert ledger.purge("2025-03-01 00:00:00")[0] == 0
        assert outcomes(take(ledger, call())) == [Outcome.ALREADY_ACCEPTED]


def test_how_long_calls_wait(ledger: Ledger) -> None:
    """Uncertain calls are counted with when the oldest was sent; a pending one met again keeps its age."""
    assert (ledger.uncertain_since(), ledger.oldest_pending()) == ((0, ""), None)
    take(ledger, call("p1"))
    staged_at = ledger.oldest_pending()
    take(ledger, call("p1"), call("p2"))
    assert staged_at is not None
    assert ledger.oldest_pending() == staged_at
    bring_to(ledger, UNCERTAIN, call())
    bring_to(ledger, UNCERTAIN, call("b1"))
    assert ledger.uncertain_since() == (2, ledger.fates(["a1"])["a1"].sent_at)


# --- the whole against a model --------------------------------------------------------------------------
IDS = st.sampled_from(["a", "b", "c", "d"])
CONTENTS = st.sampled_from([SAME, OTHER])


@dataclass
class Kept:
    """What the model remembers of one call."""

    state: CallState
    content: str
    run: int
    seq: int
    attempts: int = 0
    resends: int = 0
    attended: bool = False
    corrected: bool = False


def expected(kept: Kept | None, content: str, retry: bool, resend: bool) -> Outcome | None:
    """Return what design section 7 says of a call met again; None when it is pending after."""
    if kept is None or kept.state is PENDING:
        return None
    if kept.content != content:
        return None if kept.state is REFUSED else Outcome.CONFLICT
    if (kept.state is REFUSED and retry) or (kept.state is UNCERTAIN and resend and not kept.attended):
        return None
    return {
        ACCEPTED: Outcome.ALREADY_ACCEPTED,
        REFUSED: Outcome.REFUSED,
        UNCERTAIN: Outcome.UNCERTAIN,
        CLOSED: Outcome.SKIPPED,
    }[kept.state]


class LedgerMachine(RuleBasedStateMachine):
    """A ledger and a dict take the same steps and must agree after each."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "l.db"
        create_ledger(self.path, now=CREATED)
        self.run = 1
        self.seq = itertools.count()
        self.model: dict[str, Kept] = {}
        self.ledger = opened(self.path, replace(RUN, run_id="run1"))

    def teardown(self) -> None:
        """Throw the ledger away."""
        self.ledger.close()
        shutil.rmtree(self.folder)

    def sending(self) -> list[str]:
        """Return the calls in flight."""
        return [one for one, kept in self.model.items() if kept.state is SENDING]

    @precondition(lambda self: not self.sending())
    @rule(
        calls=st.lists(st.tuples(IDS, CONTENTS), max_size=6),
        retry=st.booleans(),
        resend=st.booleans(),
        keep=st.booleans(),
    )
    def stage(self, calls: list[tuple[str, str]], retry: bool, resend: bool, keep: bool) -> None:
        """Stage calls, and sometimes give the staging up."""
        wanted, after = self.staged(calls, retry, resend)
        given = []
        try:
            with self.ledger.staging() as stage:
                for start in range(0, len(calls), 2):
                    part = [call(one, voiceuri=content) for one, content in calls[start : start + 2]]
                    given += stage.add(part, retry_refused=retry, resend_uncertain=resend)
                if not keep:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        else:
            self.model = after
        assert outcomes(given) == wanted

    def staged(
        self, calls: list[tuple[str, str]], retry: bool, resend: bool
    ) -> tuple[list[Outcome | None], dict[str, Kept]]:
        """Say what a staging must answer and leave."""
        model = {one: replace(kept) for one, kept in self.model.items()}
        met: dict[str, str] = {}
        wanted: list[Outcome | None] = []
        for one, content in calls:
            if one in met:
                wanted.append(Outcome.DUPLICATE if met[one] == content else Outcome.CONFLICT)
                continue
            met[one] = content
            kept = model.get(one)
            wanted.append(expected(kept, content, retry, resend))
            if wanted[-1] is None:
                model[one] = self.made_pending(kept, content)
        return wanted, model

    def made_pending(self, kept: Kept | None, content: str) -> Kept:
        """Say what a call is once it is to be sent."""
        if kept is None:
            return Kept(PENDING, content, self.run, next(self.seq))
        seq = next(self.seq) if kept.state is REFUSED else kept.seq
        resends = kept.resends + (kept.state is UNCERTAIN)
        return Kept(PENDING, content, self.run, seq, kept.attempts, resends)

    @precondition(lambda self: not self.sending())
    @rule(one=IDS)
    def show_attended(self, one: str) -> None:
        """Have an export show a call attended."""
        kept = self.model.get(one)
        is_held = kept is not None and kept.state is not CLOSED and not kept.corrected
        assert self.ledger.held([one]) == ({} if kept is None else {one: is_held})
        if kept is None or not is_held:
            return
        wanted = {PENDING: None, REFUSED: Outcome.SKIPPED, ACCEPTED: Outcome.CONFLICT}
        (shown,) = show_attended(self.ledger, one)
        assert shown.outcome == wanted.get(kept.state, Outcome.UNCERTAIN)
        kept.attended = True
        if kept.state in (PENDING, REFUSED):
            kept.state = CLOSED

    @rule(one=IDS)
    def mark(self, one: str) -> None:
        """Begin a request, which only a pending call may."""
        kept = self.model.get(one)
        if kept is None or kept.state is not PENDING:
            with pytest.raises(LedgerInvariantError):
                self.ledger.mark_sending(one)
            return
        self.ledger.mark_sending(one)
        kept.state = SENDING
        kept.attempts += 1

    @rule(one=IDS, answer=st.sampled_from(ANSWERS))
    def settle(self, one: str, answer: CallState) -> None:
        """Record an answer, which only a call in flight may have."""
        kept = self.model.get(one)
        if kept is None or kept.state is not SENDING:
            with pytest.raises(LedgerInvariantError):
                self.ledger.settle(Receipt(one, answer))
            return
        self.ledger.settle(Receipt(one, answer))
        kept.state = answer

    @rule(one=IDS, decision=st.sampled_from(Decision))
    def resolve(self, one: str, decision: Decision) -> None:
        """Let a person decide, which only a call that is uncertain or was attended since may need."""
        kept = self.model.get(one)
        if kept and kept.state is ACCEPTED and kept.attended and not kept.corrected and decision == Decision.CLOSE:
            self.ledger.resolve([one], decision, note="n", who="w")
            kept.corrected = True
            return
        if kept is None or kept.state is not UNCERTAIN:
            with pytest.raises(UsageError):
                self.ledger.resolve([one], decision, note="n", who="w")
            return
        self.ledger.resolve([one], decision, note="n", who="w")
        not_sent = CLOSED if kept.attended else PENDING
        kept.state = {Decision.SENT: ACCEPTED, Decision.NOT_SENT: not_sent, Decision.CLOSE: CLOSED}[decision]

    @rule()
    def next_run(self) -> None:
        """End the run in the middle of whatever it does, and let the next one recover."""
        self.ledger.close()
        self.run += 1
        self.ledger = opened(self.path, replace(RUN, run_id=f"run{self.run}"))
        assert self.ledger.recover() == len(self.sending())
        for one in self.sending():
            self.model[one].state = UNCERTAIN

    @invariant()
    def same_rows(self) -> None:
        """Ledger and model hold the same calls."""
        rows = self.ledger._rows("SELECT call_id, state, attempts, resends FROM calls")
        assert sorted(rows) == sorted(
            (one, kept.state, kept.attempts, kept.resends) for one, kept in self.model.items()
        )

    @invariant()
    def same_queue(self) -> None:
        """Pending calls are claimed in the same order and with the same content."""
        pending = sorted((kept.seq, one, kept) for one, kept in self.model.items() if kept.state is PENDING)
        claims = [(got.call.call_id, got.call.voiceuri, got.own_run) for got in claimed(self.ledger)]
        assert claims == [(one, kept.content, kept.run == self.run) for _, one, kept in pending]

    @invariant()
    def payloads_of_open_calls_only(self) -> None:
        """Exactly the open calls have a payload."""
        (count,) = self.ledger._rows("SELECT count(*) FROM payloads")[0]
        joined = self.ledger._rows("SELECT call_id FROM open_calls ORDER BY call_id")
        open_ids = sorted(one for one, kept in self.model.items() if kept.state in (PENDING, SENDING, UNCERTAIN))
        assert (count, [one for (one,) in joined]) == (len(open_ids), open_ids)


QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much]


@pytest.mark.slow
class TestLedgerMachine(LedgerMachine.TestCase):  # type: ignore[valid-type, misc]
    """No sequence of steps makes ledger and model differ."""

    settings = settings(stateful_step_count=50, deadline=None, suppress_health_check=QUIET)
