"""Any sequence of runs, faults, kills and an operator's commands: the judge finds nothing."""

import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from importer.errors import ExitCode
from judge.world import At, ForkServer, World
from misbehaviour import USUAL, Fault, Simulator
from steps import Step

EXAMPLES, STEPS = 25, 12
CALLS = st.lists(st.integers(0, 19), min_size=1, max_size=6, unique=True)
WORKERS = st.sampled_from((1, 1, 3))
COMMANDS = st.sampled_from(("import", "deliver"))
MORE_FAULTS = (Fault.expired_token(), Fault.refusal("NO_PERMISSION", 403), Fault.login_page())
FAULTS = st.sampled_from((*USUAL, *MORE_FAULTS, Fault(early_hints=True)))
OPTIONS = st.sampled_from(
    ((), (), (), ("--limit", "1"), ("--on-uncertain", "resend"), ("--batch-size", "1"), ("--retry-refused",))
)


class Machine(RuleBasedStateMachine):
    """One ledger and one account in the hands of cron, an operator and bad luck."""

    server: ClassVar[ForkServer]
    met: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begin(self) -> None:
        """Open an account and take the first calls in."""
        self.folder = Path(tempfile.mkdtemp(prefix="judge-"))
        self.simulator = Simulator()
        self.simulator.service.most_per_period = 10_000
        self.simulator.start()
        self.world = World(self.folder / "world", self.simulator, self.server)
        self.files = [self.world.add_file("first.csv", (0, 1, 2, 3))]
        self.fresh = iter(range(20, 99))
        self.world.run("import", self.files[0], options=("--limit", "2"))

    def teardown(self) -> None:
        """Deliver everything, judge once more, and clear away."""
        if not hasattr(self, "simulator"):
            return
        try:
            self.world.run("deliver")
            assert self.world.breaches() == []
        finally:
            self.met.update(record.kind for record in self.world.records)
            self.met.update(f"exit {code}" for code in self.world.exit_codes)
            self.simulator.stop()
            shutil.rmtree(self.folder)

    def words(self, command: str, options: tuple[str, ...]) -> tuple[list[Path], tuple[str, ...]]:
        """Return files and options that the command takes."""
        if command == "import":
            return [self.files[-1]], options
        return [], () if "--retry-refused" in options else options

    @rule(numbers=CALLS, state=st.sampled_from(("busy", "busy", "noanswer", "answered")))
    def add_file(self, numbers: list[int], state: str) -> None:
        """Have the telephone system write another export, of calls that are new, known, changed or attended."""
        self.files.append(self.world.add_file(f"{len(self.files)}.csv", numbers, state=state))

    @rule(command=COMMANDS, workers=WORKERS, options=OPTIONS)
    def run(self, command: str, workers: int, options: tuple[str, ...], at: At | None = None) -> None:
        """Do one run."""
        files, words = self.words(command, options)
        self.world.run(command, *files, workers=workers, options=words, at=at)

    @rule(command=COMMANDS, workers=WORKERS, faults=st.lists(FAULTS, min_size=1, max_size=3))
    def run_with_faults(self, command: str, workers: int, faults: list[Fault]) -> None:
        """Do one run while the service misbehaves."""
        self.simulator.script(*faults)
        self.run(command, workers, ())

    @rule(command=COMMANDS, workers=WORKERS, step=st.sampled_from(Step), number=st.sampled_from((1, 1, 2, 3)))
    def kill_at_step(self, command: str, workers: int, step: Step, number: int) -> None:
        """Kill one run at a step."""
        self.run(command, workers, (), at=(step, number, signal.SIGKILL))

    @rule(command=COMMANDS, seconds=st.floats(0, 0.2))
    def kill_at_random(self, command: str, seconds: float) -> None:
        """Kill one run after a while."""
        self.world.kill_after(self.world.start(command, *self.words(command, ())[0], workers=3), seconds)

    @rule(command=COMMANDS, workers=WORKERS, step=st.sampled_from(Step))
    def stop_at_step(self, command: str, workers: int, step: Step) -> None:
        """Ask one run to stop at a step; nothing is cut by one signal."""
        self.run(command, workers, (), at=(step, 1, signal.SIGTERM))
        assert self.world.exit_codes[-1] >= 0

    @rule()
    def two_runs(self) -> None:
        """Begin a run while another is in the middle of something."""
        self.simulator.latency_seconds = 0.1
        first = self.world.start("import", self.files[-1])
        time.sleep(0.15)
        self.world.run("deliver")
        self.world.finish(first)
        self.simulator.latency_seconds = 0.0

    @rule(decision=st.sampled_from(("sent", "not_sent", "close")))
    def resolve(self, decision: str) -> None:
        """Settle the latest uncertain call; lose an answer first where there is none."""
        if not self.world.in_state("uncertain"):
            self.simulator.script(Fault.lost_answer())
            self.import_new(1)
        waiting = self.world.in_state("uncertain")
        if waiting:
            assert self.world.resolve(waiting[-1], decision) == ExitCode.OK

    @rule(option=st.sampled_from(("--retry-refused", "--yes")))
    def show_attended(self, option: str) -> None:
        """Have an export show attended what an earlier one showed busy, sent or not, and import both again."""
        numbers = [number for number in range(20) if f"call{number:05}" in self.world.states()]
        if numbers:
            for state in ("answered", "busy"):
                self.files.append(self.world.add_file(f"{len(self.files)}.csv", numbers[:6], state=state))
                self.world.run("import", self.files[-1], options=(option,))

    @rule()
    def correct(self) -> None:
        """Correct a call in Zoho that was attended after all; have one shown so first where there is none."""
        if not self.world.reminders():
            self.show_attended("--yes")
        for call_id in self.world.reminders()[:1]:
            assert self.world.correct(call_id) == ExitCode.OK

    def import_new(self, count: int, *options: str) -> None:
        """Import so many calls that were never seen."""
        numbers = [next(self.fresh) for _ in range(count)]
        self.files.append(self.world.add_file(f"{len(self.files)}.csv", numbers))
        self.world.run("import", self.files[-1], options=options)

    @rule(older_than=st.sampled_from(("2026-01-01 00:00:00", "2026-01-01 00:00:00", "2100-01-01 00:00:00")))
    def purge(self, older_than: str) -> None:
        """Purge old calls."""
        self.world.purge(older_than)

    @rule()
    def forget(self) -> None:
        """Forget the customer of a call that waits; leave one waiting first where there is none."""
        if not self.waiting():
            self.import_new(2, "--limit", "1")
        if self.waiting():
            self.world.forget(int(self.waiting()[-1].removeprefix("call")))

    def waiting(self) -> list[str]:
        """Return the calls that wait for sending or for a person."""
        return self.world.in_state("pending") + self.world.in_state("uncertain")

    @rule(command=COMMANDS, is_killed=st.booleans(), forgets=st.booleans())
    def restore(self, command: str, is_killed: bool, forgets: bool) -> None:
        """Back the ledger up, go on, then put the backup in the ledger's place and accept it."""
        backup = self.world.backup()
        if forgets:
            self.forget()
        self.run(command, 1, (), at=(Step.ANSWERED, 1, signal.SIGKILL) if is_killed else None)
        self.world.restore(backup)

    @invariant()
    def nothing_is_wrong(self) -> None:
        """Let the judge look."""
        if hasattr(self, "world"):
            assert self.world.breaches() == []


