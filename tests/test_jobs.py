"""Files prepared side by side: whatever the number of processes, a run says and does the same."""

import contextlib
import gzip
import multiprocessing
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from clusters import REASON, Cluster, cluster
from conftest import SAMPLES, call_row, read_results, sample_options, wait_until, write_export
from importer.cli.output import error_text
from importer.errors import ExitCode, ImporterError
from importer.files.export import named_files
from importer.formats.catalogue import load_catalogue
from importer.pipeline.run import Listener, Run
from importer.pipeline.stages import carry_out, check
from importer.prepare.cluster import installed, prepare_elsewhere, prepared_on
from importer.prepare.preparation import prepare_part
from importer.processes import Workers, working
from importer.reading.scanning import parts_of, text_blocks
from importer.settings.credentials import load_credentials
from importer.settings.loading import load_settings
from misbehaviour import Simulator
from samples import INPUTS, catalogue, detected, largest_of_each, plan_for

NOW = 1_830_000_000
LONGEST_SECONDS = 60
SLOW_CLUSTER = [pytest.mark.slow, pytest.mark.skipif(bool(REASON), reason=REASON)]


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
            event=lambda event: self.lines.append((event.name, event.level, dict(event.fields))),
        )

    def _rows(self, count: int) -> None:
        self.rows += [count] if count else []


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
        summary = check(run, named_files(paths))
    except ImporterError as error:
        return error_text(error), error.exit_code, told.lines
    counts = (summary.outcomes, summary.skipped, summary.rejected, summary.rows, summary.exit_code, summary.reason)
    results = folder / f"results-{jobs}.csv"
    written = results.read_bytes()
    results.unlink()
    return written, counts, told.lines


def groups() -> list[Any]:
    """Return samples by their zone: some of the most, and one of each format with -m slow."""
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for path in largest_of_each(INPUTS):
        options = sample_options(path)
        zone = options[options.index("--timezone") + 1] if "--timezone" in options else "its own"
        found[zone].append(path)
    few = pytest.param("America/New_York", found["America/New_York"][::16], id="few")
    return [few, *(pytest.param(*group, marks=pytest.mark.slow, id=group[0]) for group in found.items())]


@pytest.mark.parametrize(("zone", "paths"), groups())
def test_samples(zone: str, paths: list[Path], tmp_path: Path) -> None:
    """Samples of a zone together: two processes come to what one comes to, each of them read."""
    chosen = {"agents": str(SAMPLES / "agents.csv"), "default_agent_number": "+12125550100"}
    chosen["country"] = {"Europe/London": "GB", "Australia/Sydney": "AU"}.get(zone, "US")
    chosen |= {"timezone": zone} if zone != "its own" else {}
    alone = checked(tmp_path, 1, paths, **chosen)
    assert [path for path in paths if str(path).encode() not in alone[0]] == []  # type: ignore[operator]
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
    assert checked(tmp_path, 2, paths) == alone


@pytest.mark.slow
def test_zone_that_ids_contradict(tmp_path: Path) -> None:
    """A file whose ids prove another zone stops the run with the same words, whichever file it is."""
    wrong = Path(__file__).parent / "errors/timezone-contradicted.csv"
    paths = [shutil.copy(SAMPLES / "asterisk-csv/day.csv", tmp_path / "1.csv"), wrong]
    told = [checked(tmp_path, jobs, paths, timezone="Europe/Berlin", country="US") for jobs in (1, 2)]
    assert told[0] == told[1]
    assert told[0][1] is ExitCode.CONFIGURATION


