"""What a run tells machines: its log, its metrics, its pings, and the alarms about its input."""

import os
import re
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from conftest import Program, Ran, Serve, call_row, cases, closed_port, read_results, table, write_export
from importer.client.connection import HttpClient
from importer.errors import ExitCode
from importer.ledger.reader import open_reader
from importer.prepare.plan import Gaps
from importer.records import Event, EventName, Level, Receipt, RunSummary, Timeouts, ignore
from importer.settings.options import Settings
from importer.settings.values import Rate
from importer.watching.metrics import METRICS, ping, write_metrics
from importer.watching.watch import LONGEST_LINE, LogFile, Watch, line_of
from ledgers import execute
from misbehaviour import ORDINARY, Fault, Simulator
from misbehaviour.connections import Peer, http_answer
from runs import OwnTime
from schemas.vocabulary import CallState, Outcome

CASES = cases("watching")

NOON = 1_772_452_800.4567
LINE = re.compile(
    r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARN|ERROR) run=\S+ ev=([a-z_.]+)( [a-z_]+=(\S+|".*"))*'
)


def export(tmp_path: Path, *rows: str) -> Path:
    """Return an export of these rows, of one good call without any."""
    return write_export(tmp_path / "export.csv", rows or (call_row(1),))


def lines_of(path: Path) -> list[str]:
    """Return the lines of a log, each checked for its form."""
    lines = path.read_text().splitlines()
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    return lines


def test_log_of_a_run(program: Program, account: Simulator, tmp_path: Path) -> None:
    """The log has start, each file, what was not accepted with its row, and counts; with -v each accepted call."""
    account.script(Fault.lost_answer(), Fault.refusal("INVALID_DATA"))
    path = export(tmp_path, *(call_row(number) for number in range(4)))
    program("import", "--init-ledger", "--log", tmp_path / "run.log", path)
    lines = lines_of(tmp_path / "run.log")
    assert [" ".join(re.findall(r"Z ([A-Z]+) .*? ev=(\S+)", line)[0]) for line in lines] == [
        "INFO run.started",
        "INFO file.read",
        "INFO calls.waiting",
        "INFO token.asked",
        "WARN call.uncertain",
        "WARN call.refused",
        "ERROR run.finished",
    ]
    uncertain, refused, end = lines[4:]
    assert "ref=call00000 file=export.csv line=2 attempt=1" in uncertain
    assert "phase=after_first_byte class=" in uncertain
    assert "line=3" in refused
    assert "http=400 code=INVALID_DATA" in refused
    assert "rows=4" in end
    assert "accepted=2" in end
    assert "exit=4 reason=uncertain" in end
    program("deliver", "-v", "--log", tmp_path / "run.log", "--on-uncertain", "resend")
    (line,) = [line for line in lines_of(tmp_path / "run.log") if "ev=call.accepted" in line]
    assert re.search(r"DEBUG .* http=200 code=SUCCESS ms=\d+$", line)


def test_log_has_the_reason_of_the_last_line(program: Program, account: Simulator, tmp_path: Path) -> None:
    """The log has the same word for a file that is not usable as the last line has for the run."""
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    ran = program("import", "--init-ledger", "--log", tmp_path / "run.log", tmp_path / "other.csv")
    lines = [line for line in lines_of(tmp_path / "run.log") if " reason=" in line]
    assert [re.findall(r" reason=(\S+)", line) for line in lines] == [[ran.summary()["reason"]]] * 2


