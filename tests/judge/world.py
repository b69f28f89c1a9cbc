"""One account, one ledger and many runs on it: drives the program and keeps what the judge wants to see."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest import PATIENCE_SECONDS, ROOT, call_row, read_results, write_export
from judge.checker import violations
from judge.history import CONTENT, Death, History, Post, Record, Results, Row, ledger_of, looking_on, posts_of
from misbehaviour import Simulator
from steps import Step

At = tuple[Step, int, int]
OUTCOME_OF_ATTENDED = {
    "accepted": "conflict",
    "uncertain": "uncertain",
    "sending": "uncertain",
    "pending": "skipped",
    "refused": "skipped",
}
"""What a row that shows a call attended comes to, by where the call stood before."""
ENDED_WITH_RESULTS = frozenset({0, 3, 4, 69, 76, 77})


class ForkServer(AbstractContextManager["ForkServer"]):
    """The fork server as a child process."""

    def __init__(self) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment = kept | {
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "judge.fork_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment,
        )
        self.threads = self._begun(ROOT)

    def _told(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the fork server died"
        return json.loads(line)

    def _begun(self, package_root: Path) -> list[str]:
        told = self._told()
        assert told["package"] == str(package_root / "importer"), told["package"]
        return list(told["threads"])

    @contextmanager
    def program_of(self, package_root: Path) -> Iterator[None]:
        """Run the program of another folder meanwhile."""
        self._tell(str(package_root))
        self._begun(package_root)
        try:
            yield
        finally:
            self._tell(None)

    def _tell(self, what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()

    def _asked(self, what: Mapping[str, object] | int) -> int:
        self._tell(what)
        return int(self._told())

    def start(self, job: Mapping[str, object]) -> int:
        """Begin a job; return its process id."""
        return self._asked(job)

    def wait(self, pid: int) -> int:
        """Return a job's exit code, negative for a signal."""
        return self._asked(pid)

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait(PATIENCE_SECONDS)
        self._process.stdout.close()  # type: ignore[union-attr]


@dataclass(frozen=True)
class Started:
    """One run under way; ``attended`` has call id and state of what its files show attended, by file and line."""

    number: int
    pid: int
    arguments: Sequence[str]
    files: Sequence[Path]
    workers: int
    moment: float
    results: Path
    resends_before: Mapping[str, int] = field(default_factory=dict)
    attended: Mapping[tuple[str, int], tuple[str, str]] = field(default_factory=dict)