@pytest.mark.parametrize("is_cluster", [False, pytest.param(True, marks=SLOW_CLUSTER)])
def test_workers_ask_the_ledger(
    account: Simulator, tmp_path: Path, is_cluster: bool, request: pytest.FixtureRequest
) -> None:
    """Where other processes than the one with the ledger read, a call that is now shown attended is found."""
    names = (
        "calldate,clid,src,dst,dcontext,channel,dstchannel,lastapp,lastdata,duration,billsec,disposition,uniqueid"
    )
    leg = "2026-11-25 09:41:00,201,201,+12125550141,from-internal,PJSIP/201-1,PJSIP/trunk-a-1,Dial,x,20,{},{},41.1"
    more = write_export(tmp_path / "more.csv", [call_row(1)])
    options: dict[str, object] = {"timezone": "America/New_York", "country": "US", "init_ledger": True}
    options |= {"default_agent_number": "+12125550101"}
    for jobs, said in ((1, "BUSY"), (2, "ANSWERED")):
        if is_cluster and jobs > 1:
            options["scheduler"] = request.getfixturevalue("two_workers").address
        export = tmp_path / f"{said}.csv"
        export.write_text("\n".join((names, leg.format(5 * jobs - 5, said), "")), encoding="utf-8")
        run = run_of(tmp_path, jobs, Listener(), **options)
        carry_out(run, named_files([export, more]), load_credentials(os.environ))
    outcomes = [(row["outcome"], row["reason"]) for row in read_results(tmp_path / "results-2.csv")]
    assert outcomes == [("conflict", "attended_since"), ("already_accepted", "")]


def test_large_file_is_cut(tmp_path: Path) -> None:
    """One file is read in parts by more than one process; where a cell goes on over a cut, as a whole."""
    plain = write_export(tmp_path / "plain.csv", map(call_row, range(300)))
    long = f'"{40 * chr(10)}"'
    quoted = write_export(tmp_path / "quoted.csv", (call_row(number, zohouser=long) for number in range(300, 399)))
    told = Told()
    alone = checked(tmp_path, 1, [plain, quoted])
    assert checked(tmp_path, 2, [plain, quoted], told, worker_bytes=3000) == alone
    assert (len(told.rows) > 3, told.rows.count(99), sum(told.rows)) == (True, 1, 399)


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

    with pytest.raises(ImporterError, match="a process that prepared files was killed or died") as died:
        check(run_of(tmp_path, 2, Listener(), interrupted=kill_one, worker_bytes=99), named_files(paths))
    assert died.value.reason == "worker_died"
    assert (died.value.exit_code, list(tmp_path.glob("results*"))) == (ExitCode.INTERNAL, [])
    wait_until(lambda: not multiprocessing.active_children())


@pytest.mark.slow
def test_worker_that_dies_before_it_is_asked() -> None:
    """A process that died before it was given anything to do ends the run in the same way."""
    ending = {child.pid for child in multiprocessing.active_children()}  # of runs before this one
    with pytest.raises(ImporterError, match="was killed or died"), working(2) as executor:
        assert executor is not None
        next(child for child in multiprocessing.active_children() if child.pid not in ending).kill()
        while True:
            time.sleep(0.02)  # CPython counts what waits without a lock when it ends a broken pool
            executor.submit(int)


def test_end_while_a_task_is_handed_over() -> None:
    """A run that breaks off while a task larger than a pipe, as with many agents, waits for a worker ends."""
    with pytest.raises(KeyError), working(2) as executor:
        assert executor is not None
        begun = [executor.submit(each, *of) for each, of in [(time.sleep, (9e9,)), (len, ("x" * 999_999,))] * 3]
        wait_until(begun[2].running)  # CPython calls one running that it hands over
        raise KeyError


@pytest.mark.slow
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


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_server_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that forks workers has loaded what they do, and ends with them: calls may be sent for hours."""
    folder = tempfile.mkdtemp()
    monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", folder)  # type: ignore[attr-defined]
    with working(2) as executor:
        assert executor is not None
        assert prepare_part.__module__ in executor.submit(eval, "[*__import__('sys').modules]").result()
        server = executor.submit(os.getppid).result()
        assert server != os.getpid()
    shutil.rmtree(folder)  # as the end of the program does
    wait_until(lambda: not Path(f"/proc/{server}").exists())


def test_server_that_cannot_begin(tmp_path: Path) -> None:
    """Where the path of its socket would be too long, there are no further processes, and no error."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    text = "from importer.processes import working\nwith working(2) as workers: print(workers)"
    environment = {**os.environ, "TMPDIR": str(folder)}
    ran = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == "None\n"