def test_log_is_private_and_appended_to(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A new log is 0600; a log that is there keeps its lines and its mode."""
    log = tmp_path / "run.log"
    program("import", "--init-ledger", "--log", log, export(tmp_path))
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    log.chmod(0o640)
    before = log.read_text()
    program("deliver", "--log", log, "--results", tmp_path / "r.csv")
    assert log.read_text().startswith(before)
    assert len(lines_of(log)) > len(before.splitlines())
    assert stat.S_IMODE(log.stat().st_mode) == 0o640


def event(**fields: object) -> Event:
    """Return an event with these fields."""
    return Event(EventName.RUN_NOTE, Level.WARN, fields)


def log_line(**fields: object) -> str:
    """Return the line of an event with these fields that happened at noon."""
    return line_of(event(**fields), "r1", NOON)


def test_log_follows_rotation(tmp_path: Path) -> None:
    """A log renamed away, or deleted, goes on under its name, and takes no line once it is closed."""
    path = tmp_path / "run.log"
    log = LogFile(path, "r1", least=Level.INFO)
    log.write(event(text="one"))
    path.rename(tmp_path / "run.log.1")
    log.write(event(text="two"))
    path.unlink()
    log.write(event(text="three"))
    log.close()
    assert "text=one" in (tmp_path / "run.log.1").read_text()
    assert ("text=two" in path.read_text(), "text=three" in path.read_text()) == (False, True)
    path.unlink()
    log.write(event(text="late"))
    assert not path.exists()


def test_log_that_fails_later_stops_nothing(tmp_path: Path) -> None:
    """A log whose disk is full raises nothing and says that a line is lost."""
    log = LogFile(tmp_path / "run.log", "r1", least=Level.INFO)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log.stream.fileno())
    os.close(full)
    log.write(event(text="one"))
    log.write(event(text="two"))
    assert log.is_lost
    with suppress(OSError):
        log.close()


@table(("value", "written"), CASES["values"])
def test_log_line(value: str, written: str) -> None:
    """A short line of ASCII is moment, level, run, event and fields, of which no value can pass for another."""
    assert log_line(text=value) == f"2026-03-02T12:00:00.456Z WARN run=r1 ev=run.note text={written}"
    line = log_line(**{f"f{number}": "\u4e2d" * 500 for number in range(5)})
    assert (len(line), line.isascii()) == (LONGEST_LINE - 1, True)


def samples_of(path: Path) -> dict[str, float]:
    """Return a metrics file's samples by name and the value of the label of their own, if they have one."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(path.read_text()):
        for sample in family.samples:
            own = [value for name, value in sample.labels.items() if name not in ("command", "site")]
            key = " ".join([sample.name, *own])
            assert key not in found
            found[key] = sample.value
    return found


def test_metrics_of_a_run(program: Program, account: Simulator, tmp_path: Path) -> None:
    """The metrics have the run's times, exit code and counts and the ledger's; anybody may read them."""
    account.script(Fault.lost_answer())
    path = export(tmp_path, *(call_row(number) for number in range(3)))
    metrics = tmp_path / "cdr.prom"
    program("import", "--init-ledger", "--limit", "2", "--metrics", metrics, path)
    samples = samples_of(metrics)
    assert samples["cdr_importer_last_run_exit_code"] == 4
    assert samples["cdr_importer_last_run_rows"] == 3
    assert samples["cdr_importer_last_run_outcomes accepted"] == 1
    assert samples["cdr_importer_ledger_calls uncertain"] == 1
    assert samples["cdr_importer_ledger_calls pending"] == 1
    end = samples["cdr_importer_last_run_end_timestamp_seconds"]
    assert samples["cdr_importer_last_run_start_timestamp_seconds"] <= end
    assert samples["cdr_importer_last_complete_run_timestamp_seconds"] == end
    assert end - 60 < samples["cdr_importer_ledger_oldest_pending_timestamp_seconds"] <= end
    assert {name.split(" ")[0] for name in samples} == set(METRICS)
    assert stat.S_IMODE(metrics.stat().st_mode) == 0o644
    assert {each.suffix for each in tmp_path.iterdir() if "cdr.prom" in each.name} == {".prom"}


def metrics_in(path: Path, site: str, ended: float, last: RunSummary) -> str:
    """Return the metrics of an import as they stand in the file of this path, written over what it holds."""
    write_metrics(path, {"command": "import", "site": site}, last, (1.0, ended), {}, None)
    return path.read_text()


def summary(code: ExitCode, reason: str) -> RunSummary:
    """Return the summary of a run of one accepted call that ended so."""
    return RunSummary("r1", code, reason, 1, 0, {Outcome.ACCEPTED: 1})


@table(("code", "reason", "complete"), CASES["complete"])
def test_complete_run_is_carried_over(tmp_path: Path, code: int, reason: str, complete: bool) -> None:
    """The time of the last complete run stays while runs end early, for each command and site by itself."""
    path = tmp_path / "cdr.prom"
    metrics_in(path, "a", 1_700_000_000.25, summary(ExitCode.OK, "done"))
    name = "cdr_importer_last_complete_run_timestamp_seconds"
    second = metrics_in(path, "a", 1_800_000_000.25, summary(ExitCode(code), reason))
    moment = "1.80000000025e+09" if complete else "1.70000000025e+09"
    assert f'{name}{{command="import",site="a"}} {moment}\n' in second
    other = metrics_in(path, "b", 4.0, summary(ExitCode.LEDGER, "ledger"))
    assert f'{name}{{command="import",site="b"' not in other
    assert {line for line in second.splitlines() if "{" in line} < set(other.splitlines())


@table("before", ["{", '{"', "\0\n", 'x{a="', "x 1 2 3\n", f"{{}}\n{'x' * 99}"])
def test_file_that_holds_no_metrics_is_replaced(tmp_path: Path, before: str) -> None:
    """Whatever stands where the metrics go, nothing of it is taken over and nothing is raised."""
    (tmp_path / "cdr.prom").write_text(before)
    failed = summary(ExitCode.LEDGER, "ledger")
    found, made = (metrics_in(tmp_path / f"{name}.prom", "a", 4.0, failed) for name in ("cdr", "new"))
    assert found == made


@dataclass
class Switch:
    """A dead man's switch that remembers what it was told, and answers as scripted, then with 200."""

    url: str
    told: list[tuple[str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)


@pytest.fixture
def switch(serve: Serve) -> Switch:
    """Run a dead man's switch on loopback."""
    made = Switch("")

    def play(peer: Peer) -> None:
        while request := peer.read_request().decode():
            head, _, body = request.partition("\r\n\r\n")
            made.told.append((head.split(" ")[1], body))
            status = made.answers.pop(0) if made.answers else 200
            peer.send(http_answer(f"{status} Told", b"", Location="/elsewhere"))

    made.url = f"{serve(play).base_url}/ping/uuid"
    return made


@pytest.mark.fault(32)
def test_run_that_cannot_begin(program: Program, account: Simulator, tmp_path: Path, switch: Switch) -> None:
    """A run without a ledger makes none and tells 78, no rows, and why, to log, metrics and dead man's switch."""
    log, metrics = tmp_path / "run.log", tmp_path / "cdr.prom"
    ran = program("import", "--log", log, "--metrics", metrics, "--ping-url", switch.url, export(tmp_path))
    assert ("import --init-ledger" in ran.stderr, [*tmp_path.glob("ledger*")]) == (True, [])
    assert re.search(r"ERROR .* ev=run\.finished rows=0 .* exit=78 reason=no_ledger$", lines_of(log)[-1])
    samples = samples_of(metrics)
    assert samples["cdr_importer_last_run_exit_code"] == 78
    assert samples["cdr_importer_last_run_rows"] == 0
    assert switch.told[-1][0].startswith("/ping/uuid/78?rid=")
    assert " exit=78 reason=no_ledger run=" in switch.told[-1][1]


def test_watch_that_cannot_begin(program: Program, account: Simulator, tmp_path: Path, switch: Switch) -> None:
    """Where log or metrics cannot be, nothing is sent, and the dead man's switch gets the exit code (73)."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe")
    for option, place in (
        *product(("--log", "--metrics"), ("no/it", "folder", "pipe")),
        ("--log", "link"),
    ):
        options = [option, tmp_path / place, "--ping-url", switch.url]
        ran = program("import", "--init-ledger", *options, export(tmp_path))
        assert (ran.code, ran.summary()["exit"], ran.summary()["reason"]) == (73, "73", "cannot_create")
        assert (switch.told.pop()[0].split("?")[0], account.arrivals) == ("/ping/uuid/73", ())


def test_pings_of_a_run(program: Program, account: Simulator, tmp_path: Path, switch: Switch) -> None:
    """A run tells when it begins and its exit code when it ends, with the lines for a person and the counts."""
    path = export(tmp_path, call_row(1), call_row(2, to="104"), call_row(3))
    account.script(ORDINARY, Fault.refusal("INVALID_DATA"))
    program("import", "--init-ledger", "--ping-url", f"{switch.url}/?create=1", path)
    (start, nothing), (end, body) = switch.told
    assert (start.replace("start", "3"), nothing) == (end, "")
    assert re.fullmatch(r"/ping/uuid/3\?create=1&rid=[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", end)
    told, counts = body.splitlines()
    assert told == "cdr-importer: rejected: 1 short_number; refused: 1; the results say for each row what to do"
    assert re.fullmatch(r"rows=3 carried=0 accepted=1 .* exit=3 reason=refused run=\S+", counts)
    assert str(tmp_path) not in body


def test_ping_has_no_number(program: Program, account: Simulator, tmp_path: Path, switch: Switch) -> None:
    """A telephone number in the name of a file that cannot be used does not leave the machine."""
    path = tmp_path / "+447700900123 447700900456.csv"
    path.write_text("no export\n")
    ran = program("import", "--init-ledger", "--ping-url", switch.url, path)
    assert switch.told[-1][0].startswith("/ping/uuid/65?rid=")
    assert "(number) (number).csv" in switch.told[-1][1]
    assert re.search(r"[0-9]{9}", switch.told[-1][1]) is None
    assert "+447700900123" in ran.stderr


def test_ping_that_fails(program: Program, account: Simulator, tmp_path: Path, switch: Switch) -> None:
    """A switch that answers badly is tried once, and three times at the end; it may be missing too: still 0."""
    switch.answers = [500, 302, 500, 302]
    for url in (switch.url, f"http://127.0.0.1:{closed_port()}/x"):
        assert program("import", "--init-ledger", "--ping-url", url, export(tmp_path)) == Ran(0, "", "")
    assert [path.split("?")[0] for path, _ in switch.told] == ["/ping/uuid/start", *["/ping/uuid/0"] * 3]


def test_silent_switch_is_given_up() -> None:
    """A switch that takes the connection and says nothing costs no more than the ping's own time limit."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        limits = Timeouts(connect_seconds=0.1, gap_seconds=0.1, deadline_seconds=0.2)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        assert ping(HttpClient(limits=limits), url, "start") == "timeout"


def test_sandbox_is_no_night_job(program: Program, tmp_path: Path, switch: Switch) -> None:
    """A trial in the sandbox needs no credentials, leaves no ledger, and has neither pings nor metrics."""
    ledger = tmp_path / "ledger.sqlite"
    options = ["--ping-url", switch.url, "--metrics", tmp_path / "cdr.prom", "--results", tmp_path / "r.csv"]
    words = ("--sandbox", "--rate", "1000/second", "--ledger", ledger)
    assert program("import", *words, *options, export(tmp_path)) == Ran(0, "", "")
    assert {row["outcome"] for row in read_results(tmp_path / "r.csv")} == {"accepted"}
    assert (switch.told, (tmp_path / "cdr.prom").exists(), ledger.exists()) == ([], False, False)


def test_progress(tmp_path: Path) -> None:
    """Progress has phase, counts, rate, time left and what is uncertain; the log gets it every ten minutes."""
    time, log = OwnTime(), tmp_path / "run.log"
    watch = Watch(Settings(log=log), "import", "r1", note=ignore, clock=time)
    watch.begin()
    listener = watch.listener
    time.sleep(30)
    listener.rows(60_000)
    assert watch.progress() == {"phase": "reading", "done": 60_000, "per_minute": 120_000}
    listener.calls(100)
    assert watch.progress()["left"] == "unknown"
    slow = Watch(Settings(rate=Rate(4, 3600.0)), "import", "r2", note=ignore, clock=time)
    slow.listener.calls(9)
    slow.listener.receipt(Receipt("a", CallState.ACCEPTED))
    assert slow.progress()["left"] == timedelta(hours=2)
    for number in range(25):
        time.sleep(60)
        listener.receipt(Receipt(f"a{number}", [CallState.UNCERTAIN, CallState.ACCEPTED][number > 0]))
    watch.finish(summary(ExitCode.OK, "done"))
    assert [line.split("ev=")[1] for line in lines_of(log) if "run.progress" in line] == [
        "run.progress phase=sending done=10 per_minute=1 total=100 left=1:30:00 uncertain=1",
        "run.progress phase=sending done=20 per_minute=1 total=100 left=1:20:00 uncertain=1",
    ]


def test_fewer_rows_than_usual(program: Program, account: Simulator, tmp_path: Path) -> None:
    """--min-rows N%, from three complete imports of the site on, is a share of the median of the latest seven."""
    days = [write_export(tmp_path / f"{rows}.csv", map(call_row, range(rows))) for rows in (20, 10, 9, 3)]

    def run(path: Path, *options: str) -> Ran:
        return program("import", "--min-rows", "40%", *options, path)

    many, usual, fewer, few = days
    assert run(many, "--init-ledger").code == 0
    assert [run(path).code for path in (usual, few)] == [0, 0]
    ran = run(few)
    assert (ran.code, ran.summary()["reason"], len(account.accepted)) == (66, "too_few_rows", 20)
    said = "the input has 3 rows, --min-rows expects at least 4, 40% of 10, the median of 3 complete runs"
    assert said in ran.stderr
    dry = ("check", "--min-rows", "40%", "--results", tmp_path / "dry.csv")
    assert said in program(*dry, "--ledger", tmp_path / "ledger.sqlite", few).stderr
    assert run(fewer).code == 0
    assert "0 complete runs are too few to tell" in run(few, "--site", "other", "-v").stderr
    empty = write_export(tmp_path / "empty.csv", [])
    assert [program("import", *words, empty).code for words in ((), ("--min-rows", "1"))] == [0, 66]
    execute(tmp_path / "ledger.sqlite", "UPDATE runs SET summary = json_set(summary, '$.rows', 90)")
    for _ in range(4):
        assert program("import", few, "--min-rows", "3").code == 0
    assert run(few).code == 0  # four of the latest seven have three rows
    assert program("check", "--min-rows", "40%", "--results", tmp_path / "r.csv", few).code == 0


def test_no_calls(program: Program, account: Simulator, tmp_path: Path) -> None:
    """Where all of many rows are skipped, --min-rows N% is an alarm once runs had ten calls, else it is noted."""
    usual = write_export(tmp_path / "usual.csv", map(call_row, range(12)))
    other = [call_row(number, type="received") for number in range(60)]
    silent, short = (write_export(tmp_path / f"{len(rows)}.csv", rows) for rows in (other, other[:49]))
    said = "none of 60 rows is a call to be notified: 60 incoming"
    assert program("import", "--init-ledger", silent).stderr == ""  # cron would mail it
    assert said in program("import", "-v", silent).stderr
    assert [program("import", usual).code for _ in range(3)] == [0, 0, 0]
    ran = program("import", "--min-rows", "10%", silent)
    assert (ran.code, ran.summary()["reason"]) == (66, "no_calls")
    assert f"{said}; the median of 5 complete runs is 12" in ran.stderr
    again = program("check", "--min-rows", "10%", "--all-rows", "--ledger", tmp_path / "ledger.sqlite", silent)
    assert (again.code, again.summary()["reason"]) == (66, "no_calls")
    old = write_export(tmp_path / "old.csv", map(call_row, range(60)))
    for words in ((short,), ("--since", "1d", old)):
        assert program("import", "--min-rows", "10%", *words).code == 0


@given(st.lists(st.lists(st.integers(1, 200), max_size=8), min_size=1), st.integers(1, 20))
def test_gaps_of_any_starts(pieces: list[list[int]], most: int) -> None:
    """Whatever the pieces, the gaps are those of all starts in order."""
    found = Gaps(most)
    for piece in pieces:
        found.add(np.array(piece, dtype=np.int64))
    ordered = [*(sorted({start for piece in pieces for start in piece}) or [0]), 250]
    expected = [(one, next_one) for one, next_one in pairwise(ordered) if next_one - one > most]
    assert sorted(found.until(250)) == expected


def test_gap_in_rows(program: Program, account: Simulator, tmp_path: Path) -> None:
    """No row of any kind and file for longer than --max-gap ends with 66 gap_in_rows; what is there was sent."""
    now = datetime.now(UTC).replace(microsecond=0)

    def row(number: int, hours_ago: int, **changes: str) -> str:
        return call_row(number, start_time=f"{now - timedelta(hours=hours_ago):%Y-%m-%d %H:%M:%S}", **changes)

    first = write_export(tmp_path / "1.csv", [row(1, 70), row(2, 61), row(3, 20)])
    second = write_export(tmp_path / "2.csv", [row(4, 30), row(5, 11, type="received")])
    ran = program("import", "--init-ledger", "--max-gap", "20h", first, second)
    assert (ran.code, ran.summary()["reason"], len(account.accepted)) == (66, "gap_in_rows", 4)
    hole = " to ".join(f"{now - timedelta(hours=hours):%Y-%m-%d %H:%M:%S}" for hours in (61, 30))
    assert f"no row for 31.0 h, from {hole} GMT; --max-gap allows 20.0 h" in ran.stderr
    assert program("import", "--max-gap", "31h", first, second).code == 0
    ran = program("import", "--max-gap", "10h", first, second)
    assert "GMT, the longest of 2 gaps; --max-gap allows 10.0 h" in ran.stderr
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    ran = program("import", "--max-gap", "20h", "--min-rows", "1", tmp_path / "other.csv")
    assert (ran.code, "--max-gap" in ran.stderr) == (65, False)  # why nothing was read is known
    ran = program("import", "--max-gap", "20h", write_export(tmp_path / "empty.csv", []))
    assert "no row with a start that can be read; --max-gap allows 20.0 h" in ran.stderr


def test_input_too_old(program: Program, account: Simulator, tmp_path: Path) -> None:
    """When even the newest file is older than --max-age the run ends with 66 input_too_old; it was sent."""
    old, new = export(tmp_path), write_export(tmp_path / "new.csv", [call_row(2)])
    os.utime(old, (1, 1))
    ran = program("import", "--init-ledger", "--max-age", "1d", old)
    assert (ran.code, ran.summary()["reason"], len(account.accepted)) == (66, "input_too_old", 1)
    assert program("import", "--max-age", "26h", old, new).code == 0


def test_many_rejects(
    program: Program, account: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A larger share of rejected rows than --max-errors N% stops the run before anything is taken in (65)."""
    good = [call_row(number) for number in range(30)]
    path = export(tmp_path, *good, *(call_row(number, to="104") for number in range(30, 40)))
    ran = program("import", "--init-ledger", "--max-errors", "20%", path)
    assert (ran.code, account.arrivals) == (65, ())
    assert "10 of 40 rows that were not skipped are rejected (short_number 10)" in ran.stderr
    with open_reader(tmp_path / "ledger.sqlite") as ledger:
        assert sum(ledger.counts().values()) == 0
        assert '"reason": "too_many_rejects"' in (ledger.runs(1)[0].summary or "")
    assert not list(tmp_path.glob("*.results-*"))
    assert program("import", "--max-errors", "30%", path).code == 3
    assert program("import", "--max-errors", "5", path).code == 0  # told before
    monkeypatch.setenv("CDR_IMPORTER_MAX_ERRORS", "20%")
    ran = program("check", "--results", tmp_path / "r.csv", path)
    assert (ran.code, ran.summary()["reason"]) == (65, "too_many_rejects")
    assert sum(row["outcome"] == "rejected" for row in read_results(tmp_path / "r.csv")) == 10
