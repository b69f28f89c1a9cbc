"""What a person and cron see: help without weight, silence on success, progress on a terminal, orderly signals."""

import json
import os
import pwd
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from conftest import ROOT, AtTerminal, Program, Ran, call_row, cases, table, wait_until, write_export
from ledgers import make_waiting
from misbehaviour import Fault, Simulator

CASES = cases("cli")


@table(("arguments", "code", "reason"), CASES["errors"])
def test_errors_as_json(program: Program, arguments: tuple[str, ...], code: int, reason: str) -> None:
    """With --json an error before any run is one object on stdout, with exit, reason, message and hint."""
    ran = program(*arguments)
    found = json.loads(ran.stdout)
    assert (ran.code, found["exit"], found["reason"]) == (code, code, reason)
    assert (set(found), found["message"] in ran.stderr) == ({"exit", "reason", "message", "hint"}, True)


def test_errors_as_json_by_the_environment(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable of --json counts as what it says, as it does for a run."""
    for value, is_json in (("true", True), ("false", False), ("0", False)):
        monkeypatch.setenv("CDR_IMPORTER_JSON", value)
        assert bool(program("imprt").stdout) == is_json, value


def test_interrupted_while_it_loads(tmp_path: Path) -> None:
    """Ctrl-C before the libraries are there is one line and 130, as later."""
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    script = "from importer.__main__ import main\nmain()"  # as pip writes it
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    ran = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (130, "cdr-importer: interrupted\n")


@table(("words", "said"), CASES["slips"])
def test_slips_of_the_pen(program: Program, words: tuple[str, ...], said: str) -> None:
    """A slip is named with what is meant; an empty name is never the working folder."""
    ran = program(*words)
    assert (ran.code, said in ran.stderr) == (2, True)


def test_no_results_of_nothing(program: Program, tmp_path: Path) -> None:
    """Where an input could not be used and no row was read, no results file is left: the command runs again."""
    (tmp_path / "notes.csv").write_text("nothing of calls\n", encoding="utf-8")
    ran = program("check", "--results", tmp_path / "results.csv", tmp_path / "notes.csv")
    assert (ran.code, sorted(path.name for path in tmp_path.glob("*results*"))) == (65, [])
    assert ran.stderr.rstrip().endswith("results=")


def test_help_groups_the_options_of_import(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """The five options that everybody needs come first, and no heading has more than ten lines at 80 columns.

    Of `--ledger` it says that `check` has no default.
    """
    monkeypatch.setenv("COLUMNS", "80")
    sections = program("import", "--help").stdout.split("\n\n")[2:]
    groups = {name: lines for name, *lines in map(str.splitlines, sections)}
    needed = [line.split()[0] for line in groups["Needed by everybody:"]]
    assert needed == ["--timezone", "--country", "--agents", "--limit", "--sandbox"]
    headings = "Needed by everybody,Input,Calls,Policies,Sending,Ledger,Output,Account,Watching,Options"
    assert list(groups) == [f"{name}:" for name in headings.split(",")]
    assert max(map(len, groups.values())) <= 10
    assert [line.split()[0] for line in groups["Options:"]] == ["--config", "-h,"]
    assert "folder; `check`: none." in " ".join(" ".join(groups["Ledger:"]).split())


def test_formats_explains_one(program: Program) -> None:
    """`formats NAME` explains a format, and the list names it."""
    listed = program("formats").stdout
    for name in ("callnotify", "asterisk-csv", "3cx-cdr"):
        assert program("formats", name).stdout.startswith(f"{name}: ")
        assert re.search(rf"^{name} ", listed, re.MULTILINE)


def test_trouble_ends_with_the_summary_line(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A run that needs a person says why in its last line, even with --quiet."""
    path = write_export(tmp_path / "export.csv", [call_row(1), call_row(2, to="104")])
    ran = program("import", "--quiet", "--init-ledger", path)
    assert (ran.code, ran.stdout, ran.summary()["rows"], ran.summary()["exit"]) == (3, "", "2", "3")


def test_terminal_shows_progress_and_counts(at_terminal: AtTerminal, account: Simulator, tmp_path: Path) -> None:
    """On a terminal there is a line of progress, a table of counts and the summary line; with --quiet nothing."""
    make_waiting(tmp_path / "ledger.sqlite", 21)
    quiet = at_terminal(["deliver", "--quiet", "--limit", "1"])
    assert (quiet.finish(), quiet.shown, len(account.accepted)) == (0, "", 1)
    account.script(Fault(held=(released := threading.Event())))
    terminal = at_terminal(["deliver"])
    wait_until(lambda: len(account.arrivals) == 2)
    os.kill(terminal.process, signal.SIGUSR1)
    terminal.expect("\ncdr-importer: phase=sending")  # below the bar
    released.set()
    assert terminal.finish() == 0
    assert re.search(r"Sending: 20/20 calls \[\S+, uncertain=0, refused=0, accepted=20\]", terminal.shown)
    assert re.search(r"^accepted +20$", "\n".join(terminal.lines()), re.MULTILINE)
    assert "accepted=20" in terminal.shown.splitlines()[-1]


def test_typed_ahead_answers_nothing(
    at_terminal: AtTerminal, account: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Keys that were pressed before a question was shown are no answer to it."""
    monkeypatch.delenv("CDR_IMPORTER_YES")
    make_waiting(tmp_path / "ledger.sqlite", 1)
    terminal = at_terminal(["deliver"], typed_ahead="y")
    terminal.expect("About to notify 1 call to Zoho")
    terminal.expect("Send them? [y/N]: ")
    terminal.type("n")
    assert (terminal.finish(), account.arrivals) == (130, ())


def test_verbose_says_more(program: Program, tmp_path: Path) -> None:
    """-v tells how each file was understood, and the summary, even when all is well."""
    path = write_export(tmp_path / "calls.csv", [call_row(1)])
    ran = program("check", "-v", "--results", tmp_path / "results.csv", path)

    assert (ran.code, ran.stderr.splitlines()[0]) == (0, f"cdr-importer: {path}: format callnotify, utf-8, 1 row")
    assert ran.summary()["would_send"] == "1"


def test_what_could_not_be_used_comes_first(program: Program, tmp_path: Path) -> None:
    """Every file that could not be used is named, before all notes, which are cut; the same advice stands once."""
    missing = [tmp_path / f"{number}.csv" for number in range(12)]
    for number in range(11):
        (tmp_path / f"exports/folder{number:02}").mkdir(parents=True)
    write_export(tmp_path / "exports/day.csv", [call_row(1)])
    ran = program("check", "--results", tmp_path / "out.csv", tmp_path / "exports", *missing)
    said = ran.stderr.splitlines()
    assert said[:12] == [f"cdr-importer: input not found: {path}" for path in missing]
    assert said[12] == "  Check the path of the export."
    assert said[13].startswith(
        f"cdr-importer: 11 folders in {tmp_path / 'exports'} passed over: folder00, folder01,"
    )
    assert len(said) == 15
    again = [write_export(tmp_path / "day.csv", [call_row(1)])] * 20
    assert program("check", "--results", tmp_path / "new.csv", *again, missing[0]).stderr.count("twice") == 8


def test_error_that_stops_everything_at_a_terminal(at_terminal: AtTerminal, tmp_path: Path) -> None:
    """Its sentence and the advice are the last lines; the line for machines is for pipes."""
    write_export(tmp_path / "day.csv", [call_row(1)])
    terminal = at_terminal(["check", "--agents", "gone.csv", "day.csv"])
    assert terminal.finish() == 78
    assert terminal.shown.splitlines() == [
        "cdr-importer: agents file gone.csv cannot be read: No such file or directory",
        "  Check the path of --agents.",
    ]


def test_proxy_unused(
    program: Program, account: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy of the environment is said not to be used, without its password; a quiet night stays silent."""
    monkeypatch.setenv("HTTPS_PROXY", "http://ann:pw@127.0.0.1:9")
    said = "cdr-importer: HTTPS_PROXY is set, but not used: a proxy is used only when --proxy names it."
    good, bad = (
        write_export(tmp_path / "1.csv", [call_row(1)]),
        write_export(tmp_path / "2.csv", [call_row(2, to="1")]),
    )
    assert program("import", "--init-ledger", good) == Ran(0, "", "")
    assert program("import", bad).stderr.splitlines()[0] == said
    assert program("auth", "check").stderr.splitlines() == [said]
    assert "HTTPS_PROXY" not in program("import", "--proxy", "http://127.0.0.1:9", bad).stderr
    assert "HTTPS_PROXY" not in program("check", "--results", tmp_path / "r.csv", bad).stderr


def test_home_that_nothing_says(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home, in the environment or by the system, is told to set one: no bug of ours."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    ran = program("status")
    assert (ran.code, "Set HOME" in ran.stderr) == (78, True)
