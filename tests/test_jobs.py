"""Files prepared side by side: whatever the number of processes, a run says and does the same."""

import contextlib
import gzip
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import SAMPLES, call_row, read_results, sample_files, sample_options, write_export
from importer.cli.output import error_text
from importer.errors import ExitCode, ImporterError, InputUnusableError, WorkerDiedError
from importer.events import Event
from importer.formats import load_catalogue
from importer.pipeline import Listener, Run, check, import_calls
from importer.prepare import Preparation, prepare_part
from importer.prepare.workers import working
from importer.reading import parts_of
from importer.reading.blocks import text_blocks
from importer.settings import load_credentials, load_settings
from misbehaviour import Simulator
from samples import INPUTS, REPRESENTATIVES, Result, as_it_is, catalogue, detected, plan_for, sample_name

NOW = 1_830_000_000
LONGEST_SECONDS = 60


class Told:
    """What a run says, in its order, and the counts of rows by which it goes on."""

    def __init__(self) -> None:
        self.lines: list[object] = []
        self.rows: list[int] = []

    def listener(self) -> Listener:
        """Return the callbacks that keep it."""
        return Listener(
            rows=self._rows,
            note=self.lines.append,
            detail=self.lines.append,
            problem=lambda problem: self.lines.append((error_text(problem), problem.exit_code)),
            event=lambda event: self.lines.append(facts_of(event)),
        )

    def _rows(self, count: int) -> None:
        self.rows += [count] if count else []


def facts_of(event: Event) -> tuple[object, ...]:
    """Return what an event says."""
    return event.name, event.level, dict(event.fields)


def run_of(folder: Path, jobs: int, listener: Listener, **more: Any) -> Run:
    """Return a run that starts a process for every 4,000 bytes; ``more`` are options, and fields of a run."""
    own = {name: more.pop(name) for name in ("interrupted", "worker_bytes") if name in more}
    flags = {
        "results": str(folder / f"results-{jobs}.csv"),
        "jobs": str(jobs),
        "all_rows": True,
        "max_gap": "1h",
        **more,
    }
    settings = load_settings(flags, os.environ)
    return Run(settings, load_catalogue(), listener, "run", NOW, **{"worker_bytes": 4000, **own})


def checked(
    folder: Path, jobs: int, paths: Sequence[Path], told: Told | None = None, **options: Any
) -> tuple[object, ...]:
    """Return everything that `check` of these files comes to: results, counts, messages, or its error."""
    told = told or Told()
    run = run_of(folder, jobs, told.listener(), **options)
    try:
        summary = check(run, paths)
    except ImporterError as error:
        return error_text(error), error.exit_code, told.lines
    counts = (summary.outcomes, summary.skipped, summary.rejected, summary.rows, summary.exit_code, summary.reason)
    results = folder / f"results-{jobs}.csv"
    written = results.read_bytes()
    results.unlink()
    return written, counts, told.lines


def groups() -> list[Any]:
    """Return samples by the options they are read with: every fourth of the most, and all with -m slow."""
    found: defaultdict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path in sample_files():
        found[tuple(sample_options(path))].append(path)
    most = max(found, key=lambda options: len(found[options]))
    return [
        pytest.param(most, found[most][::4], id="few"),
        *(
            pytest.param(*group, marks=pytest.mark.slow, id=f"{number}")
            for number, group in enumerate(found.items())
        ),
    ]


@pytest.mark.parametrize(("options", "paths"), groups())
def test_samples(options: tuple[str, ...], paths: list[Path], tmp_path: Path) -> None:
    """Samples of the same options together: two processes come to what one comes to."""
    chosen = dict(zip((word.strip("-").replace("-", "_") for word in options[::2]), options[1::2], strict=True))
    alone = checked(tmp_path, 1, paths, **chosen)
    assert checked(tmp_path, 2, paths, **chosen) == alone


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    """A damaged file, a packed one, one twice and rows that meet across files: all as in one process."""
    rows = [call_row(number) for number in range(40)]
    first = write_export(tmp_path / "1.csv", rows[:20])
    damaged = write_export(tmp_path / "2.csv", [*rows[20:25], '"dialed,busy', *rows[25:30]])
    again = write_export(tmp_path / "3.csv", [*rows[10:30], call_row(31, state="noanswer"), call_row(32, to="12")])
    packed = tmp_path / "4.csv.gz"
    packed.write_bytes(gzip.compress(write_export(tmp_path / "4.csv", rows[15:]).read_bytes()))
    short = tmp_path / "5.csv"
    short.write_bytes(first.read_bytes()[:-9])
    paths = [first, damaged, again, packed, short, first]
    alone = checked(tmp_path, 1, paths)
    assert b"duplicate" in alone[0] and b"unfinished" in alone[0]  # type: ignore[operator]
    assert [checked(tmp_path, jobs, paths) for jobs in (2, 3)] == [alone] * 2