def processes_of(session: int) -> list[int]:
    """Return the processes of a session that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, own, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            found += [int(folder.name)] if int(own) == session and state != "Z" else []
    return sorted(found)


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
    """A signal to the program, all its processes or a worker: one message, none left; no other knows secrets."""
    lines = "".join(f"{call_row(number, zohouser='7')}\n" for number in range(10_000))
    for name in "ab":
        write_export(tmp_path / f"{name}.csv", [lines * (40_000_000 // len(lines))])
    command = [sys.executable, "-m", "importer", "check", "--jobs", "2", "--results", "r.csv", "a.csv", "b.csv"]
    streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "CDR_IMPORTER_CLIENT_SECRET": "planted"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **streams) as process:
        wait_until(lambda: len(processes_of(process.pid)) == 5)
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


def test_extra_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, --scheduler ends the run with the line that installs it."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    path = write_export(tmp_path / "a.csv", [call_row(1)])
    text, code, _ = checked(tmp_path, 1, [path], scheduler="tcp://127.0.0.1:9")
    assert (code, "pip install 'cdr-importer[cluster]'" in str(text)) == (ExitCode.CONFIGURATION, True)


def test_ledger_that_workers_do_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of which the ledger holds calls are prepared again with what it says, the others once."""
    monkeypatch.setenv("CDR_IMPORTER_CLIENT_SECRET", "planted")
    found, plan = detected(SAMPLES / "asterisk-csv/day.csv"), plan_for("asterisk-csv")
    prepare = partial(prepare_elsewhere, installed(), catalogue().causes, plan, None)
    tasks: list[object] = []
    for share in (1, 0):

        def held(call_ids: Sequence[str], share: int = share) -> Mapping[str, bool]:
            return dict.fromkeys([*call_ids][: share * len(call_ids)], True)

        with ThreadPoolExecutor(2) as pool:

            def submit(*task: Any, pool: ThreadPoolExecutor = pool) -> Any:
                tasks.append(task[1])
                sent = pickle.dumps(task)
                assert b"planted" not in sent
                return pool.submit(*pickle.loads(sent))

            ((_, future),) = prepared_on(Workers(submit, 2), prepare, held, [found], lambda: None)
        own = prepare_part(catalogue().causes, replace(plan, held=held), found)
        made = future.result()
        assert (made.index.tobytes(), made.spooled) == (own.index.tobytes(), own.spooled)
        assert own.index["held"].any() == bool(share)
    assert list(map(bool, tasks)) == [False, True, False]


def test_worker_of_other_versions() -> None:
    """A worker that came later, with other versions of what decides about outcomes, prepares nothing."""
    found, plan = detected(SAMPLES / "asterisk-csv/day.csv"), plan_for("asterisk-csv")
    with pytest.raises(ImporterError, match="other versions"):
        prepare_elsewhere({**installed(), "pandas": "0"}, catalogue().causes, plan, None, None, found)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Give a cluster of two workers."""
    with cluster(tmp_path_factory.mktemp("cluster") / "own", 2) as found:
        yield found


def exports_that_meet(folder: Path) -> list[Path]:
    """Write three exports of many parts with rows in common."""
    rows = [call_row(number, state="noanswer" if number % 3 else "busy") for number in range(400)]
    return [write_export(folder / f"{place}.csv", rows[place : 250 + place]) for place in (0, 40, 120)]


@pytest.mark.parametrize("number", [pytest.param(None, marks=SLOW_CLUSTER), pytest.param(9, marks=SLOW_CLUSTER)])
def test_cluster(
    number: int | None, tmp_path: Path, two_workers: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster comes to the bytes of one process, also when a worker is killed with SIGKILL in the middle."""
    monkeypatch.chdir(tmp_path)
    paths = [Path(path.name) for path in exports_that_meet(tmp_path)]
    alone, told = checked(tmp_path, 1, paths), Told()
    worker = two_workers.worker()

    def kill() -> None:
        if number is not None and told.rows:
            worker.kill()

    assert checked(tmp_path, 1, paths, told, scheduler=two_workers.address, interrupted=kill) == alone
    assert worker.poll() == (None if number is None else -9)
    worker.kill()