class World:
    """One account with its ledger, and all that was ever done to it."""

    def __init__(self, folder: Path, simulator: Simulator, server: ForkServer) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.simulator = simulator
        self.ledger = folder / "ledger.sqlite"
        self.records: list[Record] = []
        self.deaths: list[Death] = []
        self.exit_codes: list[int] = []
        self.other_posts: list[Post] = []
        self._doubted: set[str] | None = None
        self._server = server
        self._runs: list[tuple[Started, int]] = []
        self._started = 0
        self._is_recovered = True
        self._inputs: dict[Path, dict[int, tuple[str, tuple[str, ...]]]] = {}
        self._content: dict[str, tuple[str, ...]] = {}
        self._attended: dict[Path, dict[int, str]] = {}
        self._marked: set[str] = set()
        self._corrected: set[str] = set()  # as far as the ledger in place can know
        self._left_uncertain: list[tuple[int, int]] = []

    # --- input ---------------------------------------------------------------------------------------------

    def add_file(self, name: str, calls: Iterable[int], **changes: str) -> Path:
        """Write an export with these calls; ``changes`` are cells other than usual."""
        rows = [call_row(number, **changes) for number in calls]
        path = write_export(self.folder / name, rows)
        inputs = self._inputs[path] = {}
        attended = self._attended[path] = {}
        for line, (_, state, call_id, *rest) in enumerate((row.split(",") for row in rows), start=2):
            if state == "answered":
                attended[line] = call_id
            else:
                inputs[line] = (call_id, (state, *rest[:3]))
        return path

    # --- runs ----------------------------------------------------------------------------------------------

    def start(
        self, command: str, *files: Path, workers: int = 1, options: Sequence[str] = (), at: At | None = None
    ) -> Started:
        """Begin `import` or `deliver`; ``at`` sends it a signal at the nth time of a step."""
        self._started += 1
        results = self.folder / f"results-{self._started:04}.csv"
        arguments = [command, *map(str, files), "--workers", str(workers), "--results", str(results), *options]
        if command == "import":
            arguments.append("--init-ledger")
        moment = time.monotonic()
        self._note_content(files, options, moment)
        before, attended = self._resends(), self._shown_attended(files)
        pid = self._begin(arguments, at)
        return Started(self._started, pid, arguments, files, workers, moment, results, before, attended)

    def _begin(self, arguments: Sequence[str], at: At | None = None) -> int:
        output = str(self.folder / f"output-{self._started:04}.txt")
        job = {"arguments": list(arguments), "environment": self.environment(arguments[0])}
        return self._server.start(job | {"folder": str(self.folder), "output": output, "at": at})

    def environment(self, command: str) -> dict[str, str]:
        """Return the variables that point a command at this account and ledger."""
        own = {"CDR_IMPORTER_LEDGER": str(self.ledger), "HOME": str(self.folder), "CDR_IMPORTER_YES": "true"}
        if command in ("import", "deliver"):
            own["CDR_IMPORTER_RATE"] = "100000/second"
        return self.simulator.environment() | own

    def finish(self, run: Started) -> int:
        """Wait for the end of a run and keep what it was; return its exit code, negative for a signal."""
        code = self._server.wait(run.pid)
        self._is_recovered = code >= 0
        if code < 0:  # killed, or ended by a second signal as it would be without us
            self.deaths.append(Death(time.monotonic(), run.workers))
        self.exit_codes.append(code)
        self._runs.append((run, code))
        self._left_uncertain.append((code, len(self.in_state("uncertain")) if self.ledger.exists() else 0))
        self._note_attended(run)
        for call_id, resends in self._resends().items():
            if resends > run.resends_before.get(call_id, 0) and "resend" in run.arguments:
                self.records.append(Record(run.moment, call_id, "resend"))
        self._note_doubts()
        return code

    def run(self, command: str, *files: Path, **more: Any) -> int:
        """Do one run to its end; see `start`."""
        return self.finish(self.start(command, *files, **more))

    def kill_after(self, run: Started, seconds: float) -> int:
        """Kill a run after so many seconds unless it ended before."""
        time.sleep(seconds)
        self.send(run, signal.SIGKILL)
        return self.finish(run)

    def send(self, run: Started, kind: int) -> None:
        """Send a run a signal; one that has ended is gone."""
        with suppress(ProcessLookupError):
            os.kill(run.pid, kind)

    def other(self, *arguments: str, killed_after: float | None = None) -> int:
        """Do any other command of the program; kill it after so many seconds unless it ended before."""
        self._started += 1
        pid = self._begin(arguments)
        if killed_after is not None:
            time.sleep(killed_after)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        code = self._server.wait(pid)
        if code < 0:  # none of these sends, so nothing was in flight
            self.deaths.append(Death(time.monotonic(), 0))
        self.exit_codes.append(code)
        return code

    def _say(self, kind: str, call_ids: Iterable[str]) -> None:
        self.records += [Record(time.monotonic(), call_id, kind) for call_id in sorted(call_ids)]

    # --- what the judge sees -------------------------------------------------------------------------------

    def _note_content(self, files: Sequence[Path], options: Sequence[str], moment: float) -> None:
        for file in files:
            for call_id, content in self._inputs[file].values():
                if self._content.setdefault(call_id, content) != content:
                    self.records.append(Record(moment, call_id, "new_content"))
                    self._content[call_id] = content
                if "--retry-refused" in options:
                    self.records.append(Record(moment, call_id, "retry"))

    def _shown_attended(self, files: Sequence[Path]) -> dict[tuple[str, int], tuple[str, str]]:
        """Return what the files show attended, with where the calls stand now; empty for those unknown."""
        shown = {(str(file), line): each for file in files for line, each in self._attended[file].items()}
        states = self.states() if shown and self.ledger.exists() else {}
        return {
            place: (call_id, "" if call_id in self._corrected else states.get(call_id, ""))
            for place, call_id in shown.items()
        }

    def _asked(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the ledger; one that is not there, or whose run was killed before it made tables, says nothing."""
        if not self.ledger.exists():
            return []
        with closing(looking_on(self.ledger)) as connection, suppress(sqlite3.OperationalError):
            return connection.execute(query).fetchall()
        return []

    def _marks(self) -> set[str]:
        return {call_id for (call_id,) in self._asked("SELECT call_id FROM calls WHERE attended_at != ''")}

    def _resends(self) -> dict[str, int]:
        return dict(self._asked("SELECT call_id, resends FROM calls WHERE resends > 0"))

    def _note_attended(self, run: Started) -> None:
        """Note what a run took in as attended; its results say it, or where it was killed, the ledger."""
        if not run.attended:
            return
        told = {call_id for call_id, state in run.attended.values() if state} if run.results.exists() else set()
        marks = self._marks()
        for call_id in sorted((told | marks) - self._marked):
            self.records.append(Record(run.moment, call_id, "attended"))
        self._marked |= told | marks

    def states(self) -> dict[str, str]:
        """Return the state of every call of the ledger."""
        return {call_id: held.state for call_id, held in ledger_of(self.ledger)[0].items()}

    def in_state(self, state: str) -> list[str]:
        """Return the calls in one state."""
        return sorted(call_id for call_id, held in self.states().items() if held == state)

    def _note_doubts(self) -> None:
        """Note calls that a run took in as doubtful, since they may have been sent after the backup."""
        if self._doubted is not None:
            held = ledger_of(self.ledger)[0].values()
            new = {call.call_id for call in held if call.reason == "restored"} - self._doubted
            self._doubted |= new
            self._say("restored", new)

    def _rows_of(self, run: Started) -> Iterator[Row]:
        """Yield the rows of a run's results."""
        for row in read_results(run.results):
            content = tuple(row[name] for name in CONTENT)
            yield Row(row["file"], int(row["line"] or 0), row["call_id"], row["outcome"], content)

    def history(self) -> History:
        """Return all that is known up to now."""
        ledger, integrity = ledger_of(self.ledger)
        staged, told = set(), []
        for run, code in self._runs:
            if not run.results.exists():
                if code in ENDED_WITH_RESULTS:
                    told.append(Results(str(run.number), [], [("any", 1)]))
                continue
            places = [(str(file), line) for file in run.files for line in self._inputs[file]]
            attended = {
                place: OUTCOME_OF_ATTENDED.get(state, "")
                for place, (_, state) in run.attended.items()
                if code >= 0 or state != "pending"  # killed before it was taken in, it is still pending
            }
            told.append(Results(str(run.number), list(self._rows_of(run)), places, attended))
            staged |= {row.call_id for row in told[-1].rows if row.outcome not in ("rejected", "skipped")}
        account = self.simulator.credentials
        return History(
            posts=[*posts_of(self.simulator.arrivals), *self.other_posts],
            ledger=ledger,
            records=self.records,
            results=told,
            deaths=self.deaths,
            integrity=integrity,
            is_recovered=self._is_recovered,
            staged=frozenset(staged),
            outputs={path.name: path.read_bytes() for path in self.folder.glob("output-*.txt")},
            files={path.name: path.read_bytes() for path in self.folder.glob("ledger.sqlite*")},
            canaries=[account.client_secret, account.refresh_token],
            numbers=sorted({number for content in self._content.values() for number in content[1:3]}),
            exit_codes=self.exit_codes,
            left_uncertain=self._left_uncertain,
        )

    def breaches(self) -> list[str]:
        """Return what the judge finds, and the parts of results that a run left behind."""
        found = violations(self.history())
        if self._is_recovered and self._runs and self._runs[-1][1] in ENDED_WITH_RESULTS:
            left = sorted(self.folder.glob("*.part"))
            found += [f"rule 6: {path.name} was left behind" for path in left]
        return found

    def deliver_all(self, most_runs: int = 40) -> None:
        """Deliver under an honest service until nothing is pending."""
        self.simulator.latency_seconds = 0.0
        for _ in range(most_runs):
            self.run("deliver")
            if not self.in_state("pending"):
                return
        raise AssertionError(f"{len(self.in_state('pending'))} calls stay pending, exit {self.exit_codes[-1]}")