def test_zone_that_ids_contradict(tmp_path: Path) -> None:
    """A file whose ids prove another zone stops the run with the same words, whichever file it is."""
    wrong = Path(__file__).parent / "errors/timezone-contradicted.csv"
    paths = [shutil.copy(SAMPLES / "asterisk-csv/day.csv", tmp_path / "1.csv"), wrong]
    told = [checked(tmp_path, jobs, paths, timezone="Europe/Berlin", country="US") for jobs in (1, 2)]
    assert told[0] == told[1]
    assert told[0][1] is ExitCode.CONFIGURATION


def test_parts_prepared_elsewhere() -> None:
    """What other processes make of the parts of a file is what is made of it here, if each can be read so."""
    whole = set()
    for path in (each for each in INPUTS if sample_name(each) in REPRESENTATIVES):
        found, plan = detected(path), plan_for(path.parent.name)
        for part_bytes in (2000, 1 << 20):
            parts = [*parts_of(found, part_bytes)]
            work = [pickle.dumps((catalogue().causes, plan, part)) for part in parts]
            with Preparation(catalogue().causes, plan) as preparation:
                try:
                    first = [pickle.loads(pickle.dumps(prepare_part(*pickle.loads(each)))) for each in work]
                except InputUnusableError:
                    assert len(parts) > 1
                    continue
                roles = preparation.take(found, path.name, first)
                if roles is not None:
                    again = (prepare_part(*pickle.loads(each), roles) for each in work)
                    assert preparation.take(found, path.name, again, roles) is None
                listed = [each for batch in preparation.results() for each in batch]
                assert Result(preparation.rows, listed, preparation.skipped) == as_it_is(path), path
                whole.add((len(parts) > 1, roles is not None))
    assert whole == {(False, False), (False, True), (True, False), (True, True)}


def test_ledger_is_asked_by_workers(account: Simulator, tmp_path: Path) -> None:
    """Another process than the one that holds the ledger finds a call that is now shown attended."""
    names = (
        "calldate,clid,src,dst,dcontext,channel,dstchannel,lastapp,lastdata,duration,billsec,disposition,uniqueid"
    )
    leg = "2026-11-25 09:41:00,201,201,+12125550141,from-internal,PJSIP/201-1,PJSIP/trunk-a-1,Dial,x,20,{},{},41.1"
    more = write_export(tmp_path / "more.csv", [call_row(1)])
    options: dict[str, object] = {"timezone": "America/New_York", "country": "US", "init_ledger": True}
    options |= {"default_agent_number": "+12125550101"}
    for jobs, said in ((1, "BUSY"), (2, "ANSWERED")):
        export = tmp_path / f"{said}.csv"
        export.write_text("\n".join((names, leg.format(5 * jobs - 5, said), "")), encoding="utf-8")
        run = run_of(tmp_path, jobs, Listener(), **options)
        import_calls(run, [export, more], load_credentials(os.environ))
    outcomes = [(row["outcome"], row["reason"]) for row in read_results(tmp_path / "results-2.csv")]
    assert outcomes == [("conflict", "attended_since"), ("already_accepted", "")]


def test_large_file_is_cut(tmp_path: Path) -> None:
    """One file is read in parts by more than one process; where a cell goes on over a cut, as a whole."""
    plain = write_export(tmp_path / "plain.csv", map(call_row, range(300)))
    long = f'"{40 * chr(10)}"'
    quoted = write_export(tmp_path / "quoted.csv", (call_row(number, zohouser=long) for number in range(99)))
    for export, rows in ((plain, 300), (quoted, 99)):
        told = Told()
        alone = checked(tmp_path, 1, [export])
        assert checked(tmp_path, 2, [export], told, worker_bytes=3000) == alone
        assert (len(told.rows) > 2, sum(told.rows)) == (export == plain, rows)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "shift_jis"])