@pytest.mark.parametrize(
    "is_scheduler", [pytest.param(True, marks=SLOW_CLUSTER), pytest.param(False, marks=SLOW_CLUSTER)]
)
def test_cluster_that_is_lost(is_scheduler: bool, tmp_path: Path) -> None:
    """A task that ends worker after worker, and a scheduler that dies, end the run with nothing taken in."""
    paths = exports_that_meet(tmp_path)
    allowed = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    with cluster(tmp_path / "cluster", 2, **allowed) as found:
        told = Told()

        def kill() -> None:
            if told.rows:
                found.processes[0 if is_scheduler else 1].kill()

        options = {"scheduler": found.address, "interrupted": kill}
        with pytest.raises(ImporterError, match="killed or lost") as died:
            check(run_of(tmp_path, 1, told.listener(), **options), named_files(paths))
    assert (died.value.exit_code, list(tmp_path.glob("results*"))) == (ExitCode.INTERNAL, [])


def test_file_that_goes_while_others_are_read(tmp_path: Path) -> None:
    """A file that was removed since its detection, as by a rotation of logs, stops only itself (65)."""
    for jobs in (1, 2):
        paths = [write_export(tmp_path / f"{name}.csv", [call_row(1, id=name)]) for name in ("stays", "goes")]
        told = Told()
        listener = replace(told.listener(), rows=lambda _count, path=paths[1]: path.unlink(missing_ok=True))
        summary = check(run_of(tmp_path, jobs, listener, worker_bytes=50, max_gap=None), named_files(paths))
        assert (summary.rows, summary.exit_code) == (1, ExitCode.INPUT_UNUSABLE)
        assert "goes.csv changed while it was read" in str(told.lines)


@pytest.mark.slow
@pytest.mark.skipif(bool(REASON), reason=REASON)
def test_cluster_that_cannot_be_used(tmp_path: Path, two_workers: Cluster) -> None:
    """Where nothing answers, another kind of server does, or a worker has other versions, the run ends with 78."""
    path = write_export(tmp_path / "a.csv", [call_row(1)])
    with socket.create_server(("127.0.0.1", 0)) as dumb:
        for address in ("tcp://127.0.0.1:9", f"tcp://127.0.0.1:{dumb.getsockname()[1]}"):
            text, code, _ = checked(tmp_path, 1, [path], scheduler=address)
            fault = f"--scheduler {address}: no scheduler can be reached there', "  # and no words of Dask's
            assert (code, fault in str(text)) == (ExitCode.CONFIGURATION, True), text
    (tmp_path / "pandas-0.dist-info").mkdir()
    (tmp_path / "pandas-0.dist-info/METADATA").write_text("Name: pandas\nVersion: 0\n", encoding="utf-8")
    worker = two_workers.worker(PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    try:
        told: list[tuple[object, ...]] = []

        def is_refused() -> bool:
            told.append(checked(tmp_path, 1, [path], scheduler=two_workers.address))
            return told[-1][1] is ExitCode.CONFIGURATION

        wait_until(is_refused)
    finally:
        worker.kill()
        worker.wait()
    assert "has other versions: pandas 0 (here " in str(told[-1])


@pytest.mark.slow
@pytest.mark.skipif(bool(REASON), reason=REASON)
def test_file_that_no_worker_can_read(tmp_path: Path, two_workers: Cluster) -> None:
    """A path that leads nowhere for the workers is read here, and a note says so."""
    told = Told()
    with write_export(tmp_path / "a.csv", [call_row(1)]).open("rb") as opened:
        path = Path(f"/proc/self/fd/{opened.fileno()}")
        alone = checked(tmp_path, 1, [path])
        there = checked(tmp_path, 1, [path], told, scheduler=two_workers.address)
    note = next(line for line in told.lines if "was read here, since no worker could: " in str(line))
    told.lines.remove(note)
    assert there == alone


@pytest.mark.slow
@pytest.mark.skipif(bool(REASON), reason=REASON)
def test_signal_while_a_cluster_reads(tmp_path: Path, two_workers: Cluster) -> None:
    """A signal cancels what the cluster has begun; its workers then prepare the next run."""
    paths, told = exports_that_meet(tmp_path), Told()
    options = {"scheduler": two_workers.address}
    stop = checked(
        tmp_path, 1, paths, told, interrupted=lambda: ExitCode.TERMINATED if told.rows else None, **options
    )
    assert (stop[1], [*tmp_path.glob("results*")]) == (ExitCode.TERMINATED, [])
    assert checked(tmp_path, 1, paths, **options) == checked(tmp_path, 1, paths)