@pytest.mark.slow
def test_every_event(server: ForkServer) -> None:
    """Played one after the other, every event that generated sequences meet by chance only breaks no rule."""
    Machine.server = server
    Machine.met.clear()
    machine = Machine()  # type: ignore[no-untyped-call]
    machine.begin()
    events = (
        lambda: machine.kill_at_step("deliver", 1, Step.ANSWERED, 1),
        lambda: machine.resolve("sent"),
        lambda: machine.resolve("not_sent"),
        lambda: machine.resolve("close"),
        lambda: machine.show_attended("--yes"),
        machine.correct,
        machine.forget,
        lambda: machine.restore("deliver", False, False),
        lambda: machine.purge("2100-01-01 00:00:00"),
    )
    for event in events:
        event()
        machine.nothing_is_wrong()
    machine.teardown()
    wanted = {"exit -9", "sent", "not_sent", "close", "attended", "corrected", "forgotten", "restored", "purged"}
    assert wanted <= set(machine.met)


@pytest.mark.slow
def test_any_sequence(server: ForkServer) -> None:
    """No sequence of runs, faults, kills and commands breaks a rule of delivery."""
    Machine.server = server
    began = time.monotonic()
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            # Shrinking would play a failing sequence hundreds of times, a second for each step.
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        ),
    )
    told = ", ".join(f"{name}: {times}" for name, times in sorted(Machine.met.items()))
    print(f"{EXAMPLES} examples of up to {STEPS} steps in {time.monotonic() - began:.0f} s; {told}")