def test_parts_of_a_file(tmp_path: Path, line_end: str, encoding: str) -> None:
    """Parts are together the file, and each knows its first line; a file whose line ends are unclear is one."""
    export = write_export(tmp_path / "export.csv", [call_row(number) for number in range(200)])
    found = replace(detected(export), encoding=encoding)
    text = line_end.join(export.read_text(encoding="utf-8").split("\n"))
    export.write_bytes(text.encode(encoding))
    parts = [*parts_of(found, 2000)]
    assert (len(parts) > 2) is (line_end != "\r" and encoding in ("utf-8", "utf-8-sig", "cp1252"))
    blocks = ["".join(block.decode() for block in text_blocks(part.file, encoding)) for part in parts]
    assert "".join(blocks) == export.read_text(encoding=encoding)
    assert [part.file.first_line for part in parts] == [
        1 + "".join(blocks[:number]).count("\n") for number in range(len(parts))
    ]


def test_worker_that_is_killed(tmp_path: Path) -> None:
    """A process killed with SIGKILL ends the run as one error, with nothing left: no results, no process."""
    paths = [write_export(tmp_path / f"{name}.csv", [call_row(1)]) for name in "abc"]

    def kill_one() -> None:
        for child in multiprocessing.active_children()[:1]:
            child.kill()

    with pytest.raises(WorkerDiedError) as died:
        check(run_of(tmp_path, 2, Listener(), interrupted=kill_one, worker_bytes=99), paths)
    assert (died.value.exit_code, list(tmp_path.glob("results*"))) == (ExitCode.INTERNAL, [])
    wait_until(lambda: not multiprocessing.active_children())


def test_worker_that_dies_before_it_is_asked() -> None:
    """A process that died before it was given anything to do ends the run in the same way."""
    with pytest.raises(WorkerDiedError), working(2) as executor:
        assert executor is not None
        multiprocessing.active_children()[0].kill()
        while True:
            executor.submit(int)


def test_signals_while_workers_start() -> None:
    """A worker lives on whatever signal to all processes comes in while it starts: the program decides."""
    with working(2) as executor:
        assert executor is not None
        started = [executor.submit(os.getpid) for _ in range(4)]
        while not all(each.done() for each in started):
            for child in multiprocessing.active_children():
                for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                    os.kill(child.pid or 0, number)
            time.sleep(0.01)
        assert {each.result() for each in started} <= {child.pid for child in multiprocessing.active_children()}


def processes_of(session: int) -> list[int]:
    """Return the processes of a session that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, own, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            found += [int(folder.name)] if int(own) == session and state != "Z" else []
    return sorted(found)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for it, but not for ever."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize(
    ("number", "whom", "code"),
    [
        (signal.SIGTERM, "all", 143),
        pytest.param(signal.SIGINT, "first", 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "last", 70, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "first", -9, marks=pytest.mark.slow),
    ],
)
def test_signal_while_workers_read(tmp_path: Path, number: int, whom: str, code: int) -> None:
    """A signal to the program, to all of its processes or to one worker: one message, and no process is left.

    None but the program itself has its secrets in its environment.
    The processes are the program, two workers, and the tracker of what they share.
    """
    lines = "".join(f"{call_row(number, zohouser='7')}\n" for number in range(10_000))
    for name in "ab":
        write_export(tmp_path / f"{name}.csv", [lines * (40_000_000 // len(lines))])
    command = [sys.executable, "-m", "importer", "check", "--jobs", "2", "--results", "r.csv", "a.csv", "b.csv"]
    streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "CDR_IMPORTER_CLIENT_SECRET": "planted"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **streams) as process:
        wait_until(lambda: len(processes_of(process.pid)) == 4)
        others = processes_of(process.pid)
        knowing = [each for each in others if b"planted" in Path(f"/proc/{each}/environ").read_bytes()]
        assert knowing == [process.pid]
        for each in {"all": others, "first": [process.pid], "last": others[-1:]}[whom]:
            os.kill(each, number)
        try:
            _, errors = process.communicate(timeout=LONGEST_SECONDS)
        finally:
            process.kill()
    wait_until(lambda: not processes_of(process.pid))
    assert (process.returncode, (tmp_path / "r.csv").exists()) == (code, False)
    if code > 0:
        assert len(errors.splitlines()) == 3 and f"exit={code}" in errors.splitlines()[-1], errors
