"""A ledger of calls that wait to be sent, and whole runs of `deliver` on it, whose waits take no time."""

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from conftest import read_results
from importer.errors import ExitCode
from importer.formats.catalogue import load_catalogue
from importer.ledger.reader import open_reader
from importer.pipeline.run import Listener, Run, new_run_id
from importer.pipeline.stages import carry_out
from importer.records import RunSummary, Timeouts
from importer.settings.options import Settings
from importer.settings.values import Rate
from ledgers import make_waiting
from misbehaviour import Simulator
from runs import OwnTime, ledger_counts
from steps import Step, at_steps

LEDGER = "ledger.sqlite"
NOW_EPOCH_SECONDS = 1_772_463_600.0  # 2026-03-02 15:00:00 GMT
CATALOGUE = cache(load_catalogue)
PATIENT = Timeouts(connect_seconds=5, gap_seconds=5, deadline_seconds=10)


@dataclass(frozen=True)
class Ended:
    """How a run ended: its summary, the rows of its results, and what it told a person."""

    summary: RunSummary
    rows: list[dict[str, str]]
    notes: list[str]

    @property
    def code(self) -> int:
        """The exit code."""
        return int(self.summary.exit_code)

    @property
    def why(self) -> tuple[int, str]:
        """The exit code and its one word."""
        return self.code, self.summary.reason

    def reasons(self) -> set[str]:
        """Return the reasons of the rows that have one."""
        return {row["reason"] for row in self.rows} - {""}


@cache
def waiting(count: int) -> Mapping[str, bytes]:
    """Return the files of a ledger with so many calls pending."""
    with tempfile.TemporaryDirectory() as folder:
        make_waiting(Path(folder) / LEDGER, count, digits=3)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


class Night:
    """An account at an API of its own, with calls waiting; each run is a whole `deliver` with its own results.

    The API lives in the same time as the runs, whose wall clock may be ``ahead_seconds`` of it.
    """

    def __init__(self, folder: Path) -> None:
        self.time = OwnTime(wall_start=NOW_EPOCH_SECONDS)
        self.ahead_seconds = 0.0
        self.api = Simulator(clock=self.time, wall_clock=self.time.wall_clock)
        self.ledger = folder / LEDGER
        self._folder = folder
        self._count = 0
        self._runs = 0

    def take_in(self, count: int) -> None:
        """Make so many calls pending: call000 and so on."""
        for name, content in waiting(count).items():
            (self._folder / name).write_bytes(content)
            (self._folder / name).chmod(0o600)
        self._count = count

    def run(
        self,
        *,
        limits: Timeouts = PATIENT,
        step: Callable[[Step], object] | None = None,
        is_cut: Callable[[], bool] = lambda: False,
        **options: object,
    ) -> Ended:
        """Deliver what is pending; ``options`` are those of the command line.

        Whatever the fault, no call may be lost, none said to be other than the ledger knows, and nothing told
        that is a secret or a number.
        """
        notes: list[str] = []
        self._runs += 1
        results = self._folder / f"results-{self._runs}.csv"
        given: dict[str, object] = {"ledger": self.ledger, "results": results, "rate": Rate(1000, 1.0)}
        given |= {"accounts_url": self.api.base_url, "api_url": self.api.base_url}
        time = self.time

        def wall_clock() -> float:
            return time.wall_clock() + self.ahead_seconds

        run = Run(
            Settings(**(given | options)),  # type: ignore[arg-type]
            CATALOGUE(),
            Listener(note=notes.append),
            run_id=new_run_id(wall_clock()),
            now=wall_clock(),
            began=time(),
            interrupted=lambda: ExitCode.TERMINATED if is_cut() else None,
            is_cut=is_cut,
            limits=limits,
            clock=time,
            wall_clock=wall_clock,
            sleep=time.sleep,
            wait_for=time.wait_for,
        )
        with at_steps(step) if step else nullcontext():
            ended = Ended(carry_out(run, None, self.api.credentials), read_results(results), notes)
        states = self.states()
        assert (sum(states.values()), states.get("sending")) == (self._count, None)
        assert ended.summary.adds_up()
        with open_reader(self.ledger) as ledger:
            fates = ledger.fates([row["call_id"] for row in ended.rows])
        assert all(fates[row["call_id"]].state == row["outcome"] for row in ended.rows)
        assert not re.search(r"\+?[0-9]{10}|1000\.", " ".join(notes))
        return ended

    def states(self) -> dict[str, int]:
        """Return the ledger's calls by state, without empty ones."""
        return ledger_counts(self._folder)

    def posts(self) -> list[str]:
        """Return the ids of all whole requests at the API, in order."""
        return [arrival.fields["id"] for arrival in self.api.arrivals if arrival.complete]

    def taken_once(self) -> bool:
        """Say whether the API took no call in twice."""
        return max(Counter(call["id"] for call in self.api.accepted).values(), default=0) <= 1


def ids_in(received: bytes) -> list[str]:
    """Return the ids of the calls in what a server of bytes received, in order."""
    return re.findall(r"&id=(call[0-9]+)&", received.decode("latin-1"))
