"""Kill -9 at random moments of every command that writes, in any order: imports, decisions, upkeep, restores.

CDR_IMPORTER_KILLS says how often something is killed in all worlds together; it is 90 times otherwise. A change of
the ledger, of runs or of restores is worth 2,000 once.
"""

import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from conftest import call_row, read_results
from importer.errors import ExitCode
from importer.ledger.reader import open_reader
from judge.history import ledger_of, looking_on
from judge.world import ENDED_WITH_RESULTS, At, ForkServer, Started, World
from misbehaviour import ORDINARY, USUAL, Fault, Simulator
from steps import Step

KILLS = int(os.environ.get("CDR_IMPORTER_KILLS", "90"))
WORLDS = max(3, KILLS // 60)
WORKERS = (1, 2, 8)
KILLED = 0.6
CALLS_PER_FILE = 25
DOUBTFUL = ("uncertain", "sending")
AGENT = "+447700900101"
LONG_AGO = "2024-06-03 10:00:00"
SETTLED_AS = {"sent": "accepted", "close": "closed", "corrected": "accepted", "reopened": "uncertain"}
"""Where a word of a person leaves a call."""
OPTIONS = ("--max-errors", "90%")
MORE_OPTIONS = ((), (), (), ("--limit", "1"), ("--on-uncertain", "resend"), ("--batch-size", "1"))
FAULTS = (
    *(*USUAL, Fault(reset_after_reading=True, store=True), Fault(early_hints=True)),
    *(Fault.refusal("NO_PERMISSION", 403), Fault.login_page()),
)


class Operator(World):
    """A world whose operator does one command after the other, most of them killed, and goes by README."""

    def __init__(
        self,
        folder: Path,
        simulator: Simulator,
        server: ForkServer,
        *,
        seed: int = 0,
        workers: int = 1,
        faulty: bool = False,
    ) -> None:
        super().__init__(folder, simulator, server)
        self.chance = random.Random(seed)
        self.workers = workers
        self.is_faulty = faulty
        self.loses_ledgers = False
        self.killed: Counter[str] = Counter()
        self.problems: list[str] = []
        self.calls: set[str] = set()
        self._exports: list[Path] = []
        self._backups: dict[Path, set[str]] = {}  # evidence before it, by name
        self._killed_words: dict[str, str] = {}  # words that the ledger did not take; it may know them beside it
        self._forgotten: set[str] = set()
        self._scripted = 0
        self._seconds: dict[str, float] = {}
        self._dead, self._shelf = folder / "dead", folder / "backups"
        self._dead.mkdir()
        self._shelf.mkdir()
        simulator.latency_seconds = 0.004
        simulator.service.most_per_period = 10_000
        self.run("import", self.export(), workers=workers)

    # --- one command, killed or not --------------------------------------------------------------------------

    def step(self) -> None:
        """Do any command."""
        steps: dict[Callable[[], None], int] = {
            self.import_file: 7,
            self.deliver: 4,
            self.settle: 3,
            self.reopen: 1,
            self.purge: 2,
            self.forget: 2,
            self.back_up: 4,
            self.put_back: 4,
            partial(self.show, "answered"): 2,
            self.correct: 1,
            partial(self.show, "noanswer"): 1,
            self.retry_refused: 1,
            self.stop: 1,
            self.two_runs: 1,
        }
        self.chance.choices(list(steps), list(steps.values()))[0]()

    def moment(self, name: str) -> float:
        """Return after how many seconds a command is to be killed, so that most are."""
        return self.chance.random() * self._seconds.get(name, 0.2)

    def send_calls(
        self, command: str, *files: Path, killed: bool = True, options: tuple[str, ...] = (), at: At | None = None
    ) -> int:
        """Do one run that sends, and kill it at a random moment or a random step; ``at`` is another signal."""
        if self.is_faulty and len(self.simulator.arrivals) > self._scripted:
            in_order = self.chance.randrange(1, 16)
            self.simulator.script(ORDINARY.repeated(in_order), self.chance.choice(FAULTS))
            self._scripted = len(self.simulator.arrivals) + in_order
        before = ledger_of(self.ledger)[0]
        killed = killed and at is None
        if killed and self.chance.random() < 0.2:
            at = (self.chance.choice(list(Step)), self.chance.randrange(1, 4), signal.SIGKILL)
        run = self.start(command, *files, workers=self.workers, options=(*OPTIONS, *options), at=at)
        code = self._kill(run) if killed and at is None else self.finish(run)
        self._note(command, code)
        doubted = {call for call, held in before.items() if held.state in DOUBTFUL}
        doubtful = [held for call, held in ledger_of(self.ledger)[0].items() if call not in doubted]
        left = [held for held in doubtful if held.state == "sending"]
        unclear = [held for held in doubtful if held.state == "uncertain" and held.reason != "restored"]
        if len(left) > self.workers * (code < 0) or (unclear and not self.is_faulty):
            self.problems.append(f"{command}, {self.workers} workers, exit {code}: {left} in flight, {unclear}")
        return code

    def _kill(self, run: Started) -> int:
        """Kill a run at a random moment, or more often about a request of it."""
        requests = len(self.simulator.arrivals) + self.chance.randrange(1, CALLS_PER_FILE)
        if self.chance.random() < 0.3:
            return self.kill_after(run, self.moment(run.arguments[0]))
        while len(self.simulator.arrivals) < requests and is_alive(run.pid):
            time.sleep(0.002)
        return self.kill_after(run, self.chance.random() * 0.02)

    def upkeep(self, *arguments: str) -> tuple[dict[str, str], dict[str, str]]:
        """Do a command that puts no call in doubt; return the states before and after."""
        before = self.states()
        self._expect(self.quiet_command(*arguments), ExitCode.OK)
        after = self.states()
        doubted, doubtful = ({call for call in each if each[call] in DOUBTFUL} for each in (before, after))
        if not doubtful <= doubted:
            self.problems.append(f"{arguments} put in doubt: {doubtful - doubted}")
        return before, after

    def quiet_command(self, *arguments: str) -> int:
        """Do a command that sends nothing."""
        name = arguments[1] if arguments[0] == "ledger" else arguments[0]
        killed_after = self.moment(name) if self.chance.random() < KILLED else None
        posts = len(self.simulator.arrivals)
        code = self.other(*arguments, killed_after=killed_after)
        self._note(name, code)
        if len(self.simulator.arrivals) > posts:
            self.problems.append(f"{arguments}, exit {code}, sent something")
        return code

    def _note(self, name: str, code: int) -> None:
        # The moments of kills come later until commands end before them, whatever the machine's speed.
        self._seconds[name] = self._seconds.get(name, 0.2) * (1.05 if code < 0 else 0.8)
        if code < 0:
            self.killed[name] += 1
            self.simulator.wait_until_left()

    def _expect(self, code: int, *wanted: int) -> None:
        if code not in (-signal.SIGKILL, *wanted):
            self.problems.append(f"exit {code} where {wanted} was to come")

    # --- the commands ----------------------------------------------------------------------------------------

    def export(self) -> Path:
        """Have the telephone system write an export; one in five is of long ago."""
        numbers = range(len(self.calls), len(self.calls) + CALLS_PER_FILE)
        changes = {"start_time": LONG_AGO} if self.chance.random() < 0.2 else {}
        self._exports.append(self._file(numbers, **changes))
        self.calls |= {call for call, _ in self._inputs[self._exports[-1]].values()}
        return self._exports[-1]

    def _file(self, numbers: Iterable[int], **changes: str) -> Path:
        return self.add_file(f"day{len(self._inputs)}.csv", numbers, sender=AGENT, **changes)

    def _old(self) -> set[str]:
        """Return the calls of long ago."""
        return {call for file in self._exports for call, cells in self._inputs[file].values() if LONG_AGO in cells}

    def _options(self) -> tuple[str, ...]:
        """Return more options; nobody has calls sent again that an export showed attended since a backup."""
        chosen = self.chance.choice(MORE_OPTIONS)
        attended = {each.call_id for each in self.records if each.kind in ("attended", "forgotten")}
        doubtful = {*self.in_state("uncertain"), *self.in_state("sending")}
        return () if "resend" in chosen and attended & doubtful else chosen

    def import_file(self) -> None:
        """Import an export, most often a new one."""
        is_new = self.chance.random() < 0.8
        export = self.export() if is_new else self.chance.choice(self._exports[-4:])
        self.send_calls("import", export, options=self._options())

    def deliver(self) -> None:
        """Deliver what is left, if anything is."""
        if self.in_state("pending"):
            self.send_calls("deliver", options=self._options())

    def show(self, state: str) -> None:
        """Have an export show other content of calls that the ledger knows, and did not know for years."""
        calls = sorted(self.states().keys() - self._old())
        if numbers := [_digits(call) for call in self.chance.sample(calls, min(6, len(calls)))]:
            self.send_calls("import", self._file(numbers, state=state))

    def retry_refused(self) -> None:
        """Import an export again for the calls that were refused."""
        self.send_calls("import", self.chance.choice(self._exports[-4:]), options=("--retry-refused",))

    def stop(self) -> None:
        """Ask a run to stop at a step; nothing is cut by one signal."""
        code = self.send_calls("import", self.export(), at=(self.chance.choice(list(Step)), 1, signal.SIGTERM))
        if code < 0:
            self.problems.append(f"ended by signal {-code} that asked it to stop")

    def two_runs(self) -> None:
        """Begin a run while another is in the middle of something."""
        first = self.start("import", self.export(), workers=self.workers, options=OPTIONS)
        time.sleep(self.moment("import"))
        self.run("deliver", options=OPTIONS)
        self.finish(first)

    def correct(self) -> None:
        """Correct in Zoho a call that was attended after all, until the ledger reminds of it no more."""

        def reminders() -> list[str]:
            with open_reader(self.ledger) as reader:
                return reader.attended_since()

        for call_id in reminders()[:1]:
            self.upkeep("resolve", call_id, "--close", "--note", "corrected in Zoho")
            self._say_of([call_id], "corrected", [call_id] if call_id not in reminders() else [])

    def settle(self) -> None:
        """Look in Zoho for some uncertain calls, and settle those of one kind; a call given up stays so."""
        uncertain = self.in_state("uncertain")
        if not uncertain:
            return
        given_up = {record.call_id for record in self.records if record.kind in ("close", "forgotten")}
        in_zoho = set(self.stored())

        def found(call_id: str) -> str:
            return "close" if call_id in given_up else "sent" if call_id in in_zoho else "not_sent"

        kind = found(self.chance.choice(uncertain))
        calls = [call_id for call_id in uncertain if found(call_id) == kind][: self.chance.choice((1, 99, 99))]
        kind = kind if self.chance.random() < 0.8 else "close"
        flag = f"--{kind.replace('_', '-')}"
        before, after = self.upkeep("resolve", *calls, flag, "--note", "looked in Zoho")
        self._say_of(calls, kind, [call_id for call_id in calls if after[call_id] != before[call_id]])

    def reopen(self) -> None:
        """Take the decision on a call back."""
        if calls := [call_id for (call_id,) in self._asked("SELECT call_id FROM reopenable ORDER BY call_id")]:
            call_id = self.chance.choice(calls)
            self._expect(self.quiet_command("resolve", call_id, "--reopen"), ExitCode.UNCERTAIN)
            self._say_of([call_id], "reopened", [call_id] if call_id in self.in_state("uncertain") else [])

    def _say_of(self, calls: Iterable[str], kind: str, taken: Iterable[str]) -> None:
        """Note what a person said of calls, as far as the ledger took it before the command was killed."""
        self._say(kind, taken)
        self._corrected.update(taken if kind == "corrected" else ())
        for call_id in calls:
            self._killed_words[call_id] = kind
        for call_id in taken:
            del self._killed_words[call_id]

    def purge(self) -> None:
        """Let years pass for the settled calls of long ago, and for the runs that sent them, then purge."""
        old = self._old()
        # While another connection is open the last to write does not take the -wal file away.
        with closing(looking_on(self.ledger)) as other, closing(sqlite3.connect(self.ledger)) as connection:
            other.execute("SELECT 1 FROM calls").fetchall()
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            query = "UPDATE calls SET sent_at = ? WHERE call_id = ? AND sent_at != '' AND seq IS NULL"
            connection.executemany(query, [(LONG_AGO, call_id) for call_id in old])
            query = "UPDATE runs SET started_at = ? WHERE number IN (SELECT sent_run FROM calls WHERE sent_at = ?)"
            connection.execute(query, (LONG_AGO, LONG_AGO))
            connection.commit()
        before, after = self.upkeep("ledger", "purge")
        gone = before.keys() - after.keys()
        if not gone <= old:
            self.problems.append(f"purged though not old: {gone - old}")
        self._say("purged", gone)

    def forget(self) -> None:
        """Forget the number of a call that is open, if there is one."""
        waiting = self.in_state("pending") + self.in_state("uncertain")
        call_id = self.chance.choice(waiting or ["call00000"])
        self._forgotten.add(_number_of(call_id))
        before, _ = self.upkeep("ledger", "forget", "--number", _number_of(call_id))
        self._note_forgotten(before)

    def _note_forgotten(self, before: Mapping[str, str]) -> None:
        """Note the calls closed since ``before``, which has the state of each; one in doubt is given up by it."""
        closed = {call_id for call_id, state in self.states().items() if state == "closed" != before[call_id]}
        self._say("forgotten", closed)
        self._say("close", {call_id for call_id in closed if before[call_id] != "pending"})

    def back_up(self) -> None:
        """Back the ledger up, sometimes while a run goes on."""
        target = self._shelf / f"{self._started}.sqlite"
        before = {path.name for path in self._evidence()}
        if self.chance.random() < 0.4:
            run = self.start("import", self.export(), workers=self.workers, options=OPTIONS)
            time.sleep(self.moment("import") / 2)
            code = self.other("ledger", "backup", str(target), killed_after=self.moment("backup"))
            self._note("backup", code)
            self._note("import", self._kill(run))
        else:
            self.upkeep("ledger", "backup", str(target))
        if target.exists():
            self._backups[target] = before

    # --- a backup in the ledger's place ----------------------------------------------------------------------

    def _evidence(self) -> list[Path]:
        """Return all results, and what dead runs left that a ledger now lost would have completed."""
        return sorted([*self.folder.glob("results-*.csv"), *self._dead.glob("*.part")])

    def put_back(self) -> None:
        """Put a backup in the ledger's place as README says, and go on."""
        there = len(self._evidence())
        backups = [path for path, before in self._backups.items() if there - len(before) > 1]
        if not backups:
            return
        backup = self.chance.choice(backups[-3:])
        if not self.loses_ledgers or self.chance.random() < 0.4:  # the ledger completes the results of dead runs
            self._deliver_to_the_end()
        known, refused = {*self._content, *self.states()}, self.in_state("refused")
        held = dict.fromkeys(known, "") | {each.call_id: each.state for each in ledger_of(backup)[0].values()}
        shutil.copy(backup, self.ledger)
        self._expect(self.quiet_command("deliver"), ExitCode.CONFIGURATION)
        self._accept(self._backups[backup])
        self._say("retry", refused)
        self._check_words()
        self._note_forgotten(held)
        self._say("restored", known)
        self._doubted, self._marked = known, self._marks()
        self._deliver_to_the_end()
        moved = {part.rename(self._dead / part.name).name for part in self.folder.glob("results-*.part")}
        # A backup made during such a run has it still; its results are then what that ledger has of it, not whole.
        self._runs = [each for each in self._runs if f"{each[0].results.name}.part" not in moved]

    def _check_words(self) -> None:
        """Hold a ledger just accepted against the last word on each call; words of killed commands may count."""
        states = self.states()
        closes = {call_id for (call_id,) in self._asked("SELECT call_id FROM decisions WHERE decision = 'close'")}
        attended = {record.call_id for record in self.records if record.kind == "attended"}
        for call_id, kind in [*self._killed_words.items()]:
            is_known = states.get(call_id, "") == SETTLED_AS.get(kind) and (
                kind != "corrected" or call_id in closes
            )
            is_known &= kind != "close" or call_id not in attended  # else an export may have closed it
            self._say_of([call_id], kind, [call_id] if is_known else [])
        kinds = {*SETTLED_AS, "not_sent", "resend"}
        words = {record.call_id: record.kind for record in self.records if record.kind in kinds}
        for call_id, kind in words.items():
            is_kept = {
                "sent": states.get(call_id) == "accepted",
                "close": states.get(call_id) in ("closed", "accepted"),
                "corrected": call_id in closes,
            }
            is_taken_back = call_id in self._killed_words or _number_of(call_id) in self._forgotten
            if not is_kept.get(kind, True) and not is_taken_back:
                self.problems.append(f"{call_id} [{states.get(call_id)}] has lost the word {kind}")
        closed = {call_id for call_id, state in states.items() if state == "closed"}
        meant = {record.call_id for record in self.records if record.kind in ("close", "corrected", "attended")}
        if wrong := [each for each in closed - meant if _number_of(each) not in self._forgotten]:
            self.problems.append(f"closed by accept-restore, though nobody closed them: {wrong}")

    def _deliver_to_the_end(self) -> None:
        """Deliver again and again until a run ends by itself, with its results and those of dead runs."""
        code = -9
        while code == -9:
            code = self.send_calls("deliver", killed=self.chance.random() < 0.5)
        self._expect(code, *ENDED_WITH_RESULTS)

    def _accept(self, evidence_before: set[str]) -> None:
        results = [path for path in self._evidence() if path.name not in evidence_before]
        parts = sorted(self.folder.glob("results-*.part"))
        is_complete = results and not parts and not any(path.suffix == ".part" for path in results)
        flags = ["--complete"] if is_complete else []
        wanted = {int(ExitCode.OK), int(ExitCode.UNCERTAIN)}
        code = -9
        while code == -9:
            code = self.quiet_command("ledger", "accept-restore", *flags, *map(str, (*results, *parts)))
            self._expect(code, *wanted)
            wanted.add(int(ExitCode.USAGE))  # killed after it was done: there is nothing to accept

    # --- what it came to -------------------------------------------------------------------------------------

    def stored(self) -> Counter[str]:
        """Return how often the service took each call in."""
        return Counter(fields["id"] for fields in self.simulator.accepted)

    def twice(self) -> list[str]:
        """Return the calls that the service took in more often than they were sent on a person's word."""
        resent = Counter(record.call_id for record in self.records if record.kind == "resend")
        return [call_id for call_id, times in self.stored().items() if times > 1 + resent[call_id]]

    def lost(self) -> list[str]:
        """Import all exports once more, deliver, and return the calls that ended in no way that is allowed."""
        self.run("import", *self._exports, workers=self.workers, options=OPTIONS)
        self.deliver_all()
        last = self.start("import", *self._exports, options=(*OPTIONS, "--all-rows"))
        self.finish(last)
        states, stored = self.states(), self.stored()
        said: dict[str, set[str]] = {}
        for record in self.records:
            said.setdefault(record.call_id, set()).add(record.kind)
        is_purged = any("purged" in kinds for kinds in said.values())
        lost, missing = [], set(self.calls)
        for row in read_results(last.results):
            call_id, state = row["call_id"], states.get(row["call_id"], "")
            missing.discard(call_id)
            is_right = {
                "accepted": bool(stored[call_id]),
                "uncertain": True,
                "refused": True,
                "closed": bool({"close", "corrected", "forgotten", "attended"} & said.get(call_id, set())),
                "": (row["reason"] == "stale" and row["start_time"] == LONG_AGO and is_purged)
                or (row["reason"] == "forgotten" and _number_of(call_id) in self._forgotten),
            }
            if not is_right.get(state):
                lost.append(f"{call_id} [{state}] {row['outcome']} {row['reason']} {said.get(call_id)}")
        return lost + sorted(missing)

    def found(self) -> list[str]:
        """Return all that is wrong up to now."""
        return [*self.problems, *(f"{call_id} was taken in twice" for call_id in self.twice()), *self.breaches()]


def is_alive(pid: int) -> bool:
    """Say whether a process goes on; one that has ended is kept until it is waited for (Linux)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"


def _digits(call_id: str) -> int:
    return int(call_id.removeprefix("call"))


def _number_of(call_id: str) -> str:
    return call_row(_digits(call_id)).split(",")[4]


def kill_until(world: Operator, kills: int, *, loses_ledgers: bool = True) -> list[str]:
    """Kill so many commands; return what is wrong, as soon as something is."""
    checked = 0
    while sum(world.killed.values()) < kills:
        # Once a ledger was lost with what its dead runs left, most calls are in doubt and few are sent.
        world.loses_ledgers = loses_ledgers and sum(world.killed.values()) > kills / 2
        world.step()
        if world.problems or sum(world.killed.values()) >= checked + 10:
            checked = sum(world.killed.values())
            if found := world.found():
                return found
    return world.lost() + world.found()


@pytest.mark.fault(90)
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(WORLDS))
def test_kill_any_command(server: ForkServer, simulator: Simulator, tmp_path: Path, seed: int) -> None:
    """Whatever is killed when, and whichever backup is put back, no call is lost and none is sent twice."""
    world = Operator(
        tmp_path / "world", simulator, server, seed=seed, workers=WORKERS[seed % 3], faulty=bool(seed % 2)
    )
    found = kill_until(world, KILLS // WORLDS)
    print(f"seed {seed}: kills {dict(world.killed)}, calls {dict(Counter(world.states().values()))}")
    assert found == []


@pytest.mark.fault(90)
@pytest.mark.parametrize("is_corrected_first", [False, True])
def test_call_corrected_since_a_backup(
    server: ForkServer, simulator: Simulator, tmp_path: Path, is_corrected_first: bool
) -> None:
    """What was corrected, and said to be, is in conflict no more, whichever backup is put back."""
    world = Operator(tmp_path / "world", simulator, server)
    world.chance.random = lambda: 0.99  # type: ignore[method-assign]  # kills nothing
    late = world.add_file("late.csv", range(2), state="answered", sender=AGENT)
    world.run("import", late)
    for step in (world.correct, world.back_up) if is_corrected_first else (world.back_up, world.correct):
        step()
    world.import_file()
    world.import_file()
    world.put_back()
    again = world.start("import", late)
    world.finish(again)
    conflicts = [row["call_id"] for row in read_results(again.results)]
    assert (conflicts, world.found()) == (["call00001"], [])
